"""2D masks as label maps."""

import cv2
import numpy as np
import pytest
from PIL import Image

from litemedsam_jax.imaging import label_images
from litemedsam_jax.imaging.errors import CaseError


def test_masks_of_every_kind(tmp_path):
    labels = np.zeros((30, 30), np.uint8)
    labels[2:9, 2:9], labels[12:20, 12:25] = 1, 2
    cv2.imwrite(str(tmp_path / "numbers.png"), labels)
    cv2.imwrite(str(tmp_path / "white.png"), (labels > 0).astype(np.uint8) * 255)
    Image.fromarray(labels > 0).save(tmp_path / "bits.png")
    indexed = Image.fromarray(labels).convert("P")
    indexed.putpalette([0, 0, 0, 9, 9, 9, 200, 0, 0])
    indexed.save(tmp_path / "palette.png")
    colours = np.array([[0, 0, 0], [128, 0, 0], [0, 128, 0]], np.uint8)[labels]
    Image.fromarray(colours).save(tmp_path / "colours.png")
    cv2.imwrite(str(tmp_path / "smeared.jpg"), (labels > 0).astype(np.uint8) * 255)
    for name in ("numbers", "palette", "colours"):
        np.testing.assert_array_equal(label_images.read_mask(tmp_path / f"{name}.png"), labels)
    for name in ("white.png", "bits.png", "smeared.jpg"):
        np.testing.assert_array_equal(label_images.read_mask(tmp_path / name), labels > 0)
    cv2.imwrite(str(tmp_path / "only2.png"), labels // 2 * 2)
    assert np.unique(label_images.read_mask(tmp_path / "only2.png")).tolist() == [0, 2]


def test_outlines_are_filled_and_objects_merged(tmp_path):
    ring, disc = np.zeros((2, 60, 60), np.uint8)
    cv2.circle(ring, (30, 30), 20, 255, 1)
    cv2.circle(disc, (30, 30), 20, 255, -1)
    cv2.imwrite(str(tmp_path / "ring.png"), ring)
    filled = label_images.read_mask(tmp_path / "ring.png", fill_outlines=True)
    assert (filled != (disc > 0)).sum() <= 8
    cv2.imwrite(str(tmp_path / "disc.png"), disc)
    merged = label_images.merge_masks([tmp_path / "disc.png", tmp_path / "ring.png"])
    assert np.unique(merged).tolist() == [0, 1, 2]
    cv2.imwrite(str(tmp_path / "other.png"), disc[:50])
    with pytest.raises(ValueError, match="is 60x50, the other masks are 60x60"):
        label_images.merge_masks([tmp_path / "disc.png", tmp_path / "other.png"])


def test_label_pictures_keep_more_than_255_labels():
    labels = np.arange(400).reshape(20, 20)
    decoded = cv2.imdecode(label_images.encode_labels(labels), cv2.IMREAD_UNCHANGED)
    np.testing.assert_array_equal(decoded, labels)


def _disc(size=60, value=255, smooth=True) -> np.ndarray:
    mask = np.zeros((size, size), np.uint8)
    cv2.circle(mask, (size // 2, size // 2), size // 3, value, -1, cv2.LINE_AA if smooth else 8)
    return mask


def test_smooth_edges_of_one_object_are_cut_at_one_half(tmp_path):
    smooth = _disc()
    assert len(np.unique(smooth)) > 10
    cv2.imwrite(str(tmp_path / "grey.png"), smooth)
    notes: list[str] = []
    labels = label_images.read_mask(tmp_path / "grey.png", notes=notes)
    np.testing.assert_array_equal(labels, smooth > 127)
    assert "anti-aliasing" in notes[0]
    red = np.dstack([smooth, smooth * 0, smooth * 0])
    Image.fromarray(red).save(tmp_path / "red.png")
    np.testing.assert_array_equal(label_images.read_mask(tmp_path / "red.png"), smooth > 127)
    half = np.zeros((20, 20), np.uint8)
    half[5:15, 5:15], half[6:14, 6:14] = 100, 255  # edges halfway: one value all around
    cv2.imwrite(str(tmp_path / "half.png"), half)
    np.testing.assert_array_equal(label_images.read_mask(tmp_path / "half.png"), half > 127)


def test_smooth_edges_between_several_labels_are_refused(tmp_path):
    several = np.maximum(_disc(), np.roll(_disc(value=120), 40, 1))
    cv2.imwrite(str(tmp_path / "several.png"), several)
    with pytest.raises(CaseError, match="only along edges, as anti-aliasing leaves them"):
        label_images.read_mask(tmp_path / "several.png")


def test_thin_and_tiny_labels_are_no_smears(tmp_path):
    tiny = np.zeros((64, 64), np.uint16)
    tiny[::2, ::2] = np.arange(1, 1025).reshape(32, 32)  # 1024 objects of a pixel each
    cv2.imwrite(str(tmp_path / "tiny.png"), tiny)
    np.testing.assert_array_equal(label_images.read_mask(tmp_path / "tiny.png"), tiny)
    border = _disc(smooth=False) // 255 * 2  # a border class around an object
    cv2.circle(border, (30, 30), 20, 1, 1)
    cv2.imwrite(str(tmp_path / "border.png"), border)
    np.testing.assert_array_equal(label_images.read_mask(tmp_path / "border.png"), border)


def test_what_is_transparent_is_background(tmp_path):
    inside = _disc(smooth=False) > 0
    alpha = np.where(inside, 255, 0).astype(np.uint8)
    for name, colour in (("red", (200, 0, 0)), ("black", (0, 0, 0)), ("white", (255, 255, 255))):
        pixels = np.full((60, 60, 3), 255, np.uint8)  # a white background that is not seen
        pixels[inside] = colour
        Image.fromarray(np.dstack([pixels, alpha])).save(tmp_path / f"{name}.png")
        np.testing.assert_array_equal(label_images.read_mask(tmp_path / f"{name}.png"), inside)
    indexed = Image.fromarray(np.where(inside, 0, 1).astype(np.uint8)).convert("P")
    indexed.putpalette([200, 0, 0, 255, 255, 255])
    indexed.save(tmp_path / "palette.png", transparency=1)
    np.testing.assert_array_equal(label_images.read_mask(tmp_path / "palette.png"), inside)


def test_numbers_in_a_jpeg_are_refused(tmp_path):
    labels = _disc(value=2, smooth=False)
    cv2.imwrite(str(tmp_path / "two.jpg"), labels)
    cv2.imwrite(str(tmp_path / "grey.jpg"), labels * 60)
    for name in ("two", "grey"):
        with pytest.raises(CaseError, match="save the mask as PNG"):
            label_images.read_mask(tmp_path / f"{name}.jpg")


def test_whole_numbers_in_a_float_file_are_labels(tmp_path):
    labels = _disc(value=3, smooth=False)
    cv2.imwrite(str(tmp_path / "whole.tif"), labels.astype(np.float32))
    np.testing.assert_array_equal(label_images.read_mask(tmp_path / "whole.tif"), labels)
    cv2.imwrite(str(tmp_path / "half.tif"), labels * np.float32(0.5))
    with pytest.raises(CaseError, match="fractions"):
        label_images.read_mask(tmp_path / "half.tif")


def test_a_mask_that_was_a_jpeg_before_is_cut_at_one_half(tmp_path):
    sharp = _disc(smooth=False)
    noisy = cv2.imdecode(cv2.imencode(".jpg", sharp)[1], cv2.IMREAD_GRAYSCALE)
    cv2.imwrite(str(tmp_path / "noisy.png"), noisy)
    notes: list[str] = []
    labels = label_images.read_mask(tmp_path / "noisy.png", notes=notes)
    np.testing.assert_array_equal(labels, noisy > 127)
    assert notes and np.unique(noisy).size > 5


def test_a_palette_does_not_hide_smooth_edges(tmp_path):
    smooth = _disc()
    Image.fromarray(np.dstack([smooth] * 3)).quantize(16).save(tmp_path / "smooth.png")
    labels = label_images.read_mask(tmp_path / "smooth.png")
    assert np.unique(labels).tolist() == [0, 1]
    assert (labels != (smooth > 127)).sum() < 40  # of a circumference of 125


def test_a_small_second_label_is_not_cut_away_with_smooth_edges(tmp_path):
    mask = np.zeros((300, 300), np.uint8)
    cv2.circle(mask, (100, 100), 60, 255, -1, cv2.LINE_AA)
    cv2.circle(mask, (250, 250), 12, 120, -1, cv2.LINE_AA)
    cv2.imwrite(str(tmp_path / "two.png"), mask)
    with pytest.raises(CaseError, match="anti-aliasing"):
        label_images.read_mask(tmp_path / "two.png")
