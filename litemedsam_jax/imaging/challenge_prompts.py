"""Prompts of later challenges' npz: CVPR 2025 (a box on the middle slice), FLARE 2025 (RECIST).

CVPR 2025: `boxes` is an object array of dictionaries, one an object: z_min, z_max (the range, both
inclusive), z_mid, and z_mid_x_min ... z_mid_y_max on that slice. FLARE 2025, task 1: `recist`
marks a diameter of each lesion on one slice, by label.
"""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.imaging.npz import read_npz, read_object_array
from litemedsam_jax.imaging.slice_prompt import SliceBox, SlicePrompt

_PLANE = ("z_mid_x_min", "z_mid_y_min", "z_mid_x_max", "z_mid_y_max")
_THIN = 0.2  # a marker this much narrower than long is a line; others are boxed as they are


def read_challenge_prompts(path: Path) -> tuple[list[SlicePrompt], list[str]] | None:
    """The prompts of an npz of one of these formats, and what a user must know of them.

    Args:
        path: the npz.

    Returns:
        The objects' prompts and messages; None where the npz is of neither format.

    Raises:
        CaseError: the prompts are there and cannot be used.
    """
    boxes = read_object_array(path, "boxes")
    if boxes is not None:
        notes = []
        if _clicks(read_object_array(path, "clicks")):
            notes.append("its `clicks` are not used: the network was trained on boxes")
        return _of_dictionaries(boxes), notes
    arrays = read_npz(path, (), ("recist",))
    if "recist" in arrays:
        return _of_marker(arrays["recist"]), []
    return None


def _of_dictionaries(boxes: Any) -> list[SlicePrompt]:
    if isinstance(boxes, Mapping):
        boxes = [boxes]
    if not isinstance(boxes, list | tuple) or not boxes:
        raise CaseError(f"boxes holds {type(boxes).__name__}; expected dictionaries, one an object")
    prompts = []
    for label, box in enumerate(boxes, start=1):
        if box is None or (isinstance(box, Mapping) and not box):
            continue  # an object without a box: its label stays free
        try:
            first, last, middle = (_number(box[key]) for key in ("z_min", "z_max", "z_mid"))
            plane = tuple(_number(box[key]) for key in _PLANE)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CaseError(
                f"box {label} lacks {error}; expected numbers z_min, z_max, z_mid and "
                f"{', '.join(_PLANE)}"
            ) from error
        drawn = SliceBox(round(middle), plane)  # type: ignore[arg-type]
        prompts.append(SlicePrompt((drawn,), round(first), round(last), label))
    if not prompts:
        raise CaseError("boxes holds no box; expected at least one object with one")
    return prompts


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TypeError(f"a number where {type(value).__name__} stands")
    return float(value)


def _clicks(clicks: Any) -> bool:
    """Whether there is a click in it, however it is nested."""
    if isinstance(clicks, Mapping):
        return any(map(_clicks, clicks.values()))
    if isinstance(clicks, list | tuple):
        return any(map(_clicks, clicks))
    return isinstance(clicks, int | float)


def _of_marker(marker: np.ndarray) -> list[SlicePrompt]:
    if marker.ndim != 3 or marker.dtype.kind not in "biu":
        raise CaseError(
            f"recist has type {marker.dtype} and shape {marker.shape}; expected labels (D, H, W)"
        )
    labels = np.unique(marker[marker > 0]).tolist()
    if not labels:
        raise CaseError("recist marks nothing; expected a diameter of each lesion on one slice")
    return [SlicePrompt((_around(marker == label),), label=int(label)) for label in labels]


def _around(marked: np.ndarray) -> SliceBox:
    index = int(marked.sum(axis=(1, 2)).argmax())
    rows, columns = np.nonzero(marked[index])
    points = np.stack([columns, rows], axis=1).astype(np.float64)
    centred = points - points.mean(axis=0)
    _, axes = np.linalg.eigh(centred.T @ centred)
    across, along = (centred @ axes).T
    if np.ptp(across) <= _THIN * np.ptp(along):
        ends = points[[int(along.argmin()), int(along.argmax())]]
        return SliceBox.around_line(index, ends.ravel().tolist())
    return SliceBox(index, tuple(np.concatenate([points.min(axis=0), points.max(axis=0)]).tolist()))
