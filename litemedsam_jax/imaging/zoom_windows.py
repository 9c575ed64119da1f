"""Square windows around small objects of a large image, to be encoded enlarged."""

import math
from typing import NamedTuple

import numpy as np

TIMES_THE_BOX = 3.0  # a window's side; less leaves out what tells the object from its surroundings
_WORTH_IT = 0.8  # of the image's longer side; a window larger than that adds no detail
_CONTEXT = 2.0  # times its box, what another object needs around it to share a window
_GROWTH = 1.25  # from one trial to the next
_LARGEST = 8.0  # times the box, of an object's own window; beyond it tiles enlarge as much
_WHOLE = 0.9  # of the small boxes, for how many tiles overlap enough to hold box and context


class Window(NamedTuple):
    """A part of an image, and the indices of the boxes that are decoded in it."""

    rows: slice
    columns: slice
    boxes: list[int]


def cover(boxes: np.ndarray, height: int, width: int, limit: int) -> list[Window]:
    """Windows for the boxes that are small in an image.

    Windows around objects, shared with neighbours, where they suffice. Else larger ones, or a grid
    of tiles that all share, whichever enlarges the boxes more: cost is bounded by the image, not
    by the number of boxes. A box that no window would enlarge, or that none holds, is in none.

    Args:
        boxes: (N, 4), x_min, y_min, x_max, y_max, inclusive.
        height: of the image.
        width: of the image.
        limit: windows at most; the search ends as soon as it is passed, so that 65,535 boxes take
            no longer than a few.
    """
    windows = _cover(boxes, height, width, TIMES_THE_BOX, limit)
    if windows is not None:
        return windows
    plans = [_tiles(boxes, height, width, limit)]
    factor = TIMES_THE_BOX
    while (factor := factor * _GROWTH) <= _LARGEST:
        windows = _cover(boxes, height, width, factor, limit)
        if windows is not None:
            plans.append(windows)
    return max(plans, key=lambda windows: (_enlargement(windows, height, width), -len(windows)))


def _enlargement(windows: list[Window], height: int, width: int) -> float:
    """The sum over boxes of how many times larger a window shows them, as a logarithm."""
    return sum(
        len(one.boxes) * math.log(max(height, width) / max(_length(one.rows), _length(one.columns)))
        for one in windows
    )


def _length(span: slice) -> int:
    return span.stop - span.start


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


def _tiles(boxes: np.ndarray, height: int, width: int, limit: int) -> list[Window]:
    """The grid of overlapping tiles that enlarges the small boxes most; each box is in one tile."""
    sides = (boxes[:, 2:] - boxes[:, :2] + 1).max(axis=1)
    small = np.flatnonzero(sides * TIMES_THE_BOX <= _WORTH_IT * max(height, width))
    if limit < 1 or not len(small):
        return []
    context = _with_context(boxes[small], sides[small], height, width)
    left, top = np.floor(context[:, :2].min(axis=0)).astype(int)
    right, bottom = np.ceil(context[:, 2:].max(axis=0)).astype(int)
    overlap = math.ceil(_CONTEXT * np.quantile(sides[small], _WHOLE))
    grids = [
        (_side(bottom - top, down, overlap), _side(right - left, across, overlap), down, across)
        for down in range(1, limit + 1)
        for across in range(1, limit // down + 1)
    ]
    high, wide, down, across = min(grids, key=lambda grid: (max(grid[:2]), grid[2] * grid[3]))
    if max(high, wide) > _WORTH_IT * max(height, width):
        return []
    side = max(high, wide)  # what a square input enlarges just as much
    windows = [
        Window(rows, columns, [])
        for rows in _places(top, bottom, side, down, height)
        for columns in _places(left, right, side, across, width)
    ]
    room = np.stack([_room(boxes[small], one, height, width) for one in windows])
    for k, where, most in zip(small, room.argmax(axis=0), room.max(axis=0), strict=True):
        if most >= 0:
            windows[where].boxes.append(int(k))
    return [one for one in windows if one.boxes]


def _side(length: int, count: int, overlap: int) -> int:
    """Of each of `count` overlapping tiles that together are `length` long."""
    return math.ceil((length + (count - 1) * overlap) / count)


def _places(first: int, last: int, side: int, count: int, size: int) -> list[slice]:
    """`count` tiles from `first` to `last`, evenly spread, moved into the image."""
    side = min(side, size)
    lowest = min(max((first + last - side) // 2, 0), size - side) if count == 1 else first
    highest = max(last - side, lowest)
    starts = np.linspace(min(lowest, size - side), min(highest, size - side), count)
    return [slice(int(start), int(start) + side) for start in starts.round()]


def _room(boxes: np.ndarray, window: Window, height: int, width: int) -> np.ndarray:
    """Pixels between each box and the nearest edge that the window cuts; < 0: it is cut itself."""
    rows, columns = window.rows, window.columns
    far = height + width
    room = [
        boxes[:, 0] - columns.start if columns.start else far,
        boxes[:, 1] - rows.start if rows.start else far,
        columns.stop - 1 - boxes[:, 2] if columns.stop < width else far,
        rows.stop - 1 - boxes[:, 3] if rows.stop < height else far,
    ]
    return np.min(np.broadcast_arrays(*room), axis=0)


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
