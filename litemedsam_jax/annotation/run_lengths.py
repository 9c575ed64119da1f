"""Label maps and masks as cropped run lengths: small in a journal and on the wire."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np


@dataclass(frozen=True)
class Patch:
    """A rectangle of whole numbers, row by row as runs of equal values.

    Attributes:
        x, y: The rectangle's first column and row in its slice.
        width, height: Its size; 0 where there is nothing.
        values, lengths: The runs; the lengths sum to width * height.
    """

    x: int
    y: int
    width: int
    height: int
    values: np.ndarray
    lengths: np.ndarray

    @property
    def rows(self) -> slice:
        """The rows of the slice that it covers."""
        return slice(self.y, self.y + self.height)

    @property
    def columns(self) -> slice:
        """The columns of the slice that it covers."""
        return slice(self.x, self.x + self.width)

    def array(self) -> np.ndarray:
        """The rectangle as (height, width)."""
        return np.repeat(self.values, self.lengths).reshape(self.height, self.width)

    def to_json(self) -> dict[str, Any]:
        """What JSON holds of it; `from_json` reads it back."""
        return {
            "x": self.x,
            "y": self.y,
            "width": self.width,
            "height": self.height,
            "values": self.values.tolist(),
            "lengths": self.lengths.tolist(),
        }


def encode(array: np.ndarray, x: int = 0, y: int = 0) -> Patch:
    """A rectangle (height, width) of bool or whole numbers whose first pixel lies at x, y."""
    x, y = int(x), int(y)  # of NumPy's, which JSON does not take
    height, width = array.shape
    flat = array.ravel()
    if not flat.size:
        empty = np.zeros(0, np.int64)
        return Patch(x, y, 0, 0, empty, empty)
    starts = np.concatenate([[0], np.flatnonzero(flat[1:] != flat[:-1]) + 1])
    lengths = np.diff(np.append(starts, flat.size))
    return Patch(x, y, width, height, flat[starts].astype(np.uint16), lengths)


def encode_cropped(array: np.ndarray, x: int = 0, y: int = 0) -> Patch:
    """Like `encode`, of the smallest rectangle that holds everything that is not 0."""
    rows, columns = np.flatnonzero(array.any(axis=1)), np.flatnonzero(array.any(axis=0))
    if not rows.size:
        return encode(np.zeros((0, 0), np.uint8), x, y)
    top, left = int(rows[0]), int(columns[0])
    part = array[top : int(rows[-1]) + 1, left : int(columns[-1]) + 1]
    return encode(part, x + left, y + top)


def from_json(data: Any, shape: tuple[int, int]) -> Patch:
    """Reads what `Patch.to_json` made, inside a slice of `shape` (H, W).

    Raises:
        ValueError: It is no such object, or reaches out of the slice.
    """
    if not isinstance(data, Mapping):
        raise ValueError("a mask must be an object with x, y, width, height, values, lengths")
    try:
        x, y, width, height = (int(data[name]) for name in ("x", "y", "width", "height"))
        values = np.asarray(data["values"], np.int64).reshape(-1)
        lengths = np.asarray(data["lengths"], np.int64).reshape(-1)
    except (KeyError, TypeError, ValueError, OverflowError):
        raise ValueError(
            "a mask must have whole numbers x, y, width, height and lists values, lengths"
        ) from None
    if min(x, y, width, height) < 0 or x + width > shape[1] or y + height > shape[0]:
        raise ValueError(f"a mask reaches out of its slice of {shape[1]}x{shape[0]} pixels")
    if values.size != lengths.size or (lengths < 1).any() or int(lengths.sum()) != width * height:
        raise ValueError("a mask's lengths must be positive and sum to width times height")
    if values.size and (values.min() < 0 or values.max() > np.iinfo(np.uint16).max):
        raise ValueError("a mask's values must be from 0 to 65535")
    return Patch(x, y, width, height, values.astype(np.uint16), lengths)
