"""Which files are cases, and which are masks."""

import numpy as np
import pytest
import SimpleITK as sitk

from litemedsam_jax.serving.workspace import Workspace


@pytest.fixture
def folder(tmp_path):
    for name in ("a_ct.nii.gz", "a_mr.nii.gz", "a_seg.nii.gz", "b_image.nii.gz", "b_mask.nii.gz"):
        image = sitk.GetImageFromArray(np.arange(60, dtype=np.int16).reshape(3, 4, 5))
        sitk.WriteImage(image, str(tmp_path / name))
    return tmp_path


def test_masks_are_no_cases(folder):
    workspace = Workspace([folder])
    assert [case["name"] for case in workspace.describe()] == [
        "a_ct.nii.gz", "a_mr.nii.gz", "b_image.nii.gz",
    ]  # fmt: skip
    assert [path.name for path in workspace.masks] == ["a_seg.nii.gz"]
    with pytest.raises(KeyError, match="no mask 1"):
        workspace.mask(1)


def test_a_file_that_is_named_itself_is_a_case(folder):
    workspace = Workspace([folder / "a_ct.nii.gz", folder / "a_seg.nii.gz"])
    assert len(workspace.entries) == 2 and not workspace.masks


def test_where_all_files_are_named_as_masks_they_are_cases(folder):
    for name in ("a_ct.nii.gz", "a_mr.nii.gz", "b_image.nii.gz", "b_mask.nii.gz"):
        (folder / name).unlink()
    workspace = Workspace([folder])
    assert len(workspace.entries) == 1 and not workspace.masks
