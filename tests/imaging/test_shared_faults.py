"""Files that once gave wrong places, wrong values or no help; they lie in ../shared/faults."""

from pathlib import Path

import numpy as np
import pytest

from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.imaging.image_case import FileOptions, read_image_case

REFUSED = {
    "01_gantry_tilt/s": "20 degrees (gantry tilt)",
    "02_enhanced_frame_missing/e.dcm": "slices are missing, 1 of them",
    "02_enhanced_three_planes/e.dcm": "3 values of orientation",
    "04_no_positions/no_ipp": "do not say where they lie",
    "04_no_positions/cine_one_place": "8 images lie at one place",
    "04_no_positions/two_xrays": "2 images do not say where they lie",
    "06_damaged_end_slice_dropped/no_suffix": "IM0007: is truncated",
    "06_damaged_end_slice_dropped/upper_DCM": "IM0007.DCM: is truncated",
    "21_not_orthonormal/shear_0.2.nii.gz": "sheared (its axes are 11 degrees",
    "21_not_orthonormal/nan_sform.nii": "its sform holds NaN",
    "23_mha_cut_short/x.mha": "is truncated (13706 of 27736 bytes",
    "26_unhelpful_refusals/RS.dcm": "holds contours (RTSTRUCT)",
    "26_unhelpful_refusals/slice_twice": "a duplicated slice",
    "26_unhelpful_refusals/two_layers.seg.nrrd": "give the image as -i",
}
# The folder's origin, the volume's largest value.
READ = {
    "02_enhanced_frames_unsorted/e.dcm": ((-32, -32, 0), None),
    "03_pet_first_slope_1/s": ((-32, -32, 0), 3.588),
    "14_sform_qform/x.nii.gz": ((-42, -27, 3), None),
    "16_dicom_seg_single_file/x.dcm": ((0, 0, 0), None),
    "18_dicom_seg_anonymised/s": ((-32, -32, 0), None),
    "20_folder_not_seen_as_series/appledouble": ((-32, -32, 0), None),
    "20_folder_not_seen_as_series/cd": ((-32, -32, 0), None),
    "20_folder_not_seen_as_series/cd_root": ((-32, -32, 0), None),
    "20_folder_not_seen_as_series/dot_names": ((-32, -32, 0), None),
    "20_folder_not_seen_as_series/no_preamble": ((-32, -32, 0), None),
    "20_folder_not_seen_as_series/no_preamble_no_suffix": ((-32, -32, 0), None),
    "21_not_orthonormal/shear_2e-4.nii.gz": ((-32, -32, 0), None),
    "21_not_orthonormal/shear_sform_good_qform.nii.gz": ((-32, -32, 0), None),
    "21_not_orthonormal/pixdim0.nii": ((-32, -32, 0), None),
    "26_unhelpful_refusals/gzipped.nii": ((-32, -32, 0), None),
    "26_unhelpful_refusals/nifti2.nii.gz": ((-32, -32, 0), None),
    "26_unhelpful_refusals/x.nrrd": ((-32, -32, 0), None),
}


@pytest.fixture
def faults(shared) -> Path:
    if not (shared / "faults").is_dir():
        pytest.skip(f"{shared}/faults is missing: its files are not tried")
    return shared / "faults"


def _read(faults: Path, name: str):
    folder = faults / name.partition("/")[0]
    boxes = folder / ("b2.json" if "xray" in name else "b.json")
    return read_image_case(faults / name, FileOptions(boxes))


@pytest.mark.parametrize("name", REFUSED)
def test_what_cannot_be_placed_is_refused(faults, name):
    with pytest.raises(CaseError) as refused:
        _read(faults, name)
    assert REFUSED[name] in str(refused.value)


@pytest.mark.parametrize("name", READ)
def test_what_can_be_read_lies_where_it_should(faults, name):
    from litemedsam_jax.imaging.volumes import read_volume

    origin, highest = READ[name]
    image = _read(faults, name)
    np.testing.assert_allclose(image.geometry.origin, origin, atol=1e-4)
    if highest is not None:
        assert read_volume(faults / name).array.max() == pytest.approx(highest, abs=1e-3)


@pytest.mark.parametrize(("source", "labels"), [("seg1", [1]), ("seg2", [1, 2])])
def test_segments_of_a_dicom_seg_are_boxed_one_by_one(faults, source, labels):
    folder = faults / "15_own_dicom_seg"
    image = read_image_case(folder / "s", FileOptions(folder / f"{source}.dcm"))
    assert image.labels.tolist() == labels


def test_layers_of_a_segmentation_are_boxed_one_by_one(faults):
    folder = faults / "26_unhelpful_refusals"
    image = read_image_case(folder / "x.nrrd", FileOptions(folder / "two_layers.seg.nrrd"))
    assert image.labels.tolist() == [1, 2]


def test_a_z_scored_image_is_scaled_as_the_same_image_plus_a_constant(faults):
    one, two = (
        _read(faults, f"25_z_scored_mr/{name}").case.image.astype(int)
        for name in ("x.nii.gz", "same_plus_1.6.nii.gz")
    )
    assert np.abs(one - two).max() <= 1  # sums in float32 are rounded
