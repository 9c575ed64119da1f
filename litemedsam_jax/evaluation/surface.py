"""Distances between the surfaces of two masks, as DeepMind's `surface-distance` defines them.

Surface elements, their areas and the scores made of them come from that package. The distances are
found with a k-d tree over the border points instead of the package's two distance maps: those hold
some 40 bytes a voxel (6 GB for a mask that spans 600x512x512), and call names that SciPy 2 drops.
A test holds both to the same numbers.
"""

from collections.abc import Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np

SurfaceDistances: TypeAlias = dict[str, np.ndarray]


def surface_distances(
    gt: np.ndarray, seg: np.ndarray, spacing: Sequence[float], limit: float = np.inf
) -> SurfaceDistances:
    """Distances from each border element of one mask to the other mask's border.

    `gt` and `seg` are boolean, of one shape, 2D or 3D, neither of them empty; `spacing` is in the
    order of their axes. Distances over `limit` come out as infinite, which spares the search.

    Returns what `surface_distance.compute_surface_distances` does: distances (same unit as
    `spacing`), ascending, with the area (3D) or length (2D) of each element.
    """
    codes_gt, table = _codes(gt, spacing)
    codes_seg, _ = _codes(seg, spacing)
    border_gt, border_seg = (table[codes] > 0 for codes in (codes_gt, codes_seg))
    points_gt, points_seg = np.argwhere(border_gt), np.argwhere(border_seg)
    areas_gt, areas_seg = table[codes_gt[border_gt]], table[codes_seg[border_seg]]
    scale = np.asarray(spacing, np.float64)
    to_seg = _nearest(points_gt, points_seg, border_seg, scale, limit)
    to_gt = _nearest(points_seg, points_gt, border_gt, scale, limit)
    order_gt, order_seg = np.lexsort((areas_gt, to_seg)), np.lexsort((areas_seg, to_gt))
    return {
        "distances_gt_to_pred": to_seg[order_gt],
        "distances_pred_to_gt": to_gt[order_seg],
        "surfel_areas_gt": areas_gt[order_gt],
        "surfel_areas_pred": areas_seg[order_seg],
    }


def surface_dice(distances: SurfaceDistances, tolerance: float) -> float:
    """NSD: the share of both surfaces that lies within `tolerance` of the other one."""
    from surface_distance import metrics

    return float(metrics.compute_surface_dice_at_tolerance(distances, tolerance))


def robust_hausdorff(distances: SurfaceDistances, percent: float) -> float:
    """The distance that `percent` of either surface stays within; the larger of both directions."""
    from surface_distance import metrics

    return float(metrics.compute_robust_hausdorff(distances, percent))


@lru_cache(maxsize=16)  # as slow to make as a small label is to score
def _tables(spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The weights of a corner's 4 or 8 voxels in its code, and the surface's area for each code."""
    from surface_distance import lookup_tables as tables

    if len(spacing) == 2:
        areas = tables.create_table_neighbour_code_to_contour_length(spacing)
        return tables.ENCODE_NEIGHBOURHOOD_2D_KERNEL, np.asarray(areas)
    areas = tables.create_table_neighbour_code_to_surface_area(spacing)
    return tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL, np.asarray(areas)


def _codes(mask: np.ndarray, spacing: Sequence[float]) -> tuple[np.ndarray, np.ndarray]:
    """For each corner between voxels, which of its 4 or 8 voxels are in the mask; and the table of
    the surface's area at such a corner, which is 0 inside and outside alone."""
    weights, areas = _tables(tuple(spacing))
    # A margin of zeros on every side, so that each corner sees all of its voxels.
    voxels = np.pad(mask, 1).view(np.uint8)
    codes = np.zeros([n - 1 for n in voxels.shape], np.uint8)
    for corner in np.ndindex(weights.shape):
        window = tuple(slice(c, c + n) for c, n in zip(corner, codes.shape, strict=True))
        codes += voxels[window] * np.uint8(weights[corner])
    return codes, areas


def _nearest(
    points: np.ndarray,
    targets: np.ndarray,
    is_target: np.ndarray,
    scale: np.ndarray,
    limit: float,
) -> np.ndarray:
    """Distance from each grid point to the nearest target; a point that is one needs no search."""
    from scipy.spatial import cKDTree

    distances = np.zeros(len(points))
    apart = np.flatnonzero(~is_target[tuple(points.T)])
    if not len(apart):
        return distances
    # Points of a grid need no balancing: the tree is built in half the time and searched as fast.
    tree = cKDTree(targets * scale, balanced_tree=False, compact_nodes=False)
    bound = limit * (1 + 1e-9)  # what is exactly at the limit is wanted
    away = points[apart]
    _, found = tree.query(away * scale, distance_upper_bound=bound)
    near = found < len(targets)
    distances[apart[~near]] = np.inf
    # From the grid steps, not from the tree's scaled coordinates: exactly the tolerance stays so.
    steps = (targets[found[near]] - away[near]) * scale
    distances[apart[near]] = np.sqrt((steps**2).sum(axis=1))
    return distances
