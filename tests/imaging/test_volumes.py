"""Volumes read, placed and written where they lie."""

import numpy as np
import pytest
import SimpleITK as sitk

from litemedsam_jax.imaging import volumes
from litemedsam_jax.imaging.dicom_seg import write_dicom_seg


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


def test_dicom_is_rescaled_ordered_and_placed(tmp_path, series, anatomy):
    volume = volumes.read_volume(series(tmp_path / "ct"))
    np.testing.assert_array_equal(volume.array, anatomy // 2 * 2)
    assert volume.geometry.size == (30, 40, 12)
    np.testing.assert_allclose(volume.geometry.spacing, (0.8, 0.9, 2.5))
    np.testing.assert_allclose(volume.geometry.origin, (-50, -20, 10))


def test_a_series_with_a_missing_slice_is_told(tmp_path, series):
    with pytest.raises(ValueError, match=r"slices are missing, 1 of them.*2\.50 to 5\.00 mm apart"):
        volumes.read_volume(series(tmp_path / "ct", skip=(4,)))


def test_an_unreadable_slice_is_named(tmp_path, series):
    folder = series(tmp_path / "ct")
    (folder / "slice095.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\xff" * 40)
    with pytest.raises(ValueError, match=r"slice095\.dcm"):
        volumes.read_volume(folder)


def test_two_series_in_one_folder_are_told(tmp_path, series):
    import pydicom

    folder = series(tmp_path / "ct")
    data = pydicom.dcmread(folder / "slice099.dcm")
    data.SeriesInstanceUID = "1.2.3"
    data.save_as(folder / "other.dcm")
    with pytest.raises(
        ValueError,
        match=r"holds 2 DICOM series \(CT 1: 12, slice\d+\.dcm, \.\.\.; CT 1: 1, other\.dcm",
    ):
        volumes.read_volume(folder)


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


def test_whole_numbers_with_a_slope_hold_no_nan(tmp_path):
    sitk.WriteImage(sitk.Image(4, 5, 6, sitk.sitkInt16), str(tmp_path / "whole.nii"))
    data = bytearray((tmp_path / "whole.nii").read_bytes())
    data[112:120] = np.array([0.5, 3], "<f4").tobytes()  # scl_slope, scl_inter
    (tmp_path / "whole.nii").write_bytes(data)
    np.testing.assert_array_equal(volumes.read_volume(tmp_path / "whole.nii").array, 3.0)


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


def test_dicom_seg_lies_on_the_series(tmp_path, series, organs):
    highdicom = pytest.importorskip("highdicom")
    folder = series(tmp_path / "ct")
    write_dicom_seg(folder, organs, tmp_path / "seg.dcm", {5: "spleen"})
    seg = highdicom.seg.segread(tmp_path / "seg.dcm")
    assert [s.segment_label for s in seg.SegmentSequence] == ["label 1", "label 2", "spleen"]
    found = seg.get_volume(combine_segments=True, relabel=True)
    geometry = volumes.read_volume(folder).geometry
    for number, label in enumerate((1, 2, 5), start=1):
        there = found.map_indices_to_reference(np.argwhere(found.array == number))
        expected = geometry.to_points(np.argwhere(organs == label)[:, ::-1])
        order, expected_order = np.lexsort(np.round(there, 3).T), np.lexsort(expected.round(3).T)
        np.testing.assert_allclose(there[order], expected[expected_order], atol=1e-3)
    with pytest.raises(ValueError, match="masks are empty"):
        write_dicom_seg(folder, organs * 0, tmp_path / "empty.dcm")
