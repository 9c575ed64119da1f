"""Boxes as clients send them, and which belong together."""

import numpy as np
import pytest

from litemedsam_jax.serving.remote.drawn_box import DrawnBox, parts_of

SHAPE = (20, 100, 120)


def box(z, y, x, adds=True, through=True):
    spans = [(s, s + 1) if isinstance(s, int) else s for s in (z, y, x)]
    return DrawnBox.read(spans, SHAPE, adds, through)


@pytest.mark.parametrize(
    "coordinates, span",
    [
        ([[4, 9], [10, 20], [12, 30]], ((4, 9), (10, 20), (12, 30))),
        ([[9, 4], [20, 10], [30, 12]], ((4, 9), (10, 20), (12, 30))),
        ([[4.0, 5.0], [10.4, 19.6], [12, 30]], ((4, 5), (10, 20), (12, 30))),
        ([[-5, 99], [-1, 101], [0, 500]], ((0, 20), (0, 100), (0, 120))),
        ([[4, 4], [10, 20], [12, 30]], ((4, 5), (10, 20), (12, 30))),
    ],
)
def test_boxes_are_ordered_rounded_and_clipped(coordinates, span):
    assert DrawnBox.read(coordinates, SHAPE, True, True).span == span


@pytest.mark.parametrize(
    "coordinates",
    [None, 3, "x", [], [[1, 2]], [[1, 2]] * 4, [[1, 2, 3]] * 3, [[1, "x"]] * 3, [[0, np.nan]] * 3,
     [[0, np.inf]] * 3, [[20, 30], [1, 9], [1, 9]], [[-9, -1], [1, 9], [1, 9]]],
    ids=str,
)  # fmt: skip
def test_what_is_no_box_of_the_image_is_refused(coordinates):
    with pytest.raises(ValueError, match="box"):
        DrawnBox.read(coordinates, SHAPE, True, True)


@pytest.mark.parametrize("axis", [0, 1, 2])
def test_a_flat_box_lies_on_its_plane_as_inference_counts_rows_and_columns(axis):
    spans = [(2, 9), (10, 20), (12, 30)]
    spans[axis] = (5, 6)
    drawn = DrawnBox.read(spans, SHAPE, True, True).on_slice()
    rows, columns = (span for k, span in enumerate(spans) if k != axis)
    assert (drawn.axis, drawn.index) == ("zyx"[axis], 5)
    assert drawn.box == (columns[0], rows[0], columns[1] - 1, rows[1] - 1)


FIRST = box(8, (20, 40), (30, 60))


@pytest.mark.parametrize(
    "other, parts",
    [
        (box(8, (22, 42), (30, 60)), [1]),  # drawn anew on its slice
        (box(8, (60, 80), (30, 60)), [1, 1]),  # another part on that slice
        (box(12, (25, 45), (35, 65)), [2]),  # the object on another slice
        (box(12, (60, 80), (80, 99)), [1, 1]),  # something else there
        (box((5, 12), 30, (30, 60)), [2]),  # its ends, on another plane
        (box((10, 12), 30, (30, 60)), [1, 1]),  # does not cross the drawn slice
        (box(8, (22, 42), (30, 60), adds=False), [1, 1]),
        (box(8, (22, 42), (30, 60), through=False), [1, 1]),
        (box((5, 12), (22, 42), (30, 60)), [1, 1]),  # in three dimensions
    ],
)
def test_boxes_that_belong_together_make_one_mask(other, parts):
    made = parts_of([FIRST, other])
    assert [len(part.boxes) for part in made] == parts
    assert made[-1].boxes[-1] == other  # the newer one counts
