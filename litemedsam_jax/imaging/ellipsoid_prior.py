"""What a tight box says of its object's shape: more likely round than filling the corners.

Of an ellipsoid that touches all six sides of a box, a plane at the distance u from the centre (1 at
the box's side) cuts an ellipse sqrt(1 - u²) as wide as the box. Objects are no ellipsoids, but a
prompt of that size is nearer to most of them than the whole box is, towards the ends above all.
"""

import numpy as np

SMALLEST_SECTION = 0.3  # of the box's width: the ends of a range hold something, or it were shorter


def distances(first: int, last: int, size: int) -> np.ndarray:
    """The distance of each plane of a range from where the object is widest, 0 to 1.

    Args:
        first: plane of the range.
        last: plane of it, inclusive.
        size: of the volume along this axis. Where the range ends with the volume the object may go
            on, so there is no narrowing towards that end.
    """
    position = (np.arange(first, last + 1) - first + 0.5) / (last - first + 1)
    cut_first, cut_last = first == 0, last == size - 1
    if cut_first and cut_last:
        return np.zeros_like(position)
    if cut_first:
        return position
    if cut_last:
        return 1 - position
    return np.abs(2 * position - 1)


def section(box: np.ndarray, distance: float) -> np.ndarray:
    """The box (4,), x_min, y_min, x_max, y_max, of the plane at a distance; same centre."""
    factor = max(np.sqrt(1 - distance**2), SMALLEST_SECTION)
    centre, half = (box[:2] + box[2:]) / 2, (box[2:] - box[:2] + 1) / 2 * factor
    return np.concatenate([centre - half + 0.5, centre + half - 0.5])


def from_centre(span: slice, start: float, stop: float) -> np.ndarray:
    """Distances of a span's pixels from the middle of start to stop, 1 at both; float32."""
    pixels = np.arange(span.start, span.stop) + 0.5
    middle, half = (start + stop) / 2, (stop - start) / 2
    return ((pixels - middle) / half).astype(np.float32)


def prior(rows: np.ndarray, columns: np.ndarray, distance: float) -> np.ndarray:
    """1 at the ellipsoid's centre, 0 on its surface, negative outside; (len(rows), len(columns)).

    Args:
        rows: distances from the centre along y, 1 at the box's side.
        columns: the same along x.
        distance: that of the plane.
    """
    return 1 - (rows[:, None] ** 2 + columns[None] ** 2 + distance**2)
