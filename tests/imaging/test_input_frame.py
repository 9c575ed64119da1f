"""Between image and network input: sizes, roundings, masks and boxes, as the reference's."""

import cv2
import numpy as np
import pytest
import torch

from litemedsam_jax.imaging import input_frame
from litemedsam_jax.imaging.input_frame import (
    Frame,
    Region,
    bounding_box,
    box_from_mask,
    boxes_to_input,
    mask_from_logits,
    resize_labels,
    to_input,
)


@pytest.mark.parametrize(
    ("size", "inner"),
    [
        ((512, 512), (256, 256)),
        ((300, 299), (256, 255)),
        ((200, 150), (256, 192)),
        ((1000, 2), (256, 1)),
        ((7, 5), (256, 183)),
        ((5, 7), (183, 256)),
        ((600, 1), (256, 1)),  # rounds to 0, on which the reference stops
        ((1, 5000), (1, 256)),
        ((1, 1), (256, 256)),
    ],
)
def test_the_longest_side_becomes_256(size, inner):
    frame = Frame(*size)
    assert (frame.inner_height, frame.inner_width) == inner


def test_the_input_is_resized_in_its_own_type_then_scaled_then_padded():
    image = np.random.default_rng(0).integers(20, 230, (300, 200, 3), np.uint8)
    found = to_input(image, Frame(300, 200))
    small = cv2.resize(image, (171, 256), interpolation=cv2.INTER_AREA)
    assert small.dtype == np.uint8  # rounded before it is scaled
    low, high = int(small.min()), int(small.max())
    expected = ((small.astype(np.float64) - low) / (high - low)).astype(np.float32)
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found[:, :171], expected)
    assert not found[:, 171:].any()


def test_all_channels_are_scaled_together():
    image = np.zeros((256, 256, 3), np.uint8)
    image[..., 0], image[..., 1], image[..., 2] = 50, 100, 150
    found = to_input(image, Frame(256, 256))
    np.testing.assert_array_equal(found[9, 9], np.float32([0, 0.5, 1]))


def test_grey_is_the_same_as_three_equal_channels():
    grey = np.random.default_rng(1).integers(0, 256, (90, 130), np.uint8)
    frame = Frame(90, 130)
    np.testing.assert_array_equal(
        to_input(grey, frame), to_input(np.stack([grey] * 3, axis=-1), frame)
    )


def test_a_constant_image_becomes_zeros():
    assert not to_input(np.full((40, 30, 3), 77, np.uint8), Frame(40, 30)).any()


def test_floats_are_not_rounded():
    image = np.linspace(0, 1, 512 * 512, dtype=np.float32).reshape(512, 512)
    found = to_input(image, Frame(512, 512))
    assert len(np.unique(found)) > 60_000


@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "uint32", "float16", "float128"])
def test_types_that_opencv_does_not_resize_are_taken_too(dtype):
    image = np.random.default_rng(2).integers(0, 2, (600, 400)).astype(dtype)
    found = to_input(image, Frame(600, 400))
    expected = to_input(image.astype(np.float32), Frame(600, 400))
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_halving_rounds_halves_up():
    # A factor of two is (sum + 2) >> 2; the reference's masks depend on it.
    image = np.zeros((512, 512), np.uint8)
    image[:2, :2] = [[1, 1], [0, 0]]
    image[2:4, :2] = 255
    assert to_input(image, Frame(512, 512))[0, 0, 0] == np.float32(1 / 255)


def test_boxes_are_scaled_and_truncated():
    found = boxes_to_input(np.array([[10, 20, 101, 200]]), Frame(300, 200))
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, [[8, 17, 86, 170]])


def test_boxes_of_floats_are_truncated_after_scaling():
    found = boxes_to_input(np.array([[10.9, 20.9, 30.9, 40.9]]), Frame(512, 512))
    np.testing.assert_array_equal(found, [[5, 10, 15, 20]])


def test_small_unsigned_boxes_do_not_overflow():
    found = boxes_to_input(np.array([[250, 1, 255, 255]], np.uint8), Frame(128, 64))
    np.testing.assert_array_equal(found, [[500, 2, 510, 510]])


SIZES = [
    (256, 256),
    (512, 512),
    (700, 700),
    (300, 200),
    (101, 122),
    (45, 120),
    (33, 37),
    (3, 3),
    (1, 1),
    (1070, 1348),
    (257, 255),
    (2000, 3),
    (1, 5000),
    (600, 1),
]


def _smooth_logits(seed: int) -> np.ndarray:
    generator = np.random.default_rng(seed)
    noise = generator.normal(size=(256, 256)).astype(np.float32)
    smooth = cv2.GaussianBlur(noise, (0, 0), float(generator.uniform(1, 12)))
    return (smooth / smooth.std() * 8 + generator.normal() * 4).astype(np.float32)


def _whole(region: Region, frame: Frame) -> np.ndarray:
    mask = np.zeros((frame.height, frame.width), bool)
    mask[region.rows, region.columns] = region.mask
    return mask


@pytest.mark.parametrize("size", SIZES, ids=str)
def test_masks_are_those_of_torchs_interpolation(size):
    frame = Frame(*size)
    for seed in range(4):
        logits = _smooth_logits(seed)
        inner = torch.from_numpy(logits[: frame.inner_height, : frame.inner_width].copy())
        expected = torch.nn.functional.interpolate(
            inner[None, None], size, mode="bilinear", align_corners=False
        )[0, 0].numpy()
        found = _whole(mask_from_logits(logits, frame), frame)
        # Torch may sum in another order: pixels within rounding of zero may fall either way.
        undecided = np.abs(expected) < 1e-5
        np.testing.assert_array_equal(found[~undecided], expected[~undecided] > 0)
        assert undecided.mean() < 1e-3 or size == (1, 1)


def test_a_lone_positive_logit_and_none_at_all():
    frame = Frame(512, 384)
    logits = np.full((256, 256), -4, np.float32)
    assert mask_from_logits(logits, frame).mask.size == 0
    logits[100, 250] = 1  # in the padding, which is cut off
    assert mask_from_logits(logits, frame).mask.size == 0
    logits[100, 50] = 100
    mask = _whole(mask_from_logits(logits, frame), frame)
    rows, columns = np.nonzero(mask)
    assert (rows.min(), rows.max(), columns.min(), columns.max()) == (199, 202, 99, 102)


def test_a_mask_made_in_strips_is_the_same(monkeypatch):
    frame, logits = Frame(700, 500), _smooth_logits(5)
    whole = mask_from_logits(logits, frame)
    monkeypatch.setattr(input_frame, "_PIXELS_AT_ONCE", 7 * 500)
    strips = mask_from_logits(logits, frame)
    assert (strips.rows, strips.columns) == (whole.rows, whole.columns)
    np.testing.assert_array_equal(strips.mask, whole.mask)


def _region(mask: np.ndarray) -> Region:
    return Region(slice(0, mask.shape[0]), slice(0, mask.shape[1]), mask)


def test_a_masks_box_depends_on_its_label():
    rows, columns = np.mgrid[:640, :640]
    disc = (rows - 320.5) ** 2 + (columns - 320.5) ** 2 <= 64.1**2
    frame = Frame(640, 640)
    one, ten = (box_from_mask(_region(disc), frame, value) for value in (1, 10))
    assert one is not None and ten is not None
    assert (ten[2] - ten[0]) - (one[2] - one[0]) in (1, 2)
    assert one[0] >= ten[0] and one[2] <= ten[2]


@pytest.mark.parametrize(("label", "survives"), [(1, False), (2, False), (3, True), (300, True)])
def test_a_tiny_object_survives_only_under_a_higher_label(label, survives):
    # 2x2 pixels of 1024x1024 that fill a quarter of one input pixel
    mask = np.zeros((1024, 1024), bool)
    mask[512:514, 400:402] = True
    box = box_from_mask(_region(mask), Frame(1024, 1024), label)
    assert (box is not None) == survives
    if survives:
        np.testing.assert_array_equal(box, [97, 125, 103, 131])


@pytest.mark.parametrize(("size", "survives"), [(512, True), (1024, False)])
def test_half_coverage_is_kept_when_halving_and_lost_when_quartering(size, survives):
    mask, factor = np.zeros((size, size), bool), size // 256
    mask[factor * 9 : factor * 9 + factor // 2, factor * 20 : factor * 21] = True
    box = box_from_mask(_region(mask), Frame(size, size), 1)
    assert (box is not None) == survives


def test_boxes_are_widened_and_clamped_to_the_square():
    mask = np.zeros((256, 256), bool)
    mask[1:255, 100] = True
    # The upper clamp is the size, one past the last index, as in the reference.
    np.testing.assert_array_equal(bounding_box(mask, 3, 256), [97, 0, 103, 256])
    np.testing.assert_array_equal(bounding_box(mask, 0, 256), [100, 1, 100, 254])
    assert bounding_box(np.zeros((256, 256), bool), 3, 256) is None


def test_a_masks_box_may_reach_into_the_padding():
    mask = np.zeros((256, 100), bool)
    mask[50:60, 95:] = True
    box = box_from_mask(_region(mask), Frame(256, 100), 1)
    np.testing.assert_array_equal(box, [92, 47, 102, 62])


def test_labels_are_resized_by_nearest_neighbour():
    labels = np.arange(12, dtype=np.uint16).reshape(3, 4) * 100
    found = resize_labels(labels, 6, 4)
    np.testing.assert_array_equal(found, labels[[0, 0, 1, 1, 2, 2]])
    assert resize_labels(labels, 3, 4) is labels
