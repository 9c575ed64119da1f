"""`litemedsam prepare`: what is dropped from a mask, or missing in it, is reported."""

import cv2
import numpy as np
import pytest
import SimpleITK as sitk
from PIL import Image

from litemedsam_jax.cli import main


@pytest.fixture
def prepare(tmp_path, capsys):
    """Runs `prepare`; returns its exit status and what it said on stderr."""

    def run(kind, image, mask, *more):
        arguments = ["-img_path", str(image), "-gt_path", str(mask), "-output_path"]
        arguments += [str(tmp_path / "out"), "-num_workers", "1", "--cases", *more]
        status = main(["prepare", kind, *arguments])
        return status, capsys.readouterr().err

    return run


@pytest.fixture
def scan(tmp_path, oblique, anatomy, organs):
    """A scan cropped to its first 15 columns, and the labels of the whole one."""
    sitk.WriteImage(oblique(anatomy)[:15], str(tmp_path / "ct.nii.gz"))
    sitk.WriteImage(oblique(organs), str(tmp_path / "labels.nii.gz"))
    return tmp_path / "ct.nii.gz", tmp_path / "labels.nii.gz"


def test_labels_that_lie_outside_the_image_are_reported(prepare, scan, tmp_path):
    status, said = prepare("volumes", *scan, "--min-voxels-3d", "0", "--min-pixels-2d", "0")
    assert status == 0
    # Columns 15 to 17 of both objects: 6 slices of 10 rows, 2 slices of 8 rows.
    assert "warning" in said and "228 labelled voxels lie outside the image" in said
    assert "label 1: 180, label 5: 48" in said
    gts = np.load(tmp_path / "out/gts/3DBox_CT_Abd_ct.npz")["gts"]
    assert (gts > 0).sum() == 6 * 10 * 7 + 2 * 8 * 7 + 1


def test_labels_that_a_mask_does_not_hold_are_reported(prepare, scan):
    status, said = prepare("volumes", *scan, "--keep-labels", "1", "7", "--remove-labels", "12")
    assert status == 0
    assert "holds no label 7 of --keep-labels (it has: 1, 2, 5)" in said
    assert "holds no label 12 of --remove-labels" in said
    status, said = prepare("volumes", *scan, "--keep-labels", "7")
    assert status == 1  # nothing was prepared
    assert "no label is left" in said and "--keep-labels" in said


def test_smoothed_masks_and_turned_images_are_said(prepare, tmp_path):
    image = np.zeros((40, 60, 3), np.uint8)
    image[:20, :30] = 200
    exif = Image.Exif()
    exif[274] = 3
    Image.fromarray(image).save(tmp_path / "x.jpg", exif=exif)
    mask = np.zeros((40, 60), np.uint8)
    cv2.circle(mask, (45, 30), 8, 255, -1, cv2.LINE_AA)  # drawn on the image as it is shown
    cv2.imwrite(str(tmp_path / "x_mask.png"), mask)
    status, said = prepare("images", tmp_path / "x.jpg", tmp_path / "x_mask.png")
    assert status == 0 and "EXIF orientation (3)" in said and "anti-aliasing" in said
    imgs = np.load(tmp_path / "out/imgs/2DBox_US_Abd_x.npz")["imgs"]
    gts = np.load(tmp_path / "out/gts/2DBox_US_Abd_x.npz")["gts"]
    assert np.unique(gts).tolist() == [0, 1]
    assert imgs[gts > 0].mean() > 190 and imgs[gts == 0].mean() < 60


def test_a_constant_image_is_warned_of(prepare, tmp_path):
    cv2.imwrite(str(tmp_path / "x.png"), np.full((40, 60), 7, np.uint8))
    cv2.imwrite(str(tmp_path / "m.png"), np.full((40, 60), 255, np.uint8))
    status, said = prepare("images", tmp_path / "x.png", tmp_path / "m.png")
    assert status == 0 and "the image is 7 everywhere" in said
