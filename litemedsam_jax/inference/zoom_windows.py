"""Square windows around small objects of a large picture, to be seen enlarged."""

import math
from typing import NamedTuple

import numpy as np

TIMES_THE_BOX = 3.0  # a window's side; less leaves out what tells the object from its surroundings
_WORTH_IT = 0.8  # of the picture's longer side; a window larger than that shows nothing new
_CONTEXT = 2.0  # times its box, what another object needs around it to share a window
_LARGEST = 8.0  # times the box; further away a window gains little


class Window(NamedTuple):
    """A part of a picture, and the indices of the boxes that are looked at in it."""

    rows: slice
    columns: slice
    boxes: list[int]


def cover(boxes: np.ndarray, height: int, width: int, most: int) -> list[Window]:
    """Windows for the boxes that are small in a picture; neighbours share one.

    If more than `most` were needed they grow until they are fewer, or are left out.

    Args:
        boxes: (N, 4), x_min, y_min, x_max, y_max, inclusive.
    """
    factor = TIMES_THE_BOX
    while factor <= _LARGEST:
        windows = _cover(boxes, height, width, factor)
        if len(windows) <= most:
            return windows
        factor *= 1.25
    return []


def _cover(boxes: np.ndarray, height: int, width: int, factor: float) -> list[Window]:
    sides = (boxes[:, 2:] - boxes[:, :2] + 1).max(axis=1)
    left = [int(k) for k in np.argsort(-sides, kind="stable")]
    context = _with_context(boxes, sides, height, width)
    left = [k for k in left if factor * sides[k] <= _WORTH_IT * max(height, width)]
    windows = []
    while left:
        first = left[0]
        rows = _around(boxes[first, [1, 3]], factor * sides[first], height)
        columns = _around(boxes[first, [0, 2]], factor * sides[first], width)
        inside = [k for k in left if k == first or _fits(context[k], rows, columns)]
        inside = [k for k in inside if sides[k] * 2 >= sides[first]]  # else it stays too small
        windows.append(Window(rows, columns, inside))
        left = [k for k in left if k not in inside]
    return windows


def _around(ends: np.ndarray, side: float, size: int) -> slice:
    low, high = int(ends[0]), int(ends[1]) + 1
    length = min(max(math.ceil(side), high - low), size)
    start = round((low + high - length) / 2)
    start = min(max(start, 0), size - length)
    return slice(start, start + length)


def _with_context(boxes: np.ndarray, sides: np.ndarray, height: int, width: int) -> np.ndarray:
    """(N, 4), the edges of what must be in a window beside each box."""
    low, high = boxes[:, :2], boxes[:, 2:] + 1
    context = (_CONTEXT * sides[:, None] - (high - low)) / 2
    return np.hstack([np.maximum(low - context, 0), np.minimum(high + context, [width, height])])


def _fits(edges: np.ndarray, rows: slice, columns: slice) -> bool:
    within = (edges[:2] >= [columns.start, rows.start], edges[2:] <= [columns.stop, rows.stop])
    return bool(np.all(within))
