"""Boxes read from JSON and CSV, in voxels or millimetres; the JSON of annotation programs too."""

import csv
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from litemedsam_jax.imaging.annotation_files import boxes_of_annotations, names_of_case
from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.imaging.geometry import Geometry
from litemedsam_jax.imaging.slice_box_files import entries_of_rows, prompts_of_entries
from litemedsam_jax.imaging.slice_prompt import AXES, SlicePrompt

UNITS = ("voxel", "mm", "mm-ras")
_FLAT = ("x_min", "y_min", "x_max", "y_max")
_SOLID = ("x_min", "y_min", "z_min", "x_max", "y_max", "z_max")


def read_boxes(
    path: str | Path, case: str, geometry: Geometry | None, units: str | None = None
) -> np.ndarray:
    """The boxes of one case from a JSON or CSV file.

    JSON: a list of boxes, or {"units": ..., "boxes": [...]}, or a mapping from case names (or
    files' names: `x.png`) to either; or a file of labelme, 3D Slicer or COCO, see
    `annotation_files`. CSV: columns x_min, y_min, (z_min,) x_max, y_max, (z_max), and optionally
    case, units.

    Args:
        path: JSON or CSV.
        case: whose boxes they are.
        geometry: of the volume, needed for millimetres; None for 2D images.
        units: `voxel` (indices from 0, inclusive), `mm` (LPS, as in DICOM and SimpleITK) or
            `mm-ras` (as NIfTI and 3D Slicer show them), of a file that names none.

    Returns:
        Voxel indices (N, 4) or (N, 6), float64.

    Raises:
        ValueError: what is wrong with the file; names it.
    """
    rows, chosen = _read(Path(path), case, geometry, units)
    return _boxes(Path(path), case, rows, geometry, chosen)


def read_prompts(
    path: str | Path,
    case: str,
    geometry: Geometry | None,
    units: str | None = None,
    shape: tuple[int, ...] | None = None,
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
        shape: of a 2D image, (H, W), to compare with what a file of another program says.

    Returns:
        Boxes (N, 4) or (N, 6), or the prompt of each object.

    Raises:
        ValueError: the file cannot be read or an entry is not understood.
    """
    path = Path(path)
    rows, chosen = _read(path, case, geometry, units, shape)
    drawn = isinstance(rows, list) and any(isinstance(row, Mapping) for row in rows)
    if not drawn:
        return _boxes(path, case, rows, geometry, chosen)
    try:
        return prompts_of_entries(rows, geometry, chosen)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _read(
    path: Path,
    case: str,
    geometry: Geometry | None,
    units: str | None,
    shape: tuple[int, ...] | None = None,
) -> tuple[Any, str]:
    if path.suffix.lower() == ".json":
        rows, own_units = _from_json(path, case, geometry, shape)
    elif path.suffix.lower() == ".csv":
        rows, own_units = _from_csv(path, case)
    else:
        raise ValueError(f"{path}: boxes are read from .json, .csv or a label file")
    chosen = own_units or units or "voxel"
    if chosen not in UNITS:
        raise ValueError(f"{path}: units '{chosen}'; expected one of {', '.join(UNITS)}")
    return rows, chosen


def _boxes(path: Path, case: str, rows: Any, geometry: Geometry | None, chosen: str) -> np.ndarray:
    try:
        boxes = np.asarray(rows, np.float64)
    except (TypeError, ValueError, OverflowError):
        boxes = np.zeros(0)
    if boxes.ndim == 1 and boxes.size in (4, 6):  # one box alone
        boxes = boxes[None]
    if isinstance(rows, list) and not rows:
        raise ValueError(f"{path}: holds no box for {case}; expected at least one")
    if boxes.ndim != 2 or boxes.shape[1] not in (4, 6) or not np.isfinite(boxes).all():
        raise ValueError(
            f"{path}: the boxes of {case} must be rows of 4 numbers ({', '.join(_FLAT)}) or of 6 "
            f"({', '.join(_SOLID)})"
        )
    half = boxes.shape[1] // 2
    if (flat := (boxes[:, :2] == boxes[:, half : half + 2]).any(axis=1)).any():
        index = int(np.flatnonzero(flat)[0])
        raise ValueError(
            f"{path}: box {index + 1} of {case}, {boxes[index].tolist()}, has no area; expected "
            "x_min below x_max and y_min below y_max (of one point a box must be made)"
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


def _from_json(
    path: Path, case: str, geometry: Geometry | None, shape: tuple[int, ...] | None
) -> tuple[Any, str | None]:
    try:
        content = json.loads(path.read_text(encoding="utf-8-sig"))  # Windows adds a mark
    except (ValueError, RecursionError) as error:  # UTF-8, JSON, giant numbers, deep nests
        raise ValueError(f"{path}: is not valid JSON ({error})") from None
    try:
        boxes = boxes_of_annotations(content, case, geometry, shape)
    except CaseError as error:
        raise ValueError(f"{path}: {error}") from None
    if boxes is not None:
        return boxes, "voxel"
    units = content.get("units") if isinstance(content, Mapping) else None
    if isinstance(content, Mapping) and "boxes" not in content:
        content = content[_own_name(path, list(map(str, content)), case, "entry", "entries")]
    if isinstance(content, Mapping):
        return content.get("boxes"), content.get("units", units)
    return content, units


def _own_name(path: Path, names: list[str], case: str, one: str, many: str) -> str:
    """The one of the names that means the case."""
    matches = names_of_case(names, case)
    if len(matches) == 1:
        return matches[0]
    known = ", ".join((matches or names)[:3]) or "nothing"
    count = f"{len(matches)} {many}" if matches else f"no {one}"
    raise ValueError(f"{path}: has {count} for {case} (it has {known} ...)")


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
        named = [((row["case"] or "").strip(), row) for row in rows]
        own = _own_name(path, list(dict.fromkeys(name for name, _ in named)), case, "row", "rows")
        rows = [row for name, row in named if name == own]
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
