"""Distances between the surfaces of masks, as DeepMind's `surface-distance` defines them.

The areas of surface elements and the scores made of them come from that package. Its distance maps
are not made: they hold some 40 bytes a voxel (6 GB for a mask that spans 600x512x512), one pair of
them a label, and call names that SciPy 2 drops. Instead each element looks at the corners around
it, nearest first, for an element of the other mask; a k-d tree finds what lies further. A test
holds both to the same numbers.
"""

from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import TypeAlias

import numpy as np

from litemedsam_jax.evaluation.elements import Elements, Lattice, elements_of

SurfaceDistances: TypeAlias = dict[str, np.ndarray]

# Corners looked at before the k-d tree takes over: what is further is rare, or a small spacing.
_LOOKED_AT = 300


def label_distances(
    gts: np.ndarray,
    segs: np.ndarray,
    labels: Sequence[int],
    spacing: Sequence[float],
    limit: float = np.inf,
) -> Iterator[tuple[int, SurfaceDistances]]:
    """Distances from each surface element of a label to the other map's surface of that label.

    Args:
        gts: unsigned label map, (H, W) or (D, H, W).
        segs: likewise, of the same shape.
        labels: each must occur in both maps.
        spacing: in the order of the axes.
        limit: distances over it come out as infinite, which spares the search.

    Yields:
        A label and what `surface_distance.compute_surface_distances` makes of its masks, in the
        order of the voxels: distances (same unit as `spacing`), with the area (3D) or length (2D)
        of each element.
    """
    wanted = np.zeros(int(max(gts.max(), segs.max())) + 1, bool)
    wanted[list(labels)] = True
    weights, areas = _tables(tuple(spacing))
    offsets, lengths = _neighbourhood(tuple(spacing), min(limit, _search_radius(spacing)))
    *maps, weights, offsets, scale = _as_slices(gts, segs, weights, offsets, spacing)
    lattice = Lattice(maps[0].shape, tuple(np.abs(offsets).max(axis=0).tolist()))
    gt_elements, seg_elements = (elements_of(m, wanted, weights, lattice) for m in maps)
    steps = list(zip(lattice.steps(offsets).tolist(), lengths.tolist(), strict=True))
    search = _Search(lattice, steps, scale, limit)
    for label in labels:
        gt, seg = gt_elements.pop(label), seg_elements.pop(label)
        yield (
            label,
            {
                "distances_gt_to_pred": search(gt, seg),
                "distances_pred_to_gt": search(seg, gt),
                "surfel_areas_gt": areas[gt.codes],
                "surfel_areas_pred": areas[seg.codes],
            },
        )


def surface_dice(distances: SurfaceDistances, tolerance: float) -> float:
    """NSD: the share of both surfaces that lies within `tolerance` of the other one."""
    from surface_distance import metrics

    return float(metrics.compute_surface_dice_at_tolerance(distances, tolerance))


def robust_hausdorff(distances: SurfaceDistances, percent: float) -> float:
    """The distance that `percent` of either surface stays within; the larger of both directions."""
    from surface_distance import metrics

    ascending: SurfaceDistances = {}
    for lengths, areas in (
        ("distances_gt_to_pred", "surfel_areas_gt"),
        ("distances_pred_to_gt", "surfel_areas_pred"),
    ):
        order = np.lexsort((distances[areas], distances[lengths]))
        ascending |= {name: distances[name][order] for name in (lengths, areas)}
    return float(metrics.compute_robust_hausdorff(ascending, percent))


class _Search:
    """Finds, for each element, how far the nearest of some others is."""

    def __init__(
        self,
        lattice: Lattice,
        steps: Sequence[tuple[int, float]],
        scale: np.ndarray,
        limit: float,
    ):
        """Prepares a search.

        Args:
            lattice: Where the positions lie.
            steps: Differences of positions and their lengths, ascending, the first one zero.
            scale: mm a step along each axis of the lattice.
            limit: Length beyond which nothing is searched.
        """
        self.lattice, self.steps, self.scale, self.limit = lattice, steps, scale, limit
        self.marked = np.zeros(lattice.size, bool)

    def __call__(self, elements: Elements, targets: Elements) -> np.ndarray:
        distances = np.full(len(elements.positions), np.inf)
        self.marked[targets.positions] = True
        left, positions = np.arange(len(distances)), elements.positions.astype(np.intp)
        for step, length in self.steps:
            hit = self.marked[positions + step]
            distances[left[hit]] = length
            left, positions = left[~hit], positions[~hit]
            if not len(left):
                break
        self.marked[targets.positions] = False
        if len(left) and self.limit > self.steps[-1][1]:
            distances[left] = self._far(positions, targets.positions)
        return distances

    def _far(self, positions: np.ndarray, targets: np.ndarray) -> np.ndarray:
        from scipy.spatial import cKDTree

        points, others = (self.lattice.indices(p) for p in (positions, targets))
        # Points of a grid need no balancing: the tree is built in half the time, searched as fast.
        tree = cKDTree(others * self.scale, balanced_tree=False, compact_nodes=False)
        bound = self.limit * (1 + 1e-9)  # what is exactly at the limit is wanted
        _, nearest = tree.query(points * self.scale, distance_upper_bound=bound)
        near = nearest < len(others)
        distances = np.full(len(points), np.inf)
        # From the grid steps, not from the tree's scaled coordinates: exactly the tolerance stays.
        distances[near] = _length((others[nearest[near]] - points[near]) * self.scale)
        return distances


@lru_cache(maxsize=16)  # as slow to make as a small case is to score
def _tables(spacing: tuple[float, ...]) -> tuple[np.ndarray, np.ndarray]:
    """The weights of a corner's 4 or 8 voxels in its code, and the surface's area for each code."""
    from surface_distance import lookup_tables as tables

    if len(spacing) == 2:
        areas = tables.create_table_neighbour_code_to_contour_length(spacing)
        return tables.ENCODE_NEIGHBOURHOOD_2D_KERNEL, np.asarray(areas)
    areas = tables.create_table_neighbour_code_to_surface_area(spacing)
    return tables.ENCODE_NEIGHBOURHOOD_3D_KERNEL, np.asarray(areas)


def _search_radius(spacing: Sequence[float]) -> float:
    """Of the circle or ball that holds about `_LOOKED_AT` corners."""
    content = _LOOKED_AT * float(np.prod(spacing))
    return (content / np.pi) ** 0.5 if len(spacing) == 2 else (content * 0.75 / np.pi) ** (1 / 3)


@lru_cache(maxsize=16)
def _neighbourhood(spacing: tuple[float, ...], radius: float) -> tuple[np.ndarray, np.ndarray]:
    """The offsets (N, 2 or 3) at most `radius` long, nearest first, and their lengths (N,)."""
    halo = [int(radius / s) + 1 for s in spacing]
    offsets = np.array(list(np.ndindex(*(2 * r + 1 for r in halo)))) - halo
    lengths = _length(offsets * np.asarray(spacing))
    order = np.argsort(lengths, kind="stable")
    order = order[lengths[order] <= radius]
    return offsets[order], lengths[order]


def _length(vectors: np.ndarray) -> np.ndarray:
    return np.sqrt((vectors**2).sum(axis=1))


def _as_slices(gts, segs, weights, offsets, spacing):
    """All as (D, H, W): a 2D image is one slice, a slab one voxel thick (H, W, 1) as well."""
    scale = np.asarray(spacing, np.float64)
    if gts.ndim == 2:
        flat = np.pad(offsets, ((0, 0), (1, 0)))
        return gts[None], segs[None], weights[None], flat, np.array([1.0, *scale])
    if gts.shape[2] > 1:
        return gts, segs, weights, offsets, scale
    turned = (a.transpose(2, 0, 1) for a in (gts, segs, weights))
    return *turned, offsets[:, [2, 0, 1]], scale[[2, 0, 1]]
