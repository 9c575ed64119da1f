"""Prompts for volumes as people draw them: boxes on single slices, for one object each."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from litemedsam_jax.imaging.errors import CaseError

SHORT_DIAMETER = 0.7  # of the longest one, of an object of which no more is known
AXES = ("z", "y", "x")  # the array's axes 0, 1, 2: axial, coronal, sagittal of a straight grid


@dataclass(frozen=True)
class SliceBox:
    """A box drawn on one slice of a volume (D, H, W).

    Attributes:
        index: which slice, from 0.
        box: column_min, row_min, column_max, row_max of that slice, inclusive voxel indices. Its
            columns and rows are x and y for axis "z", x and z for "y", y and z for "x".
        axis: across which the slice lies: "z" is `volume[index]`, "y" `volume[:, index]`, "x"
            `volume[:, :, index]`.
        subtract: the box holds what is not the object.
    """

    index: int
    box: tuple[float, float, float, float]
    axis: str = "z"
    subtract: bool = False

    def __post_init__(self) -> None:
        """Refuses an axis that does not exist.

        Raises:
            CaseError: the axis has another name.
        """
        if self.axis not in AXES:
            raise CaseError(f"the axis '{self.axis}' of a box; expected one of x, y, z")

    @classmethod
    def around_line(
        cls, index: int, ends: Sequence[float], margin: float = 0.0, axis: str = "z"
    ) -> "SliceBox":
        """The box that a diameter spans, such as RECIST's longest one.

        The object is taken as an ellipse whose longest diameter the line is, and whose short one is
        `SHORT_DIAMETER` of that.

        Args:
            index: which slice, from 0.
            ends: column, row of one end and column, row of the other.
            margin: voxels added on every side.
            axis: across which the slice lies.
        """
        ends_ = np.asarray(ends, np.float64).reshape(2, 2)
        along = (ends_[1] - ends_[0]) / 2
        half = np.hypot(along, SHORT_DIAMETER * along[::-1]) + margin
        middle = ends_.mean(axis=0)
        return cls(index, tuple(np.concatenate([middle - half, middle + half]).tolist()), axis)


@dataclass(frozen=True)
class SlicePrompt:
    """The boxes of one object.

    Attributes:
        boxes: at least one that is not subtracted. Several on one axis guide the mask from one to
            the next; those of other axes bound it.
        first: the object's first slice along the axis of the first box, or None if unknown.
        last: its last slice, inclusive, or None.
        label: that the object's mask bears.
    """

    boxes: tuple[SliceBox, ...]
    first: int | None = None
    last: int | None = None
    label: int = 1

    def __post_init__(self) -> None:
        """Refuses a prompt that has nothing to start from.

        Raises:
            CaseError: every box is subtracted, or there is none; or the label is none.
        """
        if not 1 <= self.label <= 65535:
            raise CaseError(f"the label {self.label} of an object; expected 1 to 65535")
        if all(box.subtract for box in self.boxes):
            raise CaseError("an object has no box that is not subtracted; expected at least one")

    @property
    def axis(self) -> str:
        """The axis along which the mask is propagated."""
        return next(box.axis for box in self.boxes if not box.subtract)


def fit_prompt(prompt: SlicePrompt, shape: tuple[int, ...]) -> SlicePrompt:
    """Puts a prompt in order and inside a volume.

    Args:
        prompt: as given.
        shape: of the volume, (D, H, W).

    Returns:
        The prompt with its boxes clipped to the voxels' indices, minima first, and its range, if
        known, in order and inside the volume.

    Raises:
        CaseError: a box lies outside of the volume or of its own range, or two are at odds.
    """
    boxes = tuple(_fit_box(box, shape) for box in prompt.boxes)
    size = shape[AXES.index(prompt.axis)]
    first, last = prompt.first, prompt.last
    if first is not None and last is not None and first > last:
        first, last = last, first
    for box in boxes:
        along = box.axis == prompt.axis and not box.subtract
        below = first is not None and box.index < first
        if along and (below or (last is not None and box.index > last)):
            raise CaseError(
                f"a box on slice {box.index} lies outside of its range, {first} to {last}"
            )
    _refuse_ambiguous(boxes, prompt.axis)
    if first is not None:
        first = min(max(first, 0), size - 1)
    if last is not None:
        last = min(max(last, 0), size - 1)
    return SlicePrompt(boxes, first, last, prompt.label)


def _refuse_ambiguous(boxes: Sequence[SliceBox], axis: str) -> None:
    """One box a slice; a subtracting one lies on a slice like those it is subtracted from."""
    drawn = [box.index for box in boxes if box.axis == axis and not box.subtract]
    if twice := sorted({index for index in drawn if drawn.count(index) > 1}):
        raise CaseError(
            f"an object has several boxes on slice {twice[0]}; give one around all of it, or each "
            "a label of its own"
        )
    if other := [box.axis for box in boxes if box.subtract and box.axis != axis]:
        raise CaseError(
            f"a subtracting box lies across {other[0]}, but the object's first box across {axis}; "
            "draw both on the same plane"
        )


def _fit_box(one: SliceBox, shape: tuple[int, ...]) -> SliceBox:
    axis = AXES.index(one.axis)
    rows, columns = (length for k, length in enumerate(shape[:3]) if k != axis)
    if not 0 <= one.index < shape[axis]:
        raise CaseError(
            f"a box on slice {one.index} along {one.axis}; the volume has {shape[axis]}, from 0"
        )
    given = np.asarray(one.box, np.float64)
    if given.shape != (4,) or not np.isfinite(given).all():
        raise CaseError(f"a box of {len(one.box)} numbers on slice {one.index}; expected 4, finite")
    low, high = np.minimum(given[:2], given[2:]), np.maximum(given[:2], given[2:])
    last = np.array([columns, rows]) - 1
    if (high < 0).any() or (low > last).any():
        raise CaseError(
            f"the box {list(one.box)} on slice {one.index} along {one.axis} lies outside of the "
            f"slice of {columns}x{rows} voxels"
        )
    fitted = np.clip(np.concatenate([low, high]), 0, np.tile(last, 2))
    return SliceBox(one.index, tuple(fitted.tolist()), one.axis, one.subtract)
