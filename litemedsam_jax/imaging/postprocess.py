"""Steps that clean label maps, asked for by name; none is taken unless asked for."""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from litemedsam_jax.imaging.errors import CaseError

NAMES = ("fill-holes", "hull", "largest-part", "min-ml=ML", "smooth")
OF_SLICES = frozenset({"fill-holes", "hull"})  # steps that take each slice by itself
_SMOOTHING = 1.0  # sigma of the Gaussian, in voxels of the finest axis
_MARGIN = 3  # voxels around a label, into which smoothing may reach


@dataclass(frozen=True)
class Step:
    """One step: its name and, for `min-ml`, how many."""

    name: str
    value: float = 0.0


def parse(text: str) -> tuple[Step, ...]:
    """Steps from their names, joined by commas; they are taken in this order.

    Raises:
        ValueError: there is no such step, or its number is none.
    """
    steps = []
    for part in text.split(","):
        name, _, number = part.strip().partition("=")
        known = {one.partition("=")[0]: "=" in one for one in NAMES}
        if name not in known or known[name] != bool(number):
            raise ValueError(f"there is no step '{part}'; choose from {', '.join(NAMES)}")
        value = 0.0
        if number:
            try:
                value = float(number)
            except ValueError:
                value = math.nan
            if not 0 <= value < math.inf:
                raise ValueError(f"'{part}': expected a volume in ml, such as min-ml=0.5")
        steps.append(Step(name, value))
    return tuple(steps)


def postprocess(
    labels: np.ndarray, steps: Sequence[Step], spacing: Sequence[float] | np.ndarray | None = None
) -> np.ndarray:
    """Takes the steps on every label by itself; a voxel of another label is never taken over.

    Args:
        labels: (H, W) or (D, H, W), 0 is background.
        steps: in order. Of volumes slice by slice, as the network works: `fill-holes`, what a label
            encloses; `hull`, its convex hull. Of the whole: `largest-part`, the others are dropped,
            diagonals connect; `min-ml`, smaller parts are dropped; `smooth`, a Gaussian of one
            voxel of the finest axis, cut at one half.
        spacing: x, y, z in mm; `min-ml` needs it.

    Returns:
        A new label map.

    Raises:
        CaseError: `min-ml` for what has no volume.
    """
    from scipy import ndimage

    if any(step.name == "min-ml" for step in steps) and (spacing is None or labels.ndim != 3):
        raise CaseError("min-ml needs a volume with a spacing; leave it out of --postprocess")
    mm = np.ones(labels.ndim) if spacing is None else np.asarray(spacing, np.float64)[::-1]
    mm = mm[-labels.ndim :]
    result = np.array(labels)
    for label, where in enumerate(ndimage.find_objects(labels), start=1):
        if where is None:
            continue
        around = tuple(
            slice(max(0, one.start - _MARGIN), min(size, one.stop + _MARGIN))
            for one, size in zip(where, labels.shape, strict=True)
        )
        part = result[around]
        mask = part == label
        for step in steps:
            mask = _STEPS[step.name](mask, step.value, mm)
        free = (part == 0) | (part == label)
        part[part == label] = 0
        part[mask & free] = label
    return result


def _fill_holes(mask: np.ndarray, _: float, __: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    if mask.ndim == 2:
        return ndimage.binary_fill_holes(mask)
    return np.stack([ndimage.binary_fill_holes(section) for section in mask])


def _hull(mask: np.ndarray, _: float, __: np.ndarray) -> np.ndarray:
    import cv2

    filled = np.zeros(mask.shape, np.uint8)
    sections = zip(mask, filled, strict=True) if mask.ndim == 3 else [(mask, filled)]
    for section, result in sections:
        points = np.argwhere(section)[:, ::-1].astype(np.int32)
        if len(points):
            cv2.fillConvexPoly(result, cv2.convexHull(points), 1)
    return filled > 0


def _largest_part(mask: np.ndarray, _: float, __: np.ndarray) -> np.ndarray:
    from litemedsam_jax.imaging.masks import components

    parts = components(mask)
    sizes = np.bincount(parts.ravel())
    sizes[0] = 0
    return parts == sizes.argmax() if sizes.any() else mask


def _min_ml(mask: np.ndarray, ml: float, mm: np.ndarray) -> np.ndarray:
    from litemedsam_jax.imaging.masks import components

    parts = components(mask)
    volumes = np.bincount(parts.ravel()) * float(np.prod(mm)) / 1000
    volumes[0] = 0
    return (volumes >= ml)[parts] & mask


def _smooth(mask: np.ndarray, _: float, mm: np.ndarray) -> np.ndarray:
    from scipy import ndimage

    sigma = _SMOOTHING * mm.min() / mm
    return ndimage.gaussian_filter(mask.astype(np.float32), sigma, mode="nearest") > 0.5


_STEPS: dict[str, Callable[[np.ndarray, float, np.ndarray], np.ndarray]] = {
    "fill-holes": _fill_holes,
    "hull": _hull,
    "largest-part": _largest_part,
    "min-ml": _min_ml,
    "smooth": _smooth,
}
