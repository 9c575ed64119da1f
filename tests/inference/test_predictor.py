"""The Python interface: shapes, types, frames, prompts; the same answer every time."""

import numpy as np
import pytest

import litemedsam_jax
from litemedsam_jax.inference.predictor import LiteMedSAM
from tests.conftest import REPOSITORY
from tests.support.batches import read_npz
from tests.support.fake_engine import FakeEngine


@pytest.fixture(scope="module")
def cells() -> dict[str, np.ndarray]:
    return read_npz(REPOSITORY / "demo" / "imgs" / "2DBox_Microscope_dsb2018_crop256.npz")


@pytest.fixture
def ready(model, cells) -> LiteMedSAM:
    model.set_image(cells["imgs"])
    return model


def test_the_package_offers_the_predictor():
    assert litemedsam_jax.LiteMedSAM is LiteMedSAM


def test_shapes_types_and_frames(ready, cells):
    masks, iou, logits = ready.predict(boxes=cells["boxes"])
    count = len(cells["boxes"])
    assert masks.shape == (count, 256, 256) and masks.dtype == bool
    assert iou.shape == (count,) and logits.shape == (count, 256, 256)
    assert iou.dtype == logits.dtype == np.float32
    assert np.isfinite(logits).all() and ((iou > 0) & (iou < 1.1)).all()
    for mask, (x_min, y_min, x_max, y_max) in zip(masks, cells["boxes"], strict=True):
        rows, columns = np.nonzero(mask)  # x to the right, y down, pixels of the image
        assert x_min - 4 <= columns.min() and columns.max() <= x_max + 4
        assert y_min - 4 <= rows.min() and rows.max() <= y_max + 4


def test_a_small_image_gets_masks_of_its_own_size(model, cells):
    image = cells["imgs"][:150, :100]
    model.set_image(image)
    masks, _, logits = model.predict(boxes=[10, 10, 60, 60])
    assert masks.shape == (1, 150, 100) and logits.shape == (1, 256, 256)


def test_boxes_together_are_as_boxes_alone(ready, cells):
    boxes = cells["boxes"][:4]
    _, iou, logits = ready.predict(boxes=boxes)
    for index, box in enumerate(boxes):
        _, iou_alone, alone = ready.predict(boxes=box)
        np.testing.assert_allclose(alone[0], logits[index], atol=1e-4)
        np.testing.assert_allclose(iou_alone[0], iou[index], atol=1e-5)


def test_the_same_image_gives_the_same_bits(model, cells):
    boxes = cells["boxes"][:3]
    results = []
    for image in (cells["imgs"], cells["imgs"][::-1], cells["imgs"]):
        model.set_image(np.ascontiguousarray(image))
        results.append(model.predict(boxes=boxes))
    for first, between, again in zip(*results, strict=True):
        np.testing.assert_array_equal(first, again)
        assert not np.array_equal(first, between)


def test_two_images_do_not_share_a_buffer(model, cells):
    first = model.engine.encode(_input(cells["imgs"]))
    before = np.array(first)
    model.engine.encode(_input(cells["imgs"][::-1]))
    np.testing.assert_array_equal(np.array(first), before)


def _input(image: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(image, np.float32) / 255


def test_three_masks_a_prompt(ready, cells):
    masks, iou, logits = ready.predict(boxes=cells["boxes"][:2], multimask=True)
    assert masks.shape == (2, 3, 256, 256) and iou.shape == (2, 3)
    assert logits.shape == (2, 3, 256, 256)
    assert not np.array_equal(logits[:, 0], logits[:, 1])


def test_points_and_earlier_masks_are_prompts_too(ready, cells):
    box = cells["boxes"][:1]
    _, _, by_box = ready.predict(boxes=box)
    centre = (box[:, :2] + box[:, 2:])[:, None] / 2
    masks, iou, by_point = ready.predict(points=centre, point_labels=np.ones((1, 1)))
    assert masks.shape == (1, 256, 256) and iou.shape == (1,)
    _, _, refined = ready.predict(boxes=box, mask_logits=by_box)
    _, _, corrected = ready.predict(boxes=box, points=centre, point_labels=np.zeros((1, 1)))
    for other in (by_point, refined, corrected):
        assert other.shape == by_box.shape and np.isfinite(other).all()
        assert np.abs(other - by_box).max() > 0.1


def test_points_are_in_pixels_of_the_image():
    seen = []

    class Engine(FakeEngine):
        def decode_prompts(self, embedding, multimask, **prompts):
            seen.append(prompts)
            return np.zeros((1, 1, 256, 256), np.float32), np.zeros((1, 1), np.float32)

    model = LiteMedSAM(Engine())
    model.set_image(np.zeros((512, 400), np.uint8))
    model.predict(points=[[[100, 51], [3, 7]]], point_labels=[[1, 0]])
    points, labels = seen[0]["points"]
    np.testing.assert_array_equal(points, [[[50, 25.5], [1.5, 3.5]]])
    np.testing.assert_array_equal(labels, [[1, 0]])


def test_points_need_labels(ready):
    with pytest.raises(ValueError, match="point_labels"):
        ready.predict(points=np.ones((1, 1, 2)))


@pytest.mark.parametrize("boxes", [None, np.zeros((0, 4))])
def test_a_prompt_is_needed(ready, boxes):
    with pytest.raises(ValueError, match="boxes, points or mask_logits"):
        ready.predict(boxes=boxes)


def test_an_image_is_needed_first():
    with pytest.raises(RuntimeError, match="set_image"):
        LiteMedSAM(FakeEngine()).predict(boxes=[1, 2, 3, 4])


@pytest.mark.parametrize(
    "image",
    [
        np.zeros((5, 6, 4), np.uint8),
        np.zeros(7, np.uint8),
        np.zeros((0, 5), np.uint8),
        np.full((5, 6), np.nan),
        np.full((5, 6), np.inf, np.float32),
        np.zeros((5, 6), complex),
    ],
)
def test_images_that_cannot_be_are_refused(image):
    with pytest.raises(ValueError, match="expected an image"):
        LiteMedSAM(FakeEngine()).set_image(image)


@pytest.mark.parametrize("dtype", ["bool", "int8", "int64", "uint16", "float16", "float64"])
def test_images_of_any_type_of_number(dtype):
    model = LiteMedSAM(FakeEngine())
    model.set_image(np.eye(300).astype(dtype))
    assert model.predict(boxes=[0, 0, 9, 9])[0].shape == (1, 300, 300)


def test_a_later_box_wins_in_a_picture():
    labels = LiteMedSAM(FakeEngine()).segment_image(
        np.zeros((256, 256, 3), np.uint8), np.array([[10, 10, 99, 99], [50, 50, 59, 59]])
    )
    assert labels.dtype == np.uint8 and labels[55, 55] == 2 and labels[20, 20] == 1
    assert (labels == 2).sum() == 100 and (labels == 1).sum() == 8000


def test_more_than_255_boxes_in_a_picture():
    boxes = np.array([[k % 32 * 8, k // 32 * 8, k % 32 * 8 + 3, k // 32 * 8 + 3]
                      for k in range(700)])  # fmt: skip
    labels = LiteMedSAM(FakeEngine()).segment_image(np.zeros((256, 256), np.uint8), boxes)
    assert labels.dtype == np.uint16
    assert (np.bincount(labels.ravel())[1:] == 16).all() and labels.max() == 700
