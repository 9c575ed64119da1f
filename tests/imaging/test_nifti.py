"""NIfTI files: both placements kept, every kind of file read, damaged headers refused."""

import gzip

import nibabel
import numpy as np
import pytest
import SimpleITK as sitk

from litemedsam_jax.imaging.nifti import read_nifti, write_nifti
from litemedsam_jax.imaging.volumes import read_labels, read_volume, write_volume

_AFFINE = np.array([[-1.0, 0, 0, 42], [0, -1.25, 0, 27], [0, 0, 5, 3], [0, 0, 0, 1]])


@pytest.fixture
def values() -> np.ndarray:
    """(x, y, z) = (7, 6, 4)."""
    return np.random.default_rng(0).integers(-1000, 1000, (7, 6, 4)).astype(np.int16)


def _image(values, affine=_AFFINE, kind=nibabel.Nifti1Image, sform=2, qform=0, q_affine=None):
    image = kind(values, affine)
    image.header.set_xyzt_units("mm")
    image.set_sform(affine, sform)
    image.set_qform(affine if q_affine is None else q_affine, qform)
    return image


def _round_trip(path):
    volume = read_volume(path)
    labels = np.arange(volume.array.size, dtype=np.uint8).reshape(volume.array.shape)
    out = path.with_name("out.nii.gz")
    write_volume(out, labels, volume.geometry)
    np.testing.assert_array_equal(np.asarray(nibabel.load(out).dataobj).T, labels)
    np.testing.assert_array_equal(read_labels(out).array, labels)
    return nibabel.load(out).header


def test_differing_sform_and_qform_are_both_kept_and_the_sform_places(tmp_path, values):
    moved = _AFFINE.copy()
    moved[:3, 3] -= (10, -5, 3)
    _image(values, sform=2, qform=1, q_affine=moved).to_filename(tmp_path / "x.nii.gz")
    volume = read_volume(tmp_path / "x.nii.gz")
    assert volume.geometry.origin == (-42, -27, 3)
    assert "differ by up to 10 mm; the sform counts" in volume.notes[0]
    header = _round_trip(tmp_path / "x.nii.gz")
    np.testing.assert_array_equal(header.get_sform(), _AFFINE)
    np.testing.assert_allclose(header.get_qform(), moved, atol=1e-5)
    assert (int(header["sform_code"]), int(header["qform_code"])) == (2, 1)


def test_a_mask_that_carries_the_qform_alone_finds_its_image(tmp_path, values):
    """As SimpleITK writes it for an image whose qform it prefers."""
    from litemedsam_jax.imaging.volumes import place_labels

    moved = _AFFINE.copy()
    moved[:3, 3] -= (10, -6, 5)  # whole voxels: the lattices coincide
    _image(values, sform=2, qform=1, q_affine=moved).to_filename(tmp_path / "x.nii")
    marked = np.zeros(values.shape, np.uint8)
    marked[2, 3, 1] = 1
    _image(marked, moved, sform=1, qform=1).to_filename(tmp_path / "mask.nii")
    target = read_volume(tmp_path / "x.nii").geometry
    placed = place_labels(read_labels(tmp_path / "mask.nii"), target, "mask")
    assert np.argwhere(placed).tolist() == [[1, 3, 2]]


@pytest.mark.parametrize("turn", [0.0, 0.3])
def test_a_volume_lies_where_simpleitk_puts_it(tmp_path, values, turn):
    cosine, sine = np.cos(turn), np.sin(turn)
    affine = np.eye(4)
    affine[:3, :3] = [[-cosine, 1.5 * sine, 0], [sine, 1.5 * cosine, 0], [0, 0, 3]]
    affine[:3, 3] = 4, 5, 6
    _image(values, affine, sform=1, qform=1).to_filename(tmp_path / "x.nii.gz")
    expected = sitk.ReadImage(str(tmp_path / "x.nii.gz"))
    geometry = read_volume(tmp_path / "x.nii.gz").geometry
    there = geometry.to_points(np.array([[6, 5, 3]]))[0]
    np.testing.assert_allclose(there, expected.TransformIndexToPhysicalPoint((6, 5, 3)), atol=1e-4)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("dtype", ["<i2", ">i2", "<u2", "<f8", ">f4", "<i8"])
def test_both_versions_and_byte_orders(tmp_path, values, kind, dtype):
    values = np.abs(values) if dtype == "<u2" else values
    image = kind(values.astype(dtype), _AFFINE, dtype=dtype)
    if dtype[0] == ">":
        image = kind(values.astype(dtype), _AFFINE, kind.header_class(endianness=">"))
    image.to_filename(tmp_path / "x.nii")
    np.testing.assert_array_equal(read_volume(tmp_path / "x.nii").array, values.T)
    header = _round_trip(tmp_path / "x.nii")
    assert isinstance(header, kind.header_class)
    np.testing.assert_allclose(header.get_sform(), _AFFINE)


def test_packed_under_the_wrong_name(tmp_path, values):
    _image(values).to_filename(tmp_path / "x.nii")
    (tmp_path / "gz.nii").write_bytes(gzip.compress((tmp_path / "x.nii").read_bytes()))
    (tmp_path / "plain.nii.gz").write_bytes((tmp_path / "x.nii").read_bytes())
    for name in ("gz.nii", "plain.nii.gz"):
        np.testing.assert_array_equal(read_volume(tmp_path / name).array, values.T)


def test_a_pair_of_header_and_values(tmp_path, values):
    from litemedsam_jax.imaging.file_kinds import cases_in

    nibabel.Nifti1Pair(values, _AFFINE).to_filename(tmp_path / "x.img")
    for name in ("x.hdr", "x.img"):
        np.testing.assert_array_equal(read_volume(tmp_path / name).array, values.T)
    assert cases_in(tmp_path) == [tmp_path / "x.hdr"]
    np.testing.assert_array_equal(_round_trip(tmp_path / "x.hdr").get_sform(), _AFFINE)
    (tmp_path / "x.img").unlink()
    with pytest.raises(ValueError, match=r"its other half, x\.img"):
        read_volume(tmp_path / "x.hdr")


def test_a_slight_shear_is_kept_exactly_and_a_larger_one_refused(tmp_path, values):
    slight, strong = _AFFINE.copy(), _AFFINE.copy()
    slight[1, 2], strong[1, 2] = 5 * 2e-4, 1.0
    _image(values, slight, sform=1).to_filename(tmp_path / "slight.nii")
    np.testing.assert_array_equal(
        _round_trip(tmp_path / "slight.nii").get_sform()[1, 2], np.float32(1e-3)
    )
    _image(values, strong, sform=1).to_filename(tmp_path / "strong.nii")
    with pytest.raises(ValueError, match=r"sheared \(its axes are 11 degrees.*resample_to_output"):
        read_volume(tmp_path / "strong.nii")
    _image(values, strong, sform=1, qform=1, q_affine=_AFFINE).to_filename(tmp_path / "q.nii")
    volume = read_volume(tmp_path / "q.nii")
    assert volume.geometry.origin == (-42, -27, 3) and "the qform counts" in volume.notes[0]
    np.testing.assert_array_equal(_round_trip(tmp_path / "q.nii").get_sform(), strong)


def _with_field(path, name, value):
    """The file with one field of its header changed."""
    header = nibabel.Nifti1Header(path.read_bytes()[:348], check=False)
    header[name] = value
    path.write_bytes(header.binaryblock + path.read_bytes()[348:])


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("vox_offset", np.inf, "values begin at byte inf"),
        ("vox_offset", np.nan, "values begin at byte nan"),
        ("vox_offset", -400, "values begin at byte -400"),
        ("vox_offset", 400.5, "values begin at byte 400.5"),
        ("vox_offset", 1e9, "is truncated"),
        ("dim", [3, 7, 6, -4, 1, 1, 1, 1], "header is damaged"),
        ("dim", [3, 32767, 32767, 32767, 1, 1, 1, 1], "is truncated"),
        ("dim", [9, 7, 6, 4, 1, 1, 1, 1], r"header is damaged \(9 axes"),
        ("datatype", 1, "NIfTI's type 1"),
        ("srow_x", [-1, 0, 0, np.nan], "its sform holds NaN"),
        ("srow_z", [0, 0, 0, 0], r"gives voxels of 0 mm"),
        ("sizeof_hdr", 77, "does not begin with a NIfTI header"),
    ],
)
@pytest.mark.parametrize("packed", [False, True])
def test_headers_that_cannot_be_true_are_refused(tmp_path, values, field, value, words, packed):
    path = tmp_path / "x.nii"
    _image(values).to_filename(path)
    _with_field(path, field, value)
    if packed:
        path.write_bytes(gzip.compress(path.read_bytes()))
    with pytest.raises(ValueError, match=words):
        read_volume(path)


def test_an_offset_of_zero_stands_for_the_end_of_the_header(tmp_path, values):
    _image(values).to_filename(tmp_path / "x.nii")
    _with_field(tmp_path / "x.nii", "vox_offset", 0)
    np.testing.assert_array_equal(read_volume(tmp_path / "x.nii").array, values.T)


def test_voxels_of_zero_millimetres_beside_a_good_sform(tmp_path, values):
    _image(values).to_filename(tmp_path / "x.nii")
    _with_field(tmp_path / "x.nii", "pixdim", [1, 1, 1, 0, 0, 0, 0, 0])
    assert read_volume(tmp_path / "x.nii").geometry.spacing[2] == 5
    header = _round_trip(tmp_path / "x.nii")
    np.testing.assert_array_equal(header.get_sform(), _AFFINE)
    assert header["pixdim"][3] == 5


def test_a_header_without_either_form(tmp_path, values):
    _image(values, sform=0).to_filename(tmp_path / "x.nii")
    expected = sitk.ReadImage(str(tmp_path / "x.nii"))
    geometry = read_volume(tmp_path / "x.nii").geometry
    assert (geometry.origin, geometry.direction) == ((0, 0, 0), expected.GetDirection())
    np.testing.assert_allclose(geometry.spacing, expected.GetSpacing(), atol=1e-6)
    header = _round_trip(tmp_path / "x.nii")
    assert (int(header["sform_code"]), int(header["qform_code"])) == (0, 0)


def test_other_shapes(tmp_path, values):
    for shape in ((7, 6, 1), (7, 6), (7, 6, 4, 1), (7, 6, 4, 1, 1)):
        part = values[:, :, : 1 if len(shape) < 4 and shape[-1] != 4 else 4].reshape(shape)
        _image(part).to_filename(tmp_path / "x.nii.gz")
        found = read_volume(tmp_path / "x.nii.gz")
        np.testing.assert_array_equal(found.array.ravel(), part.T.ravel())
        assert found.geometry.flat == (len(shape) == 2)
        write_nifti(tmp_path / "out.nii", found.array, found.geometry)
        assert nibabel.load(tmp_path / "out.nii").shape == shape
    time = np.repeat(values[..., None], 3, axis=3)
    _image(time).to_filename(tmp_path / "time.nii.gz")
    with pytest.raises(ValueError, match=r"is 4D, 7x6x4x3 voxels.*slicer\[:, :, :, 0\]"):
        read_volume(tmp_path / "time.nii.gz")


def test_scaled_complex_and_coloured_values(tmp_path, values):
    image = _image(values)
    image.header.set_slope_inter(0.5, 3)
    with (tmp_path / "x.nii").open("wb") as file:
        header = image.header
        header["scl_slope"], header["scl_inter"], header["vox_offset"] = 0.5, 3, 352
        file.write(header.binaryblock + bytes(4) + values.tobytes("F"))
    np.testing.assert_array_equal(read_volume(tmp_path / "x.nii").array, values.T * 0.5 + 3)
    _with_field(tmp_path / "x.nii", "scl_inter", np.nan)
    with pytest.raises(ValueError, match="scl_inter is nan"):
        read_volume(tmp_path / "x.nii")
    _with_field(tmp_path / "x.nii", "scl_slope", np.nan)
    np.testing.assert_array_equal(read_volume(tmp_path / "x.nii").array, values.T)
    _image(values.astype(np.complex64)).to_filename(tmp_path / "c.nii")
    with pytest.raises(ValueError, match="holds complex numbers"):
        read_volume(tmp_path / "c.nii")
    rgb = np.random.default_rng(0).integers(0, 255, (7, 6, 4, 3)).astype(np.uint8)
    packed = rgb.view([("R", "u1"), ("G", "u1"), ("B", "u1")])[..., 0]
    _image(packed).to_filename(tmp_path / "rgb.nii.gz")
    found = read_volume(tmp_path / "rgb.nii.gz")
    np.testing.assert_array_equal(found.array, rgb.transpose(2, 1, 0, 3))
    write_volume(tmp_path / "again.nii.gz", found.array, found.geometry)
    np.testing.assert_array_equal(read_volume(tmp_path / "again.nii.gz").array, found.array)


def test_metres_and_negative_voxel_sizes(tmp_path, values):
    image = _image(values, sform=0, qform=1)
    image.header.set_xyzt_units("meter")
    image.to_filename(tmp_path / "m.nii")
    geometry = read_volume(tmp_path / "m.nii").geometry
    assert geometry.spacing == pytest.approx((1000, 1250, 5000))
    np.testing.assert_allclose(geometry.origin, (-42000, -27000, 3000), rtol=1e-6)
    _image(values, sform=0, qform=1).to_filename(tmp_path / "n.nii")
    _with_field(tmp_path / "n.nii", "pixdim", [1, -1, 1.25, 5, 0, 0, 0, 0])
    with pytest.raises(ValueError, match="its qform has negative voxel sizes"):
        read_volume(tmp_path / "n.nii")  # nibabel refuses it, ITK flips an axis


def test_what_follows_a_packed_file_is_passed_over(tmp_path, values):
    _image(values).to_filename(tmp_path / "x.nii.gz")
    with (tmp_path / "x.nii.gz").open("ab") as file:
        file.write(b"trailing words")
    np.testing.assert_array_equal(read_volume(tmp_path / "x.nii.gz").array, values.T)


def test_a_damaged_packed_file_is_refused(tmp_path, values):
    _image(values).to_filename(tmp_path / "x.nii.gz")
    data = bytearray((tmp_path / "x.nii.gz").read_bytes())
    data[-6] ^= 255  # of the checksum
    (tmp_path / "x.nii.gz").write_bytes(data)
    with pytest.raises(ValueError, match="truncated or damaged"):
        read_nifti(tmp_path / "x.nii.gz")


def test_equal_labels_are_equal_files(tmp_path, values):
    _image(values).to_filename(tmp_path / "x.nii.gz")
    geometry = read_volume(tmp_path / "x.nii.gz").geometry
    for name in ("a.nii.gz", "b.nii.gz"):
        write_volume(tmp_path / name, np.ones((4, 6, 7), np.uint8), geometry)
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
