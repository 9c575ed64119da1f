"""What of a case is drawn: which slices, which boxes on them, in which proportions."""

import numpy as np
import pytest

from litemedsam_jax.drawing import shown


def test_slices_hold_the_middle_of_the_boxed_range(volume):
    image, boxes, segs = volume
    assert shown.middle_slice(image, boxes, segs) == 9
    assert 9 in shown.slices(image, boxes, segs, 4)
    assert shown.slices(image[:1], np.array([[1, 1, 0, 5, 5, 0]]), segs[:1], 4) == [0]


def test_boxes_are_drawn_only_where_they_reach(volume):
    flat = shown.boxes_on_slice(volume[1], 10)
    assert np.isfinite(flat[0]).all() and np.isnan(flat[1]).all()


@pytest.mark.parametrize(
    ("spacing", "ratio"), [(None, 1), ([1, 2, 5], 2), ([0, 1], 1), ([np.nan, 1], 1), ([3], 1)]
)
def test_proportions_of_a_spacing_that_may_be_unusable(spacing, ratio):
    assert shown.aspect(spacing) == ratio
