"""Square windows around small objects of a large image, to be encoded enlarged."""

import math
from typing import NamedTuple

import numpy as np

TIMES_THE_BOX = 3.0  # a window's side; less leaves out what tells the object from its surroundings
_WORTH_IT = 0.8  # of the image's longer side; a window larger than that adds no detail
_CONTEXT = 2.0  # times its box, what another object needs around it to share a window
_LARGEST = 8.0  # times the box; further away a window gains little


class Window(NamedTuple):
    """A part of an image, and the indices of the boxes that are decoded in it."""

    rows: slice
    columns: slice
    boxes: list[int]


def cover(boxes: np.ndarray, height: int, width: int, limit: int) -> list[Window]:
    """Windows for the boxes that are small in an image; neighbours share one.

    If more than `limit` were needed they grow until they are fewer, or are left out.

    Args:
        boxes: (N, 4), x_min, y_min, x_max, y_max, inclusive.
        height: of the image.
        width: of the image.
        limit: windows at most; the search ends as soon as it is passed, so that 65,535 boxes take
            no longer than a few.
    """
    factor = TIMES_THE_BOX
    while factor <= _LARGEST:
        windows = _cover(boxes, height, width, factor, limit)
        if windows is not None:
            return windows
        factor *= 1.25
    return []


def _cover(
    boxes: np.ndarray, height: int, width: int, factor: float, limit: int
) -> list[Window] | None:
    sides = (boxes[:, 2:] - boxes[:, :2] + 1).max(axis=1)
    context = _with_context(boxes, sides, height, width)
    uncovered = np.argsort(-sides, kind="stable")
    uncovered = uncovered[factor * sides[uncovered] <= _WORTH_IT * max(height, width)]
    windows: list[Window] = []
    while len(uncovered):
        if len(windows) == limit:
            return None
        first = uncovered[0]
        rows = _around(boxes[first, [1, 3]], factor * sides[first], height)
        columns = _around(boxes[first, [0, 2]], factor * sides[first], width)
        inside = _fits(context[uncovered], rows, columns)
        inside &= sides[uncovered] * 2 >= sides[first]  # smaller ones would stay too small
        inside[0] = True
        windows.append(Window(rows, columns, uncovered[inside].tolist()))
        uncovered = uncovered[~inside]
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


def _fits(edges: np.ndarray, rows: slice, columns: slice) -> np.ndarray:
    """Which of (N, 4) edges lie in a window, (N,) bool."""
    low = edges[:, :2] >= [columns.start, rows.start]
    return np.all(low & (edges[:, 2:] <= [columns.stop, rows.stop]), axis=1)
