"""Boxes on single slices as JSON and CSV have them, made into prompts of whole objects."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from litemedsam_jax.imaging.geometry import Geometry
from litemedsam_jax.imaging.slice_prompt import AXES, SliceBox, SlicePrompt

_PLANE = {"z": "xy", "y": "xz", "x": "yz"}  # a slice's columns and rows
_KEYS = {*AXES, "box", "line", "range", "label", "subtract"}
LARGEST_LABEL = 65535
EXAMPLE = '{"z": 40, "box": [x_min, y_min, x_max, y_max]}'


def prompts_of_entries(
    entries: Sequence[Any], geometry: Geometry | None, units: str
) -> list[SlicePrompt]:
    """Makes one prompt of each object's entries.

    Args:
        entries: mappings with "z", "y" or "x" (the slice), "box" (four numbers, the plane's columns
            and rows: x, y for z; x, z for y; y, z for x) or "line" (two end points, such as
            RECIST's longest diameter), and optionally "range" (first and last slice), "label"
            (entries of one label are one object) and "subtract".
        geometry: of the volume, needed for millimetres.
        units: "voxel", "mm" (LPS) or "mm-ras"; of boxes, slices and ranges alike.

    Returns:
        The objects by ascending label; without labels, each entry is an object: 1, 2, ...

    Raises:
        ValueError: an entry is not understood.
    """
    if units != "voxel" and geometry is None:
        raise ValueError("millimetres need a volume; give voxels")
    if len(entries) > LARGEST_LABEL:
        raise ValueError(f"there are {len(entries)} boxes; labels end at {LARGEST_LABEL}")
    labelled = [isinstance(one, Mapping) and one.get("label") is not None for one in entries]
    if any(labelled) and not all(labelled):
        raise ValueError("some boxes have a label and some have none; give all of them one")
    objects: dict[int, SlicePrompt] = {}
    for number, entry in enumerate(entries, start=1):
        try:
            label = _label(entry, number)
            boxes, range_ = _entry(entry, geometry, units)
            objects[label] = _joined(objects.get(label), boxes, range_, label)
        except (ValueError, TypeError, OverflowError) as error:
            raise ValueError(f"box {number}: {error}") from None
    return [_checked(objects[label]) for label in sorted(objects)]


def _label(entry: Any, number: int) -> int:
    if not isinstance(entry, Mapping):
        raise ValueError(f"expected an entry such as {EXAMPLE}; boxes of two kinds cannot be mixed")
    if unknown := sorted(map(str, entry.keys() - _KEYS)):
        raise ValueError(f"'{unknown[0]}' is not known; expected {', '.join(sorted(_KEYS))}")
    label = entry.get("label")
    if label is None:
        if entry.get("subtract"):
            raise ValueError("a subtracting box needs the label of what it is subtracted from")
        return number
    if (
        isinstance(label, bool)
        or int(label) != float(label)
        or not 1 <= int(label) <= LARGEST_LABEL
    ):
        raise ValueError(f"the label {label}; expected a whole number from 1 to {LARGEST_LABEL}")
    return int(label)


_Range = tuple[int, int] | None


def _entry(
    entry: Mapping[str, Any], geometry: Geometry | None, units: str
) -> tuple[SliceBox, _Range]:
    axes = [axis for axis in AXES if entry.get(axis) is not None]
    if len(axes) != 1 or ("box" in entry) == ("line" in entry):
        raise ValueError(f"expected one slice (z, y or x) and a box or a line, such as {EXAMPLE}")
    key = "box" if "box" in entry else "line"
    plane = _numbers(entry[key], 4, key)
    position = _numbers([entry[axes[0]]], 1, axes[0])[0]
    range_ = entry.get("range")
    ends = None if range_ is None else _numbers(range_, 2, "range")
    axis = axes[0]
    if units != "voxel":
        assert geometry is not None
        axis, position, plane, ends = _to_voxels(
            axis, position, plane, ends, geometry, units == "mm-ras", key == "line"
        )
    index = round(float(position))
    subtract = bool(entry.get("subtract"))
    if key == "line":
        box = replace(SliceBox.around_line(index, plane.tolist(), axis=axis), subtract=subtract)
    else:
        box = SliceBox(index, tuple(plane.tolist()), axis, subtract)
    if ends is None:
        return box, None
    first, last = sorted(round(float(end)) for end in ends)
    return box, (first, last)


def _numbers(value: Any, count: int, name: str) -> np.ndarray:
    try:
        numbers = np.asarray(value, np.float64)
    except (ValueError, TypeError, OverflowError):
        numbers = np.zeros(0)
    if numbers.shape != (count,) or not np.isfinite(numbers).all():
        expected = "a number" if count == 1 else f"{count} numbers"
        raise ValueError(f"'{name}' is {str(value)[:60]}; expected {expected}")
    return numbers


def _to_voxels(
    axis: str,
    position: float,
    plane: np.ndarray,
    ends: np.ndarray | None,
    geometry: Geometry,
    ras: bool,
    line: bool,
) -> tuple[str, float, np.ndarray, np.ndarray | None]:
    """Millimetres to voxel indices; the slice may lie across another axis of the array.

    A box's four corners are taken, since a grid may be turned in the plane; a line's two ends.
    """
    columns, rows = ("xyz".index(one) for one in _PLANE[axis])
    across = "xyz".index(axis)
    corners = [(0, 1), (2, 3)] if line else [(0, 1), (0, 3), (2, 1), (2, 3)]
    points = np.full((len(corners), 3), float(position))
    points[:, columns] = plane[[k for k, _ in corners]]
    points[:, rows] = plane[[k for _, k in corners]]
    along = np.repeat(points[:1], 2, axis=0)
    along[:, across] = position if ends is None else ends
    sign = np.array([-1.0, -1.0, 1.0]) if ras else np.ones(3)
    indices = geometry.to_index(points * sign)
    direction = np.reshape(geometry.direction, (3, 3))[across]
    voxel_axis = int(np.abs(direction).argmax())
    if np.ptp(indices[:, voxel_axis]) > 1:
        raise ValueError(
            "the volume's slices are oblique to the box given in millimetres; give it in voxels"
        )
    name = "xyz"[voxel_axis]
    order = ["xyz".index(one) for one in _PLANE[name]]
    flat = indices[:, order]
    low_high = flat if line else np.stack([np.round(flat.min(axis=0)), np.round(flat.max(axis=0))])
    ends_voxels = geometry.to_index(along * sign)[:, voxel_axis]
    return (
        name,
        float(indices[:, voxel_axis].mean()),
        low_high.ravel(),
        None if ends is None else ends_voxels,
    )


def _joined(before: SlicePrompt | None, box: SliceBox, range_: _Range, label: int) -> SlicePrompt:
    boxes = [box] if before is None else [*before.boxes, box]
    first, last = (None, None) if before is None else (before.first, before.last)
    if range_ is not None:
        if first is not None and (first, last) != range_:
            raise ValueError(f"label {label} has two ranges, {first} to {last} and {range_}")
        first, last = range_
    # A subtracting box may come first; whether there is another one is checked at the end.
    return _Unchecked(tuple(boxes), first, last, label)


class _Unchecked(SlicePrompt):
    """A prompt that is not complete yet."""

    def __post_init__(self) -> None:
        """Nothing is checked."""


def _checked(prompt: SlicePrompt) -> SlicePrompt:
    try:
        return SlicePrompt(prompt.boxes, prompt.first, prompt.last, prompt.label)
    except ValueError as error:
        raise ValueError(f"label {prompt.label}: {error}") from None


def entries_of_rows(rows: Sequence[Mapping[str, str | None]]) -> list[dict[str, Any]]:
    """Entries of CSV rows: z (or y, x), the plane's x_min ... y_max, first, last, label, subtract.

    Args:
        rows: texts by column; empty ones are as if absent.

    Raises:
        ValueError: a row lacks a column or holds something that is no number.
    """
    entries = []
    for number, row in enumerate(rows, start=1):
        given = {name: text.strip() for name, text in row.items() if text and text.strip()}
        axes = [axis for axis in AXES if axis in given]
        if len(axes) != 1:
            raise ValueError(f"row {number}: expected one of the columns z, y and x filled")
        plane = _PLANE[axes[0]]
        names = [f"{one}_{side}" for side in ("min", "max") for one in plane]
        try:
            entry: dict[str, Any] = {
                axes[0]: float(given[axes[0]]),
                "box": [float(given[name]) for name in names],
            }
            if "first" in given or "last" in given:
                entry["range"] = [float(given["first"]), float(given["last"])]
            if "label" in given:
                entry["label"] = float(given["label"])
        except KeyError as error:
            raise ValueError(f"row {number}: lacks the column {error.args[0]}") from None
        entry["subtract"] = given.get("subtract", "").lower() in ("1", "true", "yes")
        entries.append(entry)
    return entries
