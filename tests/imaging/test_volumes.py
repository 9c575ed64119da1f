"""Volumes read, placed and written where they lie."""

import numpy as np
import pytest
import SimpleITK as sitk

from litemedsam_jax.imaging import volumes


def _same_grid(a: sitk.Image, b: sitk.Image) -> bool:
    return (
        a.GetSize() == b.GetSize()
        and np.allclose(a.GetOrigin(), b.GetOrigin(), atol=1e-4)
        and np.allclose(a.GetSpacing(), b.GetSpacing(), atol=1e-6)
        and np.allclose(a.GetDirection(), b.GetDirection(), atol=1e-6)
    )


@pytest.mark.parametrize("suffix", [".nii.gz", ".nii", ".nrrd", ".mha", ".mhd", ".nhdr"])
def test_labels_come_out_on_the_grid_that_went_in(tmp_path, oblique, organs, suffix):
    image = oblique(organs)
    sitk.WriteImage(image, str(tmp_path / f"in{suffix}"))
    volume = volumes.read_labels(tmp_path / f"in{suffix}")
    np.testing.assert_array_equal(volume.array, organs)
    out = tmp_path / "out.nrrd"
    volumes.write_volume(out, volume.array, volume.geometry)
    assert _same_grid(sitk.ReadImage(str(out)), image)
    assert not list(tmp_path.glob(".*"))


def test_a_single_slice_is_a_volume_of_one(tmp_path):
    flat = sitk.GetImageFromArray(np.arange(12, dtype=np.int16).reshape(3, 4))
    sitk.WriteImage(flat, str(tmp_path / "flat.mha"))
    volume = volumes.read_volume(tmp_path / "flat.mha")
    assert volume.array.shape == (1, 3, 4)
    volumes.write_volume(tmp_path / "out.mha", volume.array, volume.geometry)
    assert sitk.ReadImage(str(tmp_path / "out.mha")).GetSize() == (4, 3)


def test_four_dimensions_are_told(tmp_path):
    image = sitk.JoinSeries([sitk.Image(4, 5, 6, sitk.sitkInt16)] * 3)
    sitk.WriteImage(image, str(tmp_path / "time.nii.gz"))
    with pytest.raises(ValueError, match=r"is 4D, 4x5x6x3 voxels.*a file of its own"):
        volumes.read_volume(tmp_path / "time.nii.gz")


@pytest.mark.parametrize("name", ["hole.nii.gz", "hole.nii", "hole.nrrd"])
@pytest.mark.parametrize("kind", [np.float32, np.float64])
def test_nan_is_seen_where_it_is(tmp_path, name, kind):
    array = np.arange(2 * 3 * 4, dtype=kind).reshape(2, 3, 4)
    array[1, 2, 3], array[0, 1, 0], array[1, 0, 2] = np.nan, np.inf, -np.inf
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / name))
    found = volumes.read_volume(tmp_path / name).array
    np.testing.assert_array_equal(np.isfinite(found), np.isfinite(array))
    np.testing.assert_array_equal(found[np.isfinite(array)], array[np.isfinite(array)])
    with pytest.raises(ValueError, match="holds fractions or NaN"):
        volumes.read_labels(tmp_path / name)


@pytest.mark.parametrize("name", ["cut.nii.gz", "cut.nii", "cut.nrrd", "cut.mha"])
@pytest.mark.parametrize("kind", [np.int16, np.float32])
def test_a_truncated_file_is_refused(tmp_path, name, kind):
    array = np.random.default_rng(0).integers(0, 99, (4, 20, 30)).astype(kind)
    sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / name))
    np.testing.assert_array_equal(volumes.read_volume(tmp_path / name).array, array)
    whole = (tmp_path / name).read_bytes()
    for share in (0.5, 0.9):
        (tmp_path / name).write_bytes(whole[: int(len(whole) * share)])
        with pytest.raises(ValueError, match="is truncated"):
            volumes.read_volume(tmp_path / name)


def test_what_is_no_volume_is_told(tmp_path):
    (tmp_path / "broken.nii.gz").write_bytes(b"nothing")
    with pytest.raises(ValueError, match="cannot be read as a volume"):
        volumes.read_volume(tmp_path / "broken.nii.gz")
    with pytest.raises(FileNotFoundError, match="no such file"):
        volumes.read_volume(tmp_path / "none.nii.gz")
    fractions = sitk.GetImageFromArray(np.full((2, 3, 4), 0.5, np.float32))
    sitk.WriteImage(fractions, str(tmp_path / "soft.nii.gz"))
    with pytest.raises(ValueError, match="no label map"):
        volumes.read_labels(tmp_path / "soft.nii.gz")


def _place(labels: sitk.Image, image: sitk.Image, tmp_path, how="exact"):
    for name, one in (("labels", labels), ("image", image)):
        sitk.WriteImage(one, str(tmp_path / f"{name}.nrrd"))
    path = tmp_path / "labels.nrrd"
    target = volumes.read_volume(tmp_path / "image.nrrd").geometry
    labels = volumes.read_labels(path)
    return volumes.place_labels(labels, target, path, how, volumes.MASK_GRID_ADVICE)


def test_a_flipped_and_a_cropped_mask_find_their_place(tmp_path, oblique, organs):
    image = oblique(organs)
    flipped = sitk.Flip(image, (True, True, False))
    assert flipped.GetDirection() != image.GetDirection()
    np.testing.assert_array_equal(_place(flipped, image, tmp_path), organs)
    swapped = sitk.PermuteAxes(image, (2, 0, 1))
    np.testing.assert_array_equal(_place(swapped, image, tmp_path), organs)
    cropped = image[5:25, 8:35, 2:10]
    expected = np.zeros_like(organs)
    expected[2:10, 8:35, 5:25] = organs[2:10, 8:35, 5:25]
    np.testing.assert_array_equal(_place(cropped, image, tmp_path), expected)


def test_a_mask_on_other_voxels_is_refused_unless_resampled(tmp_path, oblique, organs):
    image = oblique(organs)
    coarse = sitk.Shrink(image, (2, 2, 1))
    with pytest.raises(ValueError, match=r"15x20x12 of 1\.4x1\.6x3 mm.*--mask-grid resample"):
        _place(coarse, image, tmp_path)
    placed = _place(coarse, image, tmp_path, "resample")
    assert (placed == organs).mean() > 0.97
    with pytest.raises(ValueError, match="15x20x12 voxels and its image 30x40x12"):
        _place(coarse, image, tmp_path, "index")


def test_a_mask_that_lies_elsewhere_is_told(tmp_path, oblique, organs):
    image, elsewhere = oblique(organs), oblique(organs)
    step = np.array(image.TransformIndexToPhysicalPoint((50, 0, 0)))
    elsewhere.SetOrigin(step.tolist())
    with pytest.raises(ValueError, match="none of the mask's labels lie inside the image"):
        _place(elsewhere, image, tmp_path)
    np.testing.assert_array_equal(_place(elsewhere, image, tmp_path, "index"), organs)
