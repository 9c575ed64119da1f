"""Masks from a box on one slice: which slices are visited, when it stops, in which frame."""

import numpy as np
import pytest

from litemedsam_jax import SliceBox, SlicePrompt
from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.inference.slice_propagation import EncodedVolume, propagate
from tests.support.fake_engine import FakeEngine

DEPTH = 20
BOX = (60, 80, 119, 139)
VOLUME = np.zeros((DEPTH, 256, 256), np.uint8)


def _bright(image: np.ndarray, _: np.ndarray) -> np.ndarray:
    """A network that sees what is bright and nothing else."""
    logits = np.where(image[..., 0] > 0.5, 5.0, -5.0)
    logits[0, 0] = -5  # the dot that `_cylinder` makes
    return logits


def _cylinder(first: int, last: int) -> np.ndarray:
    """A volume with one bright square on some slices; a dot keeps every slice's extremes alike."""
    volume = np.zeros((DEPTH, 256, 256), np.uint8)
    volume[:, 0, 0] = 255
    volume[first : last + 1, 80:140, 60:120] = 255
    return volume


def _masks(volume, prompt, script=_bright):
    engine = FakeEngine(script)
    return list(LiteMedSAM(engine).propagate(volume, prompt)), engine


def test_slices_come_outwards_from_the_drawn_one_each_once():
    masks, engine = _masks(_cylinder(6, 12), SlicePrompt((SliceBox(9, BOX),), 6, 12))
    indices = [mask.index for mask in masks]
    assert indices[0] == 9 and sorted(indices) == list(range(6, 13))
    assert np.all(np.diff(np.abs(np.array(indices) - 9)) >= 0)
    assert len(engine.images) == 7


def test_it_stops_where_the_object_ends_and_encodes_little_beyond():
    masks, engine = _masks(_cylinder(6, 12), SlicePrompt((SliceBox(9, BOX),)))
    assert sorted(mask.index for mask in masks) == list(range(6, 13))
    assert len(engine.images) <= 1.3 * 7


def test_a_closed_generator_encodes_no_more():
    engine = FakeEngine(_bright)
    slices = LiteMedSAM(engine).propagate(_cylinder(0, 19), SlicePrompt((SliceBox(9, BOX),)))
    next(slices)
    slices.close()
    assert len(engine.images) == 1


@pytest.mark.parametrize("axis", ["z", "y", "x"])
def test_any_plane_gives_the_same_mask_in_the_volumes_frame(axis):
    upright = _cylinder(6, 12)[:, :250]
    order = {"z": (0, 1, 2), "y": (1, 0, 2), "x": (1, 2, 0)}[axis]
    volume = np.transpose(upright, order)  # its slices along `axis` are the upright one's
    prompt = SlicePrompt((SliceBox(9, BOX, axis),), 6, 12, label=3)
    labels = LiteMedSAM(FakeEngine(_bright)).segment_from_slices(volume, [prompt])
    expected = np.zeros(upright.shape, np.uint8)
    expected[6:13, 80:140, 60:120] = 3
    wrong = labels != np.transpose(expected, order)  # the prior rounds corners
    assert wrong.sum() < 0.01 * (expected > 0).sum()


def test_objects_of_one_volume_share_its_encoded_slices():
    volume = _cylinder(6, 12)
    volume[6:13, 200:240, 200:240] = 255
    engine = FakeEngine(lambda image, box: np.where(_inside(image.shape, box), 5.0, -5.0))
    prompts = [SlicePrompt((SliceBox(9, box),), 6, 12, label)
               for label, box in ((1, BOX), (2, (200, 200, 239, 239)))]  # fmt: skip
    done = []
    labels = LiteMedSAM(engine).segment_from_slices(volume, prompts, lambda *two: done.append(two))
    assert done == [(0, 2), (1, 2), (2, 2)]
    assert len(engine.images) == 7
    assert set(np.unique(labels[6:13])) == {0, 1, 2}


def _inside(shape, box):
    mask = np.zeros(shape[:2], bool)
    mask[int(box[1]) : int(box[3]) + 1, int(box[0]) : int(box[2]) + 1] = True
    return mask


def test_several_boxes_of_an_object_guide_it_from_one_to_the_next():
    engine = FakeEngine(lambda image, box: np.where(_inside(image.shape, box), 5.0, -5.0))
    boxes = (SliceBox(4, (40, 40, 79, 79)), SliceBox(10, (100, 40, 139, 79)))
    prompt = SlicePrompt(boxes, 4, 10)
    masks = {mask.index: mask.region for mask in LiteMedSAM(engine).propagate(VOLUME, prompt)}
    assert sorted(masks) == list(range(4, 11)) and len(engine.images) == 7
    centres = [
        region.columns.start + np.flatnonzero(region.mask.any(axis=0)).mean()
        for _, region in sorted(masks.items())
    ]
    np.testing.assert_allclose(centres, np.linspace(59.5, 119.5, 7), atol=6)


def test_a_box_in_another_plane_bounds_the_object():
    side = SliceBox(100, (60, 6, 119, 12), "y")  # x and z of a coronal slice
    masks, engine = _masks(_cylinder(0, 19), SlicePrompt((SliceBox(9, BOX), side)))
    assert sorted(mask.index for mask in masks) == list(range(6, 13)) and len(engine.images) == 7


def test_what_a_subtracting_box_holds_is_taken_away():
    volume = _cylinder(6, 12)
    hole = SliceBox(9, (90, 100, 104, 114), subtract=True)
    prompt = SlicePrompt((SliceBox(9, BOX), hole), 6, 12)
    engine = FakeEngine(lambda image, box: np.where(_inside(image.shape, box), 5.0, -5.0))
    labels = LiteMedSAM(engine).segment_from_slices(volume, [prompt])
    assert labels[9, 90, 70] == 1 and labels[9, 107, 97] == 0
    assert len(engine.images) == 7


def test_previews_come_at_once_and_final_masks_when_the_end_is_found():
    encoded = EncodedVolume(FakeEngine(_bright), _cylinder(6, 12))
    prompt = SlicePrompt((SliceBox(9, BOX),))
    masks = list(propagate(encoded, prompt, previews=True))
    assert masks[0].index == 9 and masks[0].final and not masks[1].final
    assert sorted(mask.index for mask in masks if mask.final) == list(range(6, 13))


def test_a_volume_encoded_along_another_axis_is_refused():
    encoded = EncodedVolume(FakeEngine(), _cylinder(6, 12), "y")
    with pytest.raises(ValueError, match=r"along y.*across z"):
        next(propagate(encoded, SlicePrompt((SliceBox(9, BOX),))))


@pytest.mark.parametrize(
    ("boxes", "message"),
    [
        ([SliceBox(20, BOX)], "slice 20 along z; the volume has 20"),
        ([SliceBox(9, (300, 0, 310, 10))], "outside of the slice of 256x256"),
        ([SliceBox(9, (np.nan, 0, 310, 10))], "4, finite"),
        ([SliceBox(9, BOX, subtract=True)], "not subtracted"),
        ([SliceBox(2, BOX)], "outside of its range, 6 to 12"),
        ([SliceBox(9, BOX), SliceBox(9, (1, 1, 5, 5))], "several boxes on slice 9"),
        ([SliceBox(9, BOX), SliceBox(9, (1, 1, 5, 5), "x", True)], "lies across x"),
    ],
)
def test_prompts_that_do_not_fit_are_refused(boxes, message):
    with pytest.raises(CaseError, match=message):
        _masks(_cylinder(6, 12), SlicePrompt(tuple(boxes), 6, 12))
    with pytest.raises(CaseError, match="axis 'a'"):
        SliceBox(1, BOX, "a")


def test_a_line_becomes_the_box_of_an_ellipse():
    box = SliceBox.around_line(4, (100, 100, 140, 100)).box
    assert box == (100, 86, 140, 114)
    slanted = SliceBox.around_line(4, (100, 100, 130, 140)).box
    np.testing.assert_allclose(slanted, (94.48, 97.41, 135.52, 142.59), atol=0.01)
