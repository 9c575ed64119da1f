"""Scores of a case's masks: DSC, NSD and HD95, per label and as the case's mean.

`challenge` is the definition of the CVPR 2024 "Segment Anything in Medical Images on Laptop"
challenge (the reference's `compute_metrics.py`), so that scores compare with published ones.
`corrected` mends its faults; docs/data.md shows with numbers what that changes.

|                            | challenge                        | corrected                        |
|----------------------------|----------------------------------|----------------------------------|
| labels of a case           | 1 ... largest in the truth       | those in the truth or the masks  |
| label in neither           | the whole case is NaN            | does not count                   |
| predicted, beyond the last | ignored                          | scores 0                         |
| NSD of 2D                  | a slab one voxel thick (~ area)  | the contour, tolerance in pixels |
| spacing in 3D              | x, y, z on the axes z, y, x      | z, y, x                          |
| NSD where DSC <= 0.2       | 0                                | computed                         |
"""

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np

from litemedsam_jax.evaluation import surface
from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.imaging.labels import as_labels

TOLERANCE = 2.0  # mm in 3D, pixels in 2D
_NSD_NEEDS_DSC = 0.2  # the challenge's threshold
_EXACT = 1 << 24  # OpenCV counts in float32, in which larger whole numbers have gaps


@dataclass(frozen=True)
class LabelScore:
    """Scores of one label; NaN where a score does not exist (HD95 of an empty mask)."""

    label: int
    dsc: float
    nsd: float
    hd95: float


@dataclass(frozen=True)
class CaseScore:
    """Means over a case's labels, the labels themselves, and what a reader must know of them."""

    dsc: float
    nsd: float
    hd95: float
    labels: tuple[LabelScore, ...]
    notes: tuple[str, ...]


@dataclass(frozen=True)
class VoxelCounts:
    """Voxels per label; index i of each array is label i."""

    gt: np.ndarray
    seg: np.ndarray
    both: np.ndarray

    def dice(self, label: int) -> float:
        """2|gt ∩ seg| / (|gt| + |seg|); NaN where the label occurs in neither."""
        total = self.gt[label] + self.seg[label]
        return float(2 * self.both[label] / total) if total else float("nan")


def _count(gts: np.ndarray, segs: np.ndarray) -> VoxelCounts:
    size = int(max(gts.max(initial=0), segs.max(initial=0))) + 1
    counts = np.zeros((3, size), np.int64)
    gts, segs = (a.reshape(-1, *a.shape[-2:]) if a.ndim > 2 else a[None] for a in (gts, segs))
    # Slice by slice: what counts widens the values, to 8 bytes each (bincount).
    for gt, seg in zip(gts, segs, strict=True):
        if not gt.any() and not seg.any():
            counts[:, 0] += gt.size
        elif gt.dtype == np.uint8 and gt.size <= _EXACT:
            joint = cv2.calcHist([gt, seg], [0, 1], None, [size, size], [0, size, 0, size])
            counts += np.stack([joint.sum(1), joint.sum(0), joint.diagonal()]).astype(np.int64)
        else:
            for total, values in zip(counts, (gt, seg, gt[gt == seg]), strict=True):
                total += np.bincount(values.ravel(), minlength=size)
    return VoxelCounts(*counts)


def score_case(
    gts: np.ndarray,
    segs: np.ndarray,
    spacing: Sequence[float] | np.ndarray | None = None,
    *,
    corrected: bool = False,
    nsd: bool = True,
    hd95: bool = False,
    tolerance: float = TOLERANCE,
) -> CaseScore:
    """Scores one case.

    Source: the reference's `evaluation/compute_metrics.py` and `SurfaceDice.py`.

    Args:
        gts: ground truth, labels (H, W) or (D, H, W).
        segs: masks of the same shape.
        spacing: (3,) x, y, z in mm, as cases store it, used for (D, H, W) alone; None: 1 mm.
        corrected: see the module's table.
        nsd: whether NSD is computed.
        hd95: whether HD95 is computed.
        tolerance: of NSD, in mm (3D) or pixels (2D).

    Returns:
        The scores; one that was not asked for is NaN.

    Raises:
        CaseError: arrays or a spacing that cannot be used.
    """
    gts, segs = _label_maps(gts, segs)
    if gts.ndim not in (2, 3):
        raise CaseError(f"the masks are {_size(gts)}; expected (H, W) or (D, H, W)")
    counts = _count(gts, segs)
    labels = _labels(counts, corrected)
    dsc = np.array([counts.dice(label) for label in labels])
    case_dsc = _mean(dsc)
    wants_nsd = nsd and (corrected or case_dsc > _NSD_NEEDS_DSC)
    nsds, hds = np.full((2, len(labels)), np.nan)
    if wants_nsd or hd95:
        grid = _grid_spacing(gts.ndim, spacing, corrected)
        asked = tolerance if wants_nsd else None
        nsds, hds = _surface_scores(gts, segs, counts, labels, grid, asked, hd95)
    case_nsd = 0.0 if nsd and not wants_nsd else _mean(nsds)
    return CaseScore(
        dsc=case_dsc,
        nsd=case_nsd,
        hd95=_mean(hds[np.isfinite(hds)]),
        labels=tuple(map(LabelScore, labels, dsc.tolist(), nsds.tolist(), hds.tolist())),
        notes=_notes(counts, labels, corrected, case_dsc, hds if hd95 else None),
    )


def _mean(values: np.ndarray) -> float:
    return float(values.mean()) if len(values) else float("nan")


def _surface_scores(
    gts: np.ndarray,
    segs: np.ndarray,
    counts: VoxelCounts,
    labels: Sequence[int],
    spacing: tuple[float, ...],
    tolerance: float | None,
    hd95: bool,
) -> tuple[np.ndarray, np.ndarray]:
    """NSD (NaN without tolerance) and HD95 (NaN unless asked for) of each of the labels."""
    nsds, hds = np.full((2, len(labels)), np.nan)
    index = {label: i for i, label in enumerate(labels)}
    if tolerance is not None:
        # Nothing to measure a distance to: the whole surface is out of tolerance.
        one_sided = [
            i for label, i in index.items() if bool(counts.gt[label]) != bool(counts.seg[label])
        ]
        nsds[one_sided] = 0
    common = [label for label in labels if counts.gt[label] and counts.seg[label]]
    if not common:
        return nsds, hds
    where = _foreground(gts, segs)
    gts, segs = gts[where], segs[where]
    if len(spacing) > gts.ndim:  # the challenge's slab
        gts, segs = gts[..., None], segs[..., None]
    limit = np.inf if hd95 or tolerance is None else tolerance
    for label, distances in surface.label_distances(gts, segs, common, spacing, limit):
        if tolerance is not None:
            nsds[index[label]] = surface.surface_dice(distances, tolerance)
        if hd95:
            hds[index[label]] = surface.robust_hausdorff(distances, 95)
    return nsds, hds


def _foreground(gts: np.ndarray, segs: np.ndarray) -> tuple[slice, ...]:
    """The box that holds every label of either map, at least one of which is not empty."""
    shape = gts.shape[-2:]
    slices = list(zip(gts.reshape(-1, *shape), segs.reshape(-1, *shape), strict=True))
    inhabited = [z for z, (a, b) in enumerate(slices) if a.any() or b.any()]
    plane = np.zeros(shape, gts.dtype)
    for z in inhabited:
        plane |= slices[z][0]
        plane |= slices[z][1]
    ranges = [np.flatnonzero(plane.any(axis=axis)).tolist() for axis in (1, 0)]
    if gts.ndim == 3:
        ranges.insert(0, inhabited)
    return tuple(slice(axis[0], axis[-1] + 1) for axis in ranges)


def _labels(counts: VoxelCounts, corrected: bool) -> list[int]:
    if corrected:
        return [int(label) for label in np.flatnonzero(counts.gt + counts.seg) if label]
    present = np.flatnonzero(counts.gt)
    return list(range(1, int(present[-1]) + 1)) if len(present) else []


def _grid_spacing(
    ndim: int, spacing: Sequence[float] | np.ndarray | None, corrected: bool
) -> tuple[float, ...]:
    if ndim == 2:
        return (1.0, 1.0) if corrected else (1.0, 1.0, 1.0)
    values = np.asarray((1.0, 1.0, 1.0) if spacing is None else spacing, np.float64)
    if values.shape != (3,) or not np.isfinite(values).all() or (values <= 0).any():
        raise CaseError(f"the spacing is {values.tolist()}; expected three positive numbers (mm)")
    return tuple(float(v) for v in (values[::-1] if corrected else values))


def _notes(counts, labels, corrected, case_dsc, hds) -> tuple[str, ...]:
    notes = []
    if not labels:
        notes.append("no label in the ground truth: there is nothing to score")
    absent = [label for label in labels if not counts.gt[label] and not counts.seg[label]]
    if absent:
        shown = ", ".join(map(str, absent[:5])) + (", ..." if len(absent) > 5 else "")
        notes.append(
            f"label {shown} occurs in neither: no score by the challenge's definition "
            "(--corrected leaves such labels out)"
        )
    elif not corrected and case_dsc <= _NSD_NEEDS_DSC:
        notes.append("DSC <= 0.2: the challenge sets NSD to 0 (--corrected computes it)")
    if hds is not None and len(hds) and np.isnan(hds).any():
        notes.append("HD95 does not exist for labels that one side lacks; they are not in its mean")
    return tuple(notes)


def _label_maps(gts: np.ndarray, segs: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Both as the same unsigned type, the smallest that holds them."""
    gts, segs = as_labels(gts, "ground truth"), as_labels(segs, "masks")
    if gts.shape != segs.shape:
        raise CaseError(
            f"the masks are {_size(segs)} but the ground truth is {_size(gts)}; "
            "both must lie on the same grid"
        )
    kind = np.promote_types(gts.dtype, segs.dtype)
    return gts.astype(kind, copy=False), segs.astype(kind, copy=False)


def _size(array: np.ndarray) -> str:
    return "x".join(map(str, array.shape)) or "a single number"
