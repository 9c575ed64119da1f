"""What of a case is drawn: slices, labels, boxes of a slice, proportions."""

from collections.abc import Sequence

import numpy as np


def is_volume(image: np.ndarray, boxes: np.ndarray | None, segs: np.ndarray | None) -> bool:
    """Whether the image is (D, H, W[, 3]); (A, B, 3) is a volume only if masks or boxes say so."""
    if image.ndim != 3:
        return image.ndim == 4
    if segs is not None:
        return segs.ndim == 3
    if boxes is not None and np.size(boxes):
        return np.asarray(boxes).shape[-1] == 6
    return image.shape[-1] != 3


def boxes_on_slice(boxes: np.ndarray | None, z: int) -> np.ndarray | None:
    """(N, 6) boxes as (N, 4) on slice z; rows of NaN where a box does not reach it."""
    if boxes is None:
        return None
    values = np.asarray(boxes, np.float64).reshape(-1, 6)
    flat = values[:, [0, 1, 3, 4]]
    flat[(z < values[:, 2]) | (z > values[:, 5])] = np.nan
    return flat


def middle_slice(image: np.ndarray, boxes: np.ndarray | None, segs: np.ndarray | None) -> int:
    """Index of the slice at which the propagation of the boxes' whole range would start.

    Where boxes were drawn on single slices it is the middle one of those.
    """
    first, last = _shown_range(len(image), boxes, segs)
    if boxes is not None and np.size(boxes):
        values = np.asarray(boxes, np.float64).reshape(-1, 6)
        if (values[:, 2] == values[:, 5]).all():
            drawn = np.sort(values[:, 2])
            return int(np.clip(drawn[len(drawn) // 2], first, last))
    return first + (last - first) // 2


def _shown_range(depth: int, boxes, segs) -> tuple[int, int]:
    """First and last slice that boxes or masks reach; all where there are neither."""
    ends = []
    if boxes is not None and np.size(boxes):
        values = np.asarray(boxes, np.float64).reshape(-1, 6)
        ends += [values[:, 2].min(), values[:, 5].max()]
    if segs is not None:
        ends += np.flatnonzero([s.any() for s in segs]).tolist()
    if not ends:
        return 0, depth - 1
    first = int(np.clip(min(ends), 0, depth - 1))
    return first, int(np.clip(max(ends), first, depth - 1))


def slices(
    image: np.ndarray, boxes: np.ndarray | None, segs: np.ndarray | None, count: int
) -> list[int]:
    """Indices of at most `count` slices of the range that boxes or masks reach, ascending."""
    first, last = _shown_range(len(image), boxes, segs)
    middle = middle_slice(image, boxes, segs)
    spread = [first + round((last - first) * (i + 0.5) / count) for i in range(count)]
    nearest = min(range(count), key=lambda i: abs(spread[i] - middle))
    spread[nearest] = middle
    return sorted({min(z, last) for z in spread})


def labels_of(
    boxes: np.ndarray | None, segs: np.ndarray | None, gts: np.ndarray | None = None
) -> list[int]:
    """The labels that an overlay of these shows, ascending."""
    values = set(range(1, (0 if boxes is None else len(boxes)) + 1))
    for labels in (segs, gts):
        # By slice: bincount widens what it counts to 8 bytes a voxel.
        for part in () if labels is None else labels if labels.ndim == 3 else [labels]:
            values |= set(np.flatnonzero(np.bincount(part.ravel())).tolist())
    return sorted(values - {0})


def aspect(spacing: Sequence[float] | np.ndarray | None) -> float:
    """Height of a pixel for width 1, of a spacing x, y, ...; 1 where that is unknown."""
    values = np.asarray((1.0, 1.0) if spacing is None else spacing, np.float64).ravel()
    if values.size < 2 or not np.isfinite(values[:2]).all() or (values[:2] <= 0).any():
        return 1.0
    return float(values[1] / values[0])
