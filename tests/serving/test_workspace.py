"""Which files are cases, which are masks, and how the page lists them."""

import numpy as np
import pytest
import SimpleITK as sitk

from litemedsam_jax.imaging.npz import write_npz
from litemedsam_jax.serving.workspace import Workspace
from tests.serving.test_page import BRAIN


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


def test_a_mask_of_no_image_is_loaded_by_a_click(open_page, tmp_path):
    values = np.random.default_rng(0).integers(0, 99, (4, 40, 50)).astype(np.int16)
    labels = np.zeros(values.shape, np.uint8)
    labels[1:3, 10:20, 10:30] = 7
    for name, array in (("a_ct", values), ("a_mr", values), ("a_seg", labels)):
        sitk.WriteImage(sitk.GetImageFromArray(array), str(tmp_path / f"{name}.nii.gz"))
    page = open_page(tmp_path)
    assert page.script("return document.querySelectorAll('#case-list li').length") == 2
    page.click("#mask-list li")
    page.wait(lambda: "Loaded a_seg" in page.text("#message"), "the mask")
    np.testing.assert_array_equal(page.shown_labels(), labels[2])
    page.key("Control+z")
    page.wait(lambda: page.store("layers") == [], "undo")
    assert not page.shown_labels().any()


def test_names_are_text_whatever_they_hold(open_page, tmp_path):
    name = "<img src=x onerror=alert(1)>.npz"
    write_npz(
        tmp_path / name, imgs=np.arange(2000, dtype=np.int64).reshape(40, 50).astype(np.uint8)
    )
    page = open_page(tmp_path / name)
    assert page.text("#case-list .name") == name
    page.add_label("<b>x")
    assert page.script("return document.querySelectorAll('img, b').length") == 0


def test_review_without_a_model_or_the_right_to_write(open_page, tmp_path):
    options = ("--read-only", "--weights", tmp_path / "none.safetensors")
    page = open_page(BRAIN, options=options)
    page.wait(lambda: "no model" in page.text("#model"), "the model's state")
    page.click("#model")
    assert "litemedsam weights" in page.text("#message")
    assert page.script("return document.querySelector('[data-tool=brush]').disabled")
    page.drag(page.at(100, 100), page.at(150, 150))
    assert page.store("layers") == []
    assert not (tmp_path / "out").exists()
