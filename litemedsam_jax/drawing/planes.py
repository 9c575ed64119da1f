"""The three planes of a volume, each turned upright in the patient."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from litemedsam_jax.drawing.orientation import Turn, turn_of

_OPPOSITE = {"R": "L", "L": "R", "A": "P", "P": "A", "I": "S", "S": "I", "": ""}
# By the axis of (D, H, W) that runs across the slices: which of x, y, z their columns, rows and
# the slices themselves follow.
AXES = {0: (0, 1, 2), 1: (0, 2, 1), 2: (1, 2, 0)}


@dataclass(frozen=True)
class Plane:
    """How the slices across one axis of (D, H, W) are shown.

    Attributes:
        axis: 0, 1 or 2; a slice is `volume.take(index, axis)`.
        name: "axial", "coronal", "sagittal", or "" where the direction is unknown.
        turn: What turns a slice upright.
        sides: The patient's sides at the left, top, right and bottom after turning, or "".
        spacing: Of columns and rows before turning, in mm.
    """

    axis: int
    name: str
    turn: Turn
    sides: tuple[str, str, str, str]
    spacing: tuple[float, float]


def planes_of(
    direction: Sequence[float] | np.ndarray | None, spacing: Sequence[float] | np.ndarray | None
) -> list[Plane]:
    """The planes of a volume, across its axes 0, 1 and 2.

    Args:
        direction: Nine numbers by rows, whose columns are the directions of x, y, z (LPS).
        spacing: x, y, z in mm.
    """
    matrix = None if direction is None else np.reshape(np.asarray(direction, float), (3, 3))
    sizes = (1.0, 1.0, 1.0) if spacing is None else tuple(float(s) for s in spacing)
    planes = []
    for axis, (columns, rows, across) in AXES.items():
        turn = turn_of(None if matrix is None else matrix[:, [columns, rows, across]].ravel())
        sides = (turn.left, turn.top, _OPPOSITE[turn.left], _OPPOSITE[turn.top])
        planes.append(Plane(axis, turn.plane, turn, sides, (sizes[columns], sizes[rows])))
    return planes
