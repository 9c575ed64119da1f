"""How a box's object is followed through the slices, with masks by script."""

import os

import numpy as np
import pytest

from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.inference import slice_order as sweep_module
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.inference.propagation import propagate_volume
from litemedsam_jax.inference.strategies import parse
from tests.support.fake_engine import FakeEngine

DEPTH = 12


def _volume(depth: int = DEPTH, size: int = 256) -> np.ndarray:
    """Each slice tells its number: its one bright pixel stands in that column of the input."""
    array = np.zeros((depth, size, size), np.uint8)
    step = size // 256
    for z in range(depth):
        array[z, :step, z * step : (z + 1) * step] = 255
    return array


def _slice_of(image: np.ndarray) -> int:
    return int(image[0, :, 0].argmax())


def _square(x: int, y: int, side: int) -> np.ndarray:
    logits = np.full((256, 256), -5, np.float32)
    logits[y : y + side, x : x + side] = 5
    return logits


def _scripted(masks: dict[int, np.ndarray]) -> FakeEngine:
    return FakeEngine(lambda image, _: masks.get(_slice_of(image), np.full((256, 256), -5.0)))


def _run(engine, boxes, volume=None, strategy="reference"):
    volume = _volume() if volume is None else volume
    boxes = np.array(boxes)
    return list(propagate_volume(engine, volume, boxes, parse(strategy)))


def _prompts(engine: FakeEngine) -> list[tuple[int, list[float]]]:
    return [(_slice_of(image), box.tolist()) for image, boxes in engine.calls for box in boxes]


def _around(x: int, y: int, side: int) -> list[float]:
    return [x - 3, y - 3, x + side + 2, y + side + 2]


def test_from_the_middle_up_then_down_both_ends_included():
    engine = FakeEngine()
    found = _run(engine, [[50, 60, 1, 90, 99, 4]])
    assert [(z, label) for z, label, _ in found] == [(2, 1), (3, 1), (4, 1), (1, 1)]
    assert [_slice_of(image) for image in engine.images] == [2, 3, 4, 1]


@pytest.mark.parametrize(
    ("first", "last", "middle"), [(0, 1, 0), (2, 7, 4), (3, 7, 5), (11, 11, 11)]
)
def test_the_middle_slice_is_rounded_down(first, last, middle):
    engine = FakeEngine()
    found = _run(engine, [[50, 60, first, 90, 99, last]])
    assert found[0][0] == middle
    assert sorted(z for z, *_ in found) == list(range(first, last + 1))


def test_each_slice_is_prompted_by_the_mask_before_and_the_middle_by_the_box():
    given = [50, 60, 90, 99]
    squares = {z: (100 + z, 40, 10 + z) for z in range(DEPTH)}
    engine = _scripted({z: _square(*square) for z, square in squares.items()})
    _run(engine, [[50, 60, 3, 90, 99, 8]])
    assert _prompts(engine) == [
        (5, given),
        (6, _around(*squares[5])),
        (7, _around(*squares[6])),
        (8, _around(*squares[7])),
        (4, _around(*squares[5])),  # the way down starts from the middle again
        (3, _around(*squares[4])),
    ]


def test_after_an_empty_slice_the_given_box_prompts_again():
    given = [50, 60, 90, 99]
    engine = _scripted({z: _square(100, 40, 10) for z in (3, 6, 7)})
    _run(engine, [[50, 60, 3, 90, 99, 9]])
    assert _prompts(engine) == [
        (6, given),
        (7, _around(100, 40, 10)),
        (8, _around(100, 40, 10)),
        (9, given),  # 8 was empty: not the box of 7 again
        (5, _around(100, 40, 10)),
        (4, given),
        (3, given),
    ]


def test_an_empty_middle_slice_has_no_memory_of_what_was_found_above():
    given = [50, 60, 90, 99]
    engine = _scripted({z: _square(100, 40, 10) for z in (6, 7)})
    _run(engine, [[50, 60, 3, 90, 99, 8]])
    assert [box for z, box in _prompts(engine) if z in (5, 6, 4, 3)] == [given] * 4


def test_boxes_do_not_influence_one_another():
    boxes = [[10, 10, 0, 40, 40, 6], [100, 100, 2, 150, 150, 11], [60, 5, 4, 90, 30, 4]]
    together = FakeEngine()
    _run(together, boxes)
    asked = {(z, tuple(box)) for z, box in _prompts(together)}
    for box in boxes:
        alone = FakeEngine()
        _run(alone, [box])
        assert {(z, tuple(prompt)) for z, prompt in _prompts(alone)} <= asked


def test_a_slice_is_encoded_once_and_its_boxes_decoded_together():
    engine = FakeEngine()
    _run(engine, [[10, 10, 0, 40, 40, 11], [100, 100, 0, 150, 150, 11], [60, 5, 2, 90, 30, 9]])
    assert sorted(_slice_of(image) for image in engine.images) == list(range(DEPTH))
    assert len(engine.calls) == DEPTH


def test_slices_without_a_box_are_not_encoded():
    engine = FakeEngine()
    _run(engine, [[10, 10, 1, 40, 40, 2], [100, 100, 8, 150, 150, 9]])
    assert sorted(_slice_of(image) for image in engine.images) == [1, 2, 8, 9]


# Two boxes one above the other: slices 0 to 7 are needed on both ways.
OVERLAPPING = [[10, 10, 0, 40, 40, 7], [100, 100, 0, 150, 150, 15], [60, 60, 4, 90, 90, 11]]


@pytest.mark.parametrize("kept", [0, 1, 3, 96])
def test_kept_embeddings_are_bounded_and_the_right_ones(monkeypatch, kept):
    volume = _volume(16)
    monkeypatch.setattr(sweep_module, "KEPT_EMBEDDINGS", 96)
    free = FakeEngine()
    _run(free, OVERLAPPING, volume)
    monkeypatch.setattr(sweep_module, "KEPT_EMBEDDINGS", kept)
    bounded = FakeEngine()
    _run(bounded, OVERLAPPING, volume)
    assert _prompts(bounded) == _prompts(free)
    assert bounded.most_alive <= kept + 2  # the one at work, and the one before it
    assert len(bounded.images) >= len(free.images) == 16


def test_more_boxes_than_are_decoded_at_once_keep_their_order():
    boxes = [[k, k, 3, k + 20, k + 30, 4] for k in range(1, 80)]
    found = _run(FakeEngine(), boxes)
    assert [(z, label) for z, label, _ in found] == [(z, k) for z in (3, 4) for k in range(1, 80)]
    for z, label, region in found[:79]:
        rows, columns = np.nonzero(region.mask)
        assert z == 3
        assert region.rows.start + rows.min() == label
        assert region.columns.start + columns.min() == label


def _small_object(size: int) -> tuple[FakeEngine, np.ndarray]:
    """Masks of 2x2 pixels in 1024x1024: a quarter of one input pixel."""
    logits = np.full((256, 256), -250, np.float32)
    logits[100, 120] = 100
    return FakeEngine(lambda *_: logits), _volume(4, size)


def test_reference_propagation_depends_on_the_boxs_number():
    engine, volume = _small_object(1024)
    boxes = [[400, 400, 0, 600, 600, 3]] * 3
    _run(engine, boxes, volume)
    given, around = [100, 100, 150, 150], [117, 97, 123, 103]
    after_middle = [box for z, box in _prompts(engine) if z == 2]
    assert after_middle == [given, given, around]  # survives at about 1 / (2 k) of a pixel


def test_clean_propagation_does_not():
    engine, volume = _small_object(1024)
    _run(engine, [[400, 400, 0, 600, 600, 3]] * 3, volume, "clean")
    assert {tuple(box) for _, box in _prompts(engine)} == {(100, 100, 150, 150)}


def test_where_boxes_overlap_the_later_one_wins_in_every_slice():
    # In slices 3 and 4 the first box is worked on after the second one, on its way down, and must
    # lose all the same.
    boxes = np.array([[20, 20, 0, 80, 80, 11], [50, 50, 2, 120, 120, 4]])
    segs = LiteMedSAM(FakeEngine(lambda _, box: _square(*box[:2].astype(int), 40))).segment_volume(
        _volume(), boxes, "clean"
    )
    assert segs.shape == (DEPTH, 256, 256) and segs.dtype == np.uint8
    assert set(np.unique(segs)) == {0, 1, 2}
    for z in (2, 3, 4):
        assert (segs[z] == 2).sum() == 40 * 40
    assert (segs[[0, 1, *range(5, 12)]] == 2).sum() == 0


def test_more_than_255_boxes_get_uint16_labels():
    boxes = np.array([[k % 16 * 15, k // 16 * 14, 1, k % 16 * 15 + 5, k // 16 * 14 + 5, 1]
                      for k in range(256)])  # fmt: skip
    segs = LiteMedSAM(FakeEngine()).segment_volume(_volume(), boxes)
    assert segs.dtype == np.uint16
    assert set(np.unique(segs)) == set(range(257))
    assert LiteMedSAM(FakeEngine()).segment_volume(_volume(), boxes[:255]).dtype == np.uint8


def test_colour_volumes():
    colour = np.stack([_volume()] * 3, axis=-1)
    grey, rgb = FakeEngine(), FakeEngine()
    box = [[50, 60, 1, 90, 99, 4]]
    assert len(_run(rgb, box, colour)) == len(_run(grey, box))
    np.testing.assert_array_equal(rgb.images, grey.images)


@pytest.mark.parametrize(
    ("z", "slices"), [((-1, 3), range(4)), ((9, DEPTH), range(9, DEPTH)), ((5, 4), (4, 5))]
)
def test_ranges_are_put_in_order_and_clipped_and_boxes_outside_refused(z, slices):
    segs = LiteMedSAM(FakeEngine()).segment_volume(
        _volume(), np.array([10, 10, z[0], 30, 30, z[1]])
    )
    assert np.flatnonzero(segs.any(axis=(1, 2))).tolist() == list(slices)
    with pytest.raises(CaseError, match="outside the image"):
        LiteMedSAM(FakeEngine()).segment_volume(_volume(), np.array([10, 10, 20, 30, 30, 25]))


@pytest.mark.parametrize("strategy", ["reference", "best"])
def test_slices_encoded_ahead_give_the_same(strategy, monkeypatch):
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(8)), raising=False)
    found = []
    for count in ("1", "8"):
        monkeypatch.setenv("PJRT_NPROC", count)
        engine = FakeEngine()
        model = LiteMedSAM(engine)
        found.append(model.segment_volume(_volume(), np.array(OVERLAPPING), strategy))
        assert len({_slice_of(image) for image in engine.images}) == len(engine.images)
    assert found[0].any() and np.array_equal(*found)
