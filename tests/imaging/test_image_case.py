"""An image file and its boxes as a case."""

import numpy as np
import pytest
import SimpleITK as sitk

from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.imaging.image_case import FileOptions, read_image_case


@pytest.fixture
def scan(tmp_path, oblique, anatomy, organs):
    """A scan cropped to its first 15 columns, and the labels of the whole one."""
    sitk.WriteImage(oblique(anatomy)[:15], str(tmp_path / "ct.nii.gz"))
    sitk.WriteImage(oblique(organs), str(tmp_path / "labels.nii.gz"))
    return tmp_path / "ct.nii.gz", tmp_path / "labels.nii.gz"


def test_labels_outside_the_image_and_absent_ones_are_warned_of(scan):
    image, mask = scan
    case = read_image_case(image, FileOptions(mask, labels=(1, 9))).case
    np.testing.assert_array_equal(case.boxes, [[8, 10, 3, 14, 19, 8]])
    said = " ".join(case.warnings)
    assert "228 labelled voxels lie outside the image (label 1: 180, label 5: 48)" in said
    assert "holds no label 9 of --labels (it has: 1, 2, 5)" in said


def test_labels_none_of_which_is_there_are_refused(scan):
    image, mask = scan
    with pytest.raises(CaseError, match=r"it has: 1, 2, 5.*that --labels names"):
        read_image_case(image, FileOptions(mask, labels=(9,)))
