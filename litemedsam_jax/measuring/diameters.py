"""Diameters of masks: the longest in a plane, its perpendicular, and the longest in space.

A mask's outline passes half a voxel outside the centres of its outermost voxels, through the
middles of their faces, as the surface meshes of radiomics do; a row of n pixels is n pixels long.
"""

from typing import NamedTuple

import numpy as np

_AT_ONCE = 2048  # points compared with all others at a time: a bound on memory


class Diameter(NamedTuple):
    """A line between two points of an outline.

    Attributes:
        mm: its length, in units of the spacing.
        ends: (2, n) its end points in voxel indices, x first.
    """

    mm: float
    ends: np.ndarray


def outline(mask: np.ndarray) -> np.ndarray:
    """The middles of the outer faces of a mask's voxels.

    Args:
        mask: (H, W) or (D, H, W) bool.

    Returns:
        (N, 2) x, y or (N, 3) x, y, z in voxel indices, float64.
    """
    padded = np.pad(mask, 1)
    points = []
    for axis in range(mask.ndim):
        for step in (-1, 1):
            outside = np.roll(padded, -step, axis)
            where = np.argwhere(padded & ~outside) - 1.0
            where[:, axis] += step / 2
            points.append(where)
    return np.concatenate(points)[:, ::-1]


def longest(points: np.ndarray, spacing: np.ndarray) -> Diameter:
    """The two points that lie furthest apart.

    Args:
        points: (N, n), voxel indices, x first; at least two.
        spacing: (n,) of a voxel, x first.
    """
    corners = points[_hull(points)]
    scaled = corners * spacing
    best, pair = -1.0, (0, 0)
    for start in range(0, len(scaled), _AT_ONCE):
        some = scaled[start : start + _AT_ONCE]
        squares = ((some[:, None] - scaled[None]) ** 2).sum(axis=2)
        index = int(squares.argmax())
        if squares.flat[index] > best:
            best = float(squares.flat[index])
            pair = (start + index // len(scaled), index % len(scaled))
    return Diameter(float(np.sqrt(best)), corners[list(pair)])


def perpendicular(points: np.ndarray, spacing: np.ndarray, to: Diameter) -> Diameter:
    """The longest line across an outline at a right angle to its longest diameter.

    Args:
        points: (N, 2) x, y of the outline.
        spacing: (2,) x, y.
        to: the longest diameter.
    """
    along = (to.ends[1] - to.ends[0]) * spacing / to.mm
    scaled = points * spacing
    position = scaled @ along
    across = scaled @ np.array([-along[1], along[0]])
    order = np.argsort(position, kind="stable")
    position, across = position[order], across[order]
    # Points that lie next to each other along the diameter, within half a pixel of a line.
    tolerance = float(np.min(spacing)) / 2
    best, pair = -1.0, (0, 0)
    for k, value in enumerate(position):
        stop = int(np.searchsorted(position, value + tolerance, side="right"))
        window = across[k:stop]
        low, high = k + int(window.argmin()), k + int(window.argmax())
        if across[high] - across[low] > best:
            best, pair = float(across[high] - across[low]), (low, high)
    return Diameter(best, points[order[list(pair)]])


def _hull(points: np.ndarray) -> np.ndarray:
    """Indices of the points on the convex hull, all where there is none to speak of."""
    from scipy.spatial import ConvexHull, QhullError

    if len(points) <= points.shape[1] + 1:
        return np.arange(len(points))
    try:
        return ConvexHull(points).vertices
    except QhullError:
        return np.arange(len(points))
