"""Strategies beyond the reference's: what is prompted, what is encoded, which pixels may be set."""

import numpy as np
import pytest

from litemedsam_jax.imaging import ellipsoid_prior
from litemedsam_jax.imaging.input_frame import Frame, Scores, edges_to_input
from litemedsam_jax.imaging.label_map import paint_by_score
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.inference.strategies import CLEAN, PARTS, REFERENCE, parse, parts_of
from tests.support.fake_engine import FakeEngine

VOLUME = np.zeros((9, 256, 256), np.uint8)
BOX = np.array([[60, 80, 1, 159, 119, 7]])
EVERYWHERE = FakeEngine(lambda *_: np.full((256, 256), 5.0), record=False)


def _segment(strategy, script=None, volume=VOLUME, boxes=BOX):
    engine = FakeEngine(script)
    return LiteMedSAM(engine).segment_volume(volume, boxes, strategy), engine


def _prompts(engine):
    return [box.tolist() for _, boxes in engine.calls for box in boxes]


def test_names_and_parts():
    assert parse("reference") is REFERENCE and parse("clean") is CLEAN and parse(CLEAN) is CLEAN
    assert parts_of(parse("best")) < parts_of(parse("thorough")) == PARTS.keys()
    assert parts_of(parse("box+clip")) == {"box", "clip"}
    with pytest.raises(ValueError, match=r"'bst'.*reference, clean, best, thorough.*ellipsoid"):
        parse("bst")


@pytest.mark.parametrize("strategy", ["best", "thorough", "box+clip", "propagate+clip+prior"])
def test_nothing_is_set_outside_the_box_or_its_slices(strategy):
    labels = LiteMedSAM(EVERYWHERE).segment_volume(VOLUME, BOX, strategy)
    inside = np.zeros(VOLUME.shape, bool)
    inside[1:8, 80:120, 60:160] = True
    assert labels[inside].any() and not labels[~inside].any()


def test_a_box_in_every_slice_asks_the_same_of_each():
    labels, engine = _segment("box+clip")
    assert _prompts(engine) == [[60, 80, 159, 119]] * 7
    assert labels[1:8, 80:120, 60:160].all()


def test_the_ellipsoids_sections_shrink_towards_the_ends_about_the_same_centre():
    _, engine = _segment("ellipsoid")
    boxes = np.array(_prompts(engine))
    widths = boxes[:, 2] - boxes[:, 0]
    assert widths[0] > widths[1] > widths[2] > widths[3]  # 4 (the middle), 5, 6, 7
    np.testing.assert_allclose((boxes[:, 0] + boxes[:, 2]) / 2, 109.5, atol=1e-4)


def test_an_object_cut_by_the_volumes_end_does_not_shrink_towards_it():
    np.testing.assert_array_equal(ellipsoid_prior.distances(0, 8, 9), np.zeros(9))
    assert (np.diff(ellipsoid_prior.distances(0, 4, 9)) > 0).all()
    assert (np.diff(ellipsoid_prior.distances(4, 8, 9)) < 0).all()
    both = ellipsoid_prior.distances(2, 6, 9)
    np.testing.assert_allclose(both, both[::-1])


def test_the_mask_before_is_followed_but_not_out_of_the_box():
    def drifting(image, box):  # a mask that is always 20 pixels right of its prompt
        logits = np.full((256, 256), -5.0)
        logits[80:120, int(box[0]) + 20 : int(box[2]) + 20] = 5
        return logits

    _, engine = _segment("propagate", drifting)
    boxes = np.array(_prompts(engine))
    assert boxes[:, 0].max() > 80  # it follows
    assert boxes[:, 2].max() <= 159 + 5 and boxes[:, 0].min() >= 60 - 5


def test_a_mask_that_is_lost_is_looked_for_in_the_whole_box_again():
    _, engine = _segment("propagate", lambda *_: np.full((256, 256), -5.0))
    assert {tuple(box) for box in _prompts(engine)} == {(57, 77, 162, 122)}


def test_the_prior_decides_where_prompts_disagree():
    def half(image, box):  # the given box says yes everywhere, what follows from masks says no
        given = box[0] == 60
        return np.full((256, 256), 4.0 if given else -4.0)

    labels, _ = _segment("box+ellipsoid+prior+clip", half)
    middle = labels[4]
    assert middle[100, 110] == 1  # the centre
    assert middle[81, 61] == 0  # a corner


@pytest.mark.parametrize("colours", [(), (3,)])
def test_intensities_decide_where_prompts_are_undecided(colours):
    volume = np.full((9, 256, 256, *colours), 50, np.uint8)
    volume[1:8, 90:110, 90:130] = 180

    def unsure(image, box):  # sure of a part of the object, undecided about the rest of the box
        logits = np.full((256, 256), 0.1)
        logits[95:105, 100:120] = 4
        return logits

    labels, _ = _segment("box+clip", unsure, volume)
    assert labels[1:8, 80:120, 60:160].all()
    labels, _ = _segment("box+intensity+clip", unsure, volume)
    expected = volume.reshape(*volume.shape[:3], -1)[..., 0] == 180
    np.testing.assert_array_equal(labels > 0, expected)


def test_of_two_objects_that_claim_a_voxel_the_one_in_the_smaller_box_gets_it():
    large, small = [60, 80, 1, 159, 119, 7], [90, 90, 3, 119, 109, 5]

    def larger_is_surer(image, box):
        return np.full((256, 256), 4.0 if box[2] - box[0] > 50 else 3.0)

    for boxes in ([large, small], [small, large]):
        labels, _ = _segment("box+clip", larger_is_surer, boxes=np.array(boxes))
        assert (labels[3:6, 90:110, 90:120] == 1 + boxes.index(small)).all()
        assert (labels[4, 80:89, 60:160] == 1 + boxes.index(large)).all()


def test_each_slice_is_encoded_once_and_mirroring_doubles_that():
    _, engine = _segment("best")
    assert len(engine.images) == 7
    _, engine = _segment("thorough")
    assert len(engine.images) == 14


def test_mirrored_boxes_find_the_mirrored_object_and_masks_come_back():
    image = np.zeros((100, 200, 3), np.uint8)
    image[20:40, 30:60] = 255
    box = np.array([[30, 20, 59, 39]])
    engine = FakeEngine(lambda image, box: np.where(image[..., 0] > 0.5, 5.0, -5.0))
    labels = LiteMedSAM(engine).segment_image(image, box, "mirror")
    np.testing.assert_array_equal(labels, image[..., 0] // 255)
    (_, plain), (_, mirrored) = engine.calls
    np.testing.assert_allclose(plain[0] + mirrored[0][[2, 1, 0, 3]] * [1, -1, 1, -1],
                               [255, 0, 255, 0], atol=1e-3)  # fmt: skip


def test_where_masks_overlap_the_more_certain_wins_whatever_the_order():
    one = Scores(slice(0, 2), slice(0, 2), np.array([[1.0, 3.0], [-1.0, 2.0]], np.float32))
    other = Scores(slice(0, 2), slice(0, 2), np.array([[2.0, 1.0], [-1.0, 2.0]], np.float32))
    for order in ([(one, 1), (other, 2)], [(other, 2), (one, 1)]):
        labels, certain = np.zeros((2, 2), np.uint8), np.zeros((2, 2), np.uint8)
        for scores, label in order:
            paint_by_score(labels, certain, scores, label)
        np.testing.assert_array_equal(labels, [[2, 1], [0, 2]])


def test_objects_below_one_input_pixel_have_prompts_that_are_not_inverted():
    # 4x4 and 4x20 cells of a 3000x4000 image: an input pixel is 15.6 of the image's.
    corners = np.array([[x, y] for y in range(100, 2900, 200) for x in range(100, 3900, 200)])
    boxes = np.concatenate(
        [np.hstack([corners, corners + np.array([3, side])]) for side in (3, 19)]
    )
    engine = FakeEngine()
    labels = LiteMedSAM(engine).segment_image(np.zeros((3000, 4000), np.uint8), boxes, "best")
    prompts = np.array(_prompts(engine))
    assert len(prompts) >= 2 * len(boxes) and (prompts[:, :2] <= prompts[:, 2:]).all()
    assert labels.shape == (3000, 4000)


@pytest.mark.parametrize(("tight_part", "expected"), [(60, 60), (30, 40)])
def test_where_widened_boxes_see_something_else_the_fuller_mask_wins(tight_part, expected):
    def either_side(image, box):  # the box as it is: its left part; widened: its right 40 columns
        logits = np.full((256, 256), -5.0)
        if box[0] == 60:
            logits[80:120, 60 : 60 + tight_part] = 5
        else:
            logits[80:120, 120:160] = 5
        return logits

    engine = FakeEngine(either_side)
    image = np.zeros((256, 256), np.uint8)
    labels = LiteMedSAM(engine).segment_image(image, np.array([[60, 80, 159, 119]]), "margin+clip")
    assert (labels > 0).sum() == 40 * expected


def _masked(logits, strategy, image=None, box=(60, 80, 159, 119)):
    """The pixels set in an image (256, 256), whatever the prompt."""
    image = np.zeros((256, 256), np.uint8) if image is None else image
    engine = FakeEngine(lambda *_: logits)
    return LiteMedSAM(engine).segment_image(image, np.array([box]), strategy) > 0


@pytest.mark.parametrize(("around", "reached"), [(-1.0, True), (-1.9, True), (-2.1, False)])
def test_a_mask_is_raised_until_it_reaches_the_sides_of_its_box_but_not_by_more(around, reached):
    logits = np.full((256, 256), -9.0)
    logits[85:115, 70:150] = around
    logits[80:120, 110] = logits[100, 60:160] = around  # the object's tips: to all four sides
    logits[90:110, 80:140] = 4
    mask = _masked(logits, "clip+extent")
    np.testing.assert_array_equal(mask, logits >= (around if reached else 4))


def test_a_mask_that_almost_reaches_its_box_stays():
    logits = np.full((256, 256), -1.0)
    logits[81:119, 62:158] = 4
    np.testing.assert_array_equal(_masked(logits, "clip+extent"), logits > 0)


def test_in_an_image_too_the_prior_and_the_intensities_decide_what_is_undecided():
    undecided = np.full((256, 256), 0.02)
    mask = _masked(undecided, "clip+prior")
    assert mask[100, 110] and not mask[81, 61]
    undecided[95:105, 100:120] = 4
    image = np.full((256, 256), 50, np.uint8)
    image[90:110, 90:130] = 180
    np.testing.assert_array_equal(_masked(undecided, "clip+intensity", image), image == 180)
    colours = np.stack([image] * 3, axis=-1)
    np.testing.assert_array_equal(_masked(undecided, "clip+intensity", colours), image == 180)


def test_edges_are_those_of_the_last_pixel():
    np.testing.assert_allclose(
        edges_to_input(np.array([[8, 16, 15, 31]]), Frame(32, 32)), [[64, 128, 127, 255]]
    )


def test_a_window_enlarges_what_is_small_and_the_whole_still_counts():
    image = np.zeros((512, 512), np.uint8)
    image[100:120, 100:120] = 200
    engine = FakeEngine()
    labels = LiteMedSAM(engine).segment_image(image, np.array([[100, 100, 119, 119]]), "best")
    whole, window = engine.images
    assert (window[..., 0] > 0.5).sum() > 8 * (whole[..., 0] > 0.5).sum()
    expected = np.zeros((512, 512), np.uint8)
    expected[100:120, 100:120] = 1
    np.testing.assert_array_equal(labels, expected)


@pytest.mark.parametrize(("strategy", "most"), [("best", 6), ("thorough", 16), ("zoom+mirror", 6)])
def test_no_image_takes_more_passes_than_its_strategy_allows(strategy, most):
    y, x = np.divmod(np.arange(400), 20)
    crowd = np.stack([x * 50, y * 50, x * 50 + 18, y * 50 + 18], axis=1)
    strewn = crowd[[0, 19, 47, 111, 168, 205, 272, 333, 380, 399]]
    for boxes in (crowd, strewn):
        engine = FakeEngine()
        LiteMedSAM(engine).segment_image(np.zeros((1000, 1000), np.uint8), boxes, strategy)
        assert 1 < len(engine.images) <= most


def test_best_takes_three_passes_an_image_on_average_and_thorough_eight(shared):
    cases = sorted((shared / "cases" / "imgs").glob("2D*.npz"))
    if not cases:
        pytest.skip(f"{shared}/cases is not here: passes are not counted")
    for strategy, most in (("best", 3), ("thorough", 8)):
        engine = FakeEngine()
        for path in cases:
            case = np.load(path)
            LiteMedSAM(engine).segment_image(case["imgs"], case["boxes"], strategy)
        assert len(engine.images) / len(cases) <= most


def test_more_than_255_boxes_and_boxes_at_the_edge():
    boxes = np.array([[k % 16 * 16, k // 16 * 15, k % 16 * 16 + 16, k // 16 * 15 + 15]
                      for k in range(256)])  # fmt: skip
    image = np.zeros((240, 256, 3), np.uint8)
    labels = LiteMedSAM(FakeEngine()).segment_image(image, boxes, "margin+clip")
    assert labels.dtype == np.uint16 and labels.shape == (240, 256) and labels.max() == 256
