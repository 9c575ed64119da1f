"""What is wrong with a case, in sentences."""

from pathlib import Path

import numpy as np

from litemedsam_jax.imaging.case import read_case
from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.imaging.npz import read_npz


def faults_of_case(path: Path, gts: Path | None = None) -> list[str]:
    """Every fault found in an npz case: what is wrong, what was expected, what to do.

    Args:
        path: the case.
        gts: its ground-truth npz, if it has one.

    Returns:
        A sentence for each fault; none: nothing is wrong.
    """
    names = ("boxes", "gts", "spacing", "origin", "direction")
    try:
        arrays = read_npz(path, ("imgs",), names)
    except CaseError as error:
        try:
            read_case(path)  # prompts of a later challenge are read by it alone
        except CaseError:
            return [error.reason]
        return []
    if "boxes" not in arrays and "gts" not in arrays:
        return ["has neither boxes nor gts; `litemedsam prepare` writes both"]
    imgs = arrays["imgs"]
    faults = _image_faults(imgs)
    volume = _is_volume(arrays)
    if imgs.ndim != (3 if volume else 2) and imgs.shape[-1:] != (3,):
        expected = "(D, H, W[, 3])" if volume else "(H, W[, 3])"
        return [*faults, f"imgs has shape {imgs.shape}; its boxes or gts ask for {expected}"]
    grid = imgs.shape[: 3 if volume else 2]
    if "boxes" in arrays:
        faults += _box_faults(arrays["boxes"], grid)
    if "gts" in arrays:
        faults += _label_faults(arrays["gts"], grid)
    if volume:
        faults += _spacing_faults(arrays.get("spacing"))
    named_volume = path.name.startswith("3D")
    if "boxes" in arrays and path.name[:2] in ("2D", "3D") and named_volume != volume:
        faults.append(
            f"its name begins with {path.name[:2]}, but its boxes say otherwise; rename it"
        )
    if gts is not None:
        faults += _truth_faults(gts, grid, len(arrays.get("boxes", ())))
    return faults


def _is_volume(arrays: dict[str, np.ndarray]) -> bool:
    if "boxes" in arrays and arrays["boxes"].ndim == 2:
        return arrays["boxes"].shape[1] == 6
    return "gts" in arrays and arrays["gts"].ndim == 3


def _image_faults(imgs: np.ndarray) -> list[str]:
    if not imgs.size:
        return [f"imgs has shape {imgs.shape}, which holds nothing"]
    if imgs.dtype.kind not in "iuf":
        return [f"imgs holds {imgs.dtype}; expected uint8 from 0 to 255 (a bool image: times 255)"]
    low, high = imgs.min(), imgs.max()
    if not (low >= 0 and high <= 255):
        return [
            f"imgs holds values from {low} to {high}; expected 0 to 255, without NaN (window or "
            "scale the image: `litemedsam prepare`)"
        ]
    if low == high:
        return [f"imgs is {low} everywhere; look whether the window fits the image"]
    return []


def _box_faults(boxes: np.ndarray, grid: tuple[int, ...]) -> list[str]:
    if boxes.ndim != 2 or boxes.shape[1] not in (4, 6) or boxes.dtype.kind not in "iuf":
        return [f"boxes has shape {boxes.shape}, {boxes.dtype}; expected numbers (N, 4) or (N, 6)"]
    if not len(boxes):
        return ["boxes is empty; expected at least one"]
    if not np.isfinite(boxes).all():
        return ["boxes holds NaN or infinity; expected pixel indices"]
    if boxes.min() >= 0 and boxes.max() <= 1 and (boxes % 1 != 0).any():
        return ["boxes lie between 0 and 1 (normalised); expected pixel indices"]
    half = boxes.shape[1] // 2
    low, high, limits = boxes[:, :half], boxes[:, half:], np.array(grid[::-1])
    flat = (low[:, :2] == high[:, :2]).any(1)
    faults = []
    for text, wrong in (
        ("is a single row or column of pixels; look whether it is meant so", flat),
        ("has swapped corners; expected the minima first", (low > high).any(1)),
        (f"reaches out of the image {grid[::-1]} (x, y, z)", ((low < 0) | (high > limits)).any(1)),
    ):
        if wrong.any():
            index = int(np.flatnonzero(wrong)[0])
            faults.append(f"box {index + 1}, {boxes[index].tolist()}, {text}; {wrong.sum()} such")
    return faults


def _label_faults(gts: np.ndarray, grid: tuple[int, ...]) -> list[str]:
    if gts.dtype.kind not in "iub" or gts.shape != grid:
        return [f"gts has shape {gts.shape}, {gts.dtype}; expected whole numbers of shape {grid}"]
    present = np.unique(gts)
    if present[0] < 0 or present[-1] > 65535:
        return [f"gts holds labels {present[0]} to {present[-1]}; expected 0 to 65535"]
    if not present[-1]:
        return ["gts is empty; there is nothing to train on or to score"]
    return []


def _spacing_faults(spacing: np.ndarray | None) -> list[str]:
    if spacing is None:
        return ["has no spacing; scores in mm will take 1 mm (expected: x, y, z in mm)"]
    if spacing.shape != (3,) or spacing.dtype.kind not in "iuf" or not (spacing > 0).all():
        return [f"spacing is {spacing.tolist()}; expected three positive numbers (x, y, z in mm)"]
    return []


def _truth_faults(path: Path, grid: tuple[int, ...], boxes: int) -> list[str]:
    try:
        gts = read_npz(path, ("gts",))["gts"]
    except CaseError as error:
        return [f"ground truth: {error.reason}"]
    faults = [f"ground truth: {fault}" for fault in _label_faults(gts, grid)]
    highest = int(gts.max(initial=0))
    if not faults and boxes and highest != boxes:
        faults.append(
            f"ground truth: labels go to {highest}, but there are {boxes} boxes; scores pair box k "
            "with label k"
        )
    return faults
