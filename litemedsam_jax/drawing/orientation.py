"""How a volume is turned for display: as a radiologist expects each plane to stand.

Axial: front of the patient at the top, patient's right at the left. Coronal: head at the top,
patient's right at the left. Sagittal: head at the top, front at the left. Slices stay the slices
that were acquired, under their own numbers; only what is drawn is turned, never the data.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import permutations

import numpy as np

# The patient's axes in DICOM's order and sense (LPS), and the ends of each.
_ENDS = (("R", "L"), ("A", "P"), ("I", "S"))
# By the patient's axis that runs across the slices: its plane, then axis and sense of the columns
# from left to right and of the rows from top to bottom.
_PLANES = {
    2: ("axial", (0, 1), (1, 1)),
    1: ("coronal", (0, 1), (2, -1)),
    0: ("sagittal", (1, 1), (2, -1)),
}


@dataclass(frozen=True)
class Turn:
    """What turns a slice upright: rows and columns exchanged first, then flips.

    Attributes:
        exchange: Whether rows and columns are exchanged.
        flip_columns: Whether left and right are exchanged, after that.
        flip_rows: Whether top and bottom are.
        plane: Of the slices as they are (the nearest one, if oblique); empty where the direction
            is unknown, as the next two.
        left: The patient's side at the left after turning: R, L, A, P, I or S.
        top: The one at the top.
    """

    exchange: bool = False
    flip_columns: bool = False
    flip_rows: bool = False
    plane: str = ""
    left: str = ""
    top: str = ""

    def array(self, volume: np.ndarray) -> np.ndarray:
        """A volume (D, H, W[, 3]) turned; a view."""
        turned = volume.swapaxes(1, 2) if self.exchange else volume
        return turned[:, :: -1 if self.flip_rows else 1, :: -1 if self.flip_columns else 1]

    def boxes(self, boxes: np.ndarray, shape: Sequence[int]) -> np.ndarray:
        """Boxes (N, 6) of a volume of that shape (D, H, W, ...), turned with it."""
        corners = np.array(boxes, np.float64).reshape(-1, 2, 3)  # x, y, z
        height, width = shape[1:3]
        if self.exchange:
            corners, height, width = corners[..., [1, 0, 2]], width, height
        for axis, last, flip in (
            (0, width - 1, self.flip_columns),
            (1, height - 1, self.flip_rows),
        ):
            if flip:
                corners[..., axis] = last - corners[:, ::-1, axis]
        return corners.reshape(-1, 6)

    def spacing(self, spacing: Sequence[float] | np.ndarray) -> np.ndarray:
        """The spacing x, y, z of the turned slices."""
        values = np.array(spacing, np.float64).ravel()
        if self.exchange and values.size >= 2:
            values[:2] = values[1::-1]
        return values


def turn_of(direction: Sequence[float] | np.ndarray | None) -> Turn:
    """The turn for a volume whose axes x, y, z point along the columns of a 3x3 matrix (LPS).

    Args:
        direction: Nine numbers by rows, as SimpleITK and prepared cases have them. Nothing is
            turned where it is None or no such matrix.
    """
    axes = np.zeros(0) if direction is None else np.asarray(direction)
    if axes.size != 9 or axes.dtype.kind not in "iuf" or not np.isfinite(axes).all():
        return Turn()
    axes = axes.astype(np.float64).reshape(3, 3)
    # Which of the patient's axes each of the volume's x, y, z runs along, the nearest as a whole.
    nearest = max(permutations(range(3)), key=lambda order: abs(axes[order, range(3)]).sum())
    plane, columns, rows = _PLANES[nearest[2]]
    exchange = nearest[0] != columns[0]
    flip_columns, left = _end(axes[:, int(exchange)], *columns)
    flip_rows, top = _end(axes[:, int(not exchange)], *rows)
    return Turn(exchange, flip_columns, flip_rows, plane, left, top)


def _end(along: np.ndarray, axis: int, sense: int) -> tuple[bool, str]:
    """Whether a volume's axis must be flipped to run in that sense, and the side it starts at."""
    return bool(along[axis] * sense < 0), _ENDS[axis][0 if sense > 0 else 1]
