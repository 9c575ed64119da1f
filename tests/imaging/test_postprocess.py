"""Cleaning masks by named steps."""

import numpy as np
import pytest

from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.imaging.postprocess import parse, postprocess


def _clean(labels, text, spacing=None):
    return postprocess(labels, parse(text), spacing)


@pytest.fixture
def labels():
    """A box with a cavity that holds another label, and a part of its own."""
    array = np.zeros((20, 30, 30), np.uint8)
    array[5:15, 5:20, 5:20] = 1
    array[8:11, 8:12, 8:12] = 0
    array[9, 9, 9] = 2
    array[2:4, 25:27, 25:27] = 1
    return array


def test_holes_are_filled_but_not_with_what_is_another_label(labels):
    filled = _clean(labels, "fill-holes")
    assert (filled[8:11, 8:12, 8:12] > 0).all() and filled[9, 9, 9] == 2
    assert (filled[labels > 0] == labels[labels > 0]).all()
    assert filled.sum() - labels.sum() == 3 * 4 * 4 - 1


def test_the_hull_of_each_slice_takes_nothing_from_another_label(labels):
    labels[12, 5:20, 12:20] = 0  # leaves a half, whose hull is itself
    labels[13, 6:19, 8:20] = 0  # leaves a bracket
    labels[13, 10, 12] = 3
    hull = _clean(labels, "hull")
    assert (hull[labels > 0] == labels[labels > 0]).all()
    assert (hull[12] == labels[12]).all() and hull[9, 8:11, 8:12].all()
    assert (hull[13, 6:19, 5:19] > 0).all() and hull[13, 10, 12] == 3
    flat = _clean(labels[13], "hull")
    np.testing.assert_array_equal(flat, hull[13])


def test_parts(labels):
    assert not _clean(labels, "largest-part")[2:4].any()
    spacing = (5.0, 5.0, 5.0)  # 0.125 ml a voxel: parts of 1 ml, of 275 ml and (label 2) 0.125 ml
    assert _clean(labels, "min-ml=1", spacing)[2:4].any()
    dropped = _clean(labels, "min-ml=1.1", spacing)
    assert not dropped[2:4].any() and set(np.unique(dropped)) == {0, 1}


def test_smoothing_takes_spikes_away_and_keeps_the_size():
    mask = np.zeros((1, 60, 60), np.uint8)
    mask[0, 20:40, 20:40] = 3
    mask[0, 30, 40:46] = 3
    smooth = _clean(mask[0], "smooth")
    assert smooth[30, 42] == 0 and set(np.unique(smooth)) == {0, 3}
    assert abs(int((smooth > 0).sum()) - 400) < 20


def test_steps_are_taken_in_order_and_the_input_stays(labels):
    before = labels.copy()
    assert (_clean(labels, "largest-part, fill-holes") > 0).sum() == 10 * 15 * 15
    np.testing.assert_array_equal(labels, before)


@pytest.mark.parametrize("text", ["", "fill", "min-ml", "min-ml=a", "min-ml=-1", "smooth=2"])
def test_unknown_steps_are_refused(text):
    with pytest.raises(ValueError, match=r"fill-holes|min-ml=0\.5"):
        parse(text)


def test_a_volume_is_needed_for_millilitres(labels):
    with pytest.raises(CaseError, match="min-ml needs"):
        _clean(labels, "min-ml=1")
