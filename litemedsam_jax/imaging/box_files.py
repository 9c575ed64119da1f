"""Boxes read from JSON and CSV, in voxels or millimetres."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from litemedsam_jax.imaging.geometry import Geometry
from litemedsam_jax.imaging.slice_box_files import entries_of_rows, prompts_of_entries
from litemedsam_jax.imaging.slice_prompt import AXES, SlicePrompt

UNITS = ("voxel", "mm", "mm-ras")
_FLAT = ("x_min", "y_min", "x_max", "y_max")
_SOLID = ("x_min", "y_min", "z_min", "x_max", "y_max", "z_max")


def read_boxes(
    path: str | Path, case: str, geometry: Geometry | None, units: str | None = None
) -> np.ndarray:
    """The boxes of one case from a JSON or CSV file, as voxel indices (N, 4) or (N, 6), float64.

    JSON: a list of boxes, or {"units": ..., "boxes": [...]}, or a mapping from case names to
    either. CSV: columns x_min, y_min, (z_min,) x_max, y_max, (z_max), and optionally case, units.
    units: `voxel` (indices from 0, inclusive), `mm` (LPS, as in DICOM and SimpleITK) or `mm-ras`
    (as NIfTI and 3D Slicer show them); the file's own word counts before the argument. geometry:
    needed for millimetres. Raises ValueError that says what is wrong.
    """
    rows, chosen = _read(Path(path), case, units)
    return _boxes(Path(path), case, rows, geometry, chosen)


def read_prompts(
    path: str | Path, case: str, geometry: Geometry | None, units: str | None = None
) -> np.ndarray | list[SlicePrompt]:
    """The boxes of one case: like `read_boxes`, or boxes on single slices of a volume.

    Those are JSON entries such as {"z": 40, "box": [x_min, y_min, x_max, y_max]}, or CSV rows with
    a column z (y, x) instead of its minimum and maximum; see `slice_box_files` for what an entry
    may hold.

    Args:
        path: JSON or CSV.
        case: whose boxes they are.
        geometry: of the volume; None for 2D images.
        units: of a file that names none.

    Returns:
        Boxes (N, 4) or (N, 6), or the prompt of each object.

    Raises:
        ValueError: the file cannot be read or an entry is not understood.
    """
    path = Path(path)
    rows, chosen = _read(path, case, units)
    drawn = isinstance(rows, list) and any(isinstance(row, Mapping) for row in rows)
    if not drawn:
        return _boxes(path, case, rows, geometry, chosen)
    try:
        return prompts_of_entries(rows, geometry, chosen)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read(path: Path, case: str, units: str | None) -> tuple[Any, str]:
    reader = {".json": _from_json, ".csv": _from_csv}.get(path.suffix.lower())
    if reader is None:
        raise ValueError(f"{path}: boxes are read from .json, .csv or a label file")
    rows, own_units = reader(path, case)
    chosen = own_units or units or "voxel"
    if chosen not in UNITS:
        raise ValueError(f"{path}: units '{chosen}'; expected one of {', '.join(UNITS)}")
    return rows, chosen


def _boxes(path: Path, case: str, rows: Any, geometry: Geometry | None, chosen: str) -> np.ndarray:
    try:
        boxes = np.asarray(rows, np.float64)
    except (TypeError, ValueError, OverflowError):
        boxes = np.zeros(0)
    if boxes.ndim != 2 or boxes.shape[1] not in (4, 6) or not np.isfinite(boxes).all():
        raise ValueError(
            f"{path}: the boxes of {case} must be rows of 4 numbers ({', '.join(_FLAT)}) or of 6 "
            f"({', '.join(_SOLID)})"
        )
    if chosen == "voxel":
        return boxes
    if geometry is None or boxes.shape[1] != 6:
        raise ValueError(f"{path}: millimetres need a volume and boxes of 6 numbers; give voxels")
    return _to_voxels(boxes, geometry, ras=chosen == "mm-ras")


def _to_voxels(boxes: np.ndarray, geometry: Geometry, ras: bool) -> np.ndarray:
    corners = boxes.reshape(-1, 2, 3)
    if ras:
        corners = corners * (-1.0, -1.0, 1.0)
    # All 8 corners: on an oblique grid the two given ones do not span the box.
    choice = np.array(list(np.ndindex(2, 2, 2)))
    every = corners[:, choice, np.arange(3)]  # (N, 8, 3)
    indices = geometry.to_index(every.reshape(-1, 3)).reshape(-1, 8, 3)
    return np.round(np.concatenate([indices.min(1), indices.max(1)], axis=1))


def _from_json(path: Path, case: str) -> tuple[Any, str | None]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (ValueError, RecursionError) as error:  # UTF-8, JSON, giant numbers, deep nests
        raise ValueError(f"{path}: is not valid JSON ({error})") from None
    units = content.get("units") if isinstance(content, Mapping) else None
    if isinstance(content, Mapping) and "boxes" not in content:
        if case not in content:
            known = ", ".join(list(map(str, content))[:3]) or "nothing"
            raise ValueError(f"{path}: has no entry for {case} (it has {known} ...)")
        content = content[case]
    if isinstance(content, Mapping):
        return content.get("boxes"), content.get("units", units)
    return content, units


def _from_csv(path: Path, case: str) -> tuple[list[Any], str | None]:
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            rows = [{(k or "").strip(): v for k, v in row.items()} for row in csv.DictReader(file)]
    except (UnicodeDecodeError, csv.Error) as error:
        raise ValueError(f"{path}: is not CSV in UTF-8 ({error})") from None
    columns = set().union(*(row.keys() for row in rows)) if rows else set()
    drawn = columns & set(AXES)
    names = _SOLID if "z_min" in columns else _FLAT
    missing = [name for name in names if name not in columns]
    if missing and not drawn:
        raise ValueError(f"{path}: lacks the column {missing[0]}; expected {', '.join(names)}")
    if "case" in columns:
        rows = [row for row in rows if (row["case"] or "").strip() == case]
    if not rows:
        raise ValueError(f"{path}: has no row for {case}")
    units = {(row.get("units") or "").strip() for row in rows} - {""}
    if len(units) > 1:
        raise ValueError(f"{path}: mixes the units {', '.join(sorted(units))} within {case}")
    if drawn:
        try:
            return entries_of_rows(rows), next(iter(units), None)
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
    try:
        values = [[float(row[name]) for name in names] for row in rows]
    except (TypeError, ValueError):
        raise ValueError(f"{path}: a box of {case} holds something that is no number") from None
    return values, next(iter(units), None)
