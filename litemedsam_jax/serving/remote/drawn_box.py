"""Boxes as clients send them, and which of them belong to one part of the object."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from litemedsam_jax.imaging.slice_prompt import AXES, SliceBox
from litemedsam_jax.serving.remote.cropped_mask import Box

# Of the smaller box's area, that two boxes share which are drawn around one thing.
_SAME = 0.5


@dataclass(frozen=True)
class DrawnBox:
    """A box that a client sent.

    Attributes:
        span: Of each axis of the volume the first voxel, and the one after the last.
        adds: Whether it holds what is the object, else what is not.
        through: Whether a mask drawn on one slice goes on to the slices around it.
    """

    span: Box
    adds: bool
    through: bool

    @classmethod
    def read(
        cls, coordinates: object, shape: tuple[int, ...], adds: bool, through: bool
    ) -> "DrawnBox":
        """From a request: a pair for each axis, half-open, in voxels; rounded, ordered, clipped.

        Args:
            coordinates: As the client sent them.
            shape: Of the volume, (D, H, W); pairs of the last two axes suffice for one slice.
            adds: See `DrawnBox`.
            through: See `DrawnBox`.

        Raises:
            ValueError: It is no box, or lies outside.
        """
        try:
            pairs = np.asarray(coordinates, np.float64)
        except (TypeError, ValueError):
            raise ValueError("bbox_coords must be a pair of numbers for each axis") from None
        if pairs.shape == (2, 2) and shape[0] == 1:
            pairs = np.concatenate([[[0, 1]], pairs])
        if pairs.shape != (3, 2) or not np.isfinite(pairs).all():
            raise ValueError("bbox_coords must be a pair of finite numbers for each of 3 axes")
        low, high = np.rint(pairs.min(axis=1)), np.rint(pairs.max(axis=1))
        high = np.maximum(high, low + 1)
        if (high <= 0).any() or (low >= shape).any():
            raise ValueError(
                f"the box {pairs.tolist()} lies outside of the image of shape {list(shape)}"
            )
        low, high = np.maximum(low, 0).astype(int), np.minimum(high, shape).astype(int)
        return cls(tuple(zip(low.tolist(), high.tolist(), strict=True)), adds, through)

    @property
    def flat(self) -> int | None:
        """The axis across which it lies on one slice; None: it is a box in three dimensions."""
        return next((k for k, (a, b) in enumerate(self.span) if b - a == 1), None)

    @property
    def index(self) -> int:
        """The slice of a flat box."""
        assert self.flat is not None
        return self.span[self.flat][0]

    def on_slice(self) -> SliceBox:
        """A flat box as inference takes it."""
        assert self.flat is not None
        rows, columns = (span for k, span in enumerate(self.span) if k != self.flat)
        low, high = (float(columns[0]), float(rows[0])), (columns[1] - 1.0, rows[1] - 1.0)
        return SliceBox(self.index, (*low, *high), AXES[self.flat], not self.adds)

    def in_volume(self, axis: int) -> np.ndarray:
        """(1, 6): x_min, y_min, z_min, x_max, y_max, z_max, inclusive, z along `axis`."""
        rows, columns = (span for k, span in enumerate(self.span) if k != axis)
        low, high = zip(columns, rows, self.span[axis], strict=True)
        return np.array([[*low, *(edge - 1 for edge in high)]])


@dataclass(frozen=True)
class Part:
    """Boxes whose masks are made together: one in three dimensions, or flat ones that agree."""

    boxes: tuple[DrawnBox, ...]

    @property
    def first(self) -> DrawnBox:
        """What decides how the mask is made."""
        return self.boxes[0]


def parts_of(boxes: Sequence[DrawnBox]) -> tuple[Part, ...]:
    """Which boxes belong together.

    A flat box takes the place of one on the same slice that shares half of the smaller one's area;
    joins a part across the same axis whose nearest box it shares as much with, seen along that
    axis; bounds a part that it crosses on another plane; else it is a part of its own. So are
    boxes in three dimensions, those that subtract, and those for one slice alone.
    """
    parts: list[list[DrawnBox]] = []
    for box in boxes:
        part = next((p for p in parts if _belongs(box, p)), None)
        if part is None:
            parts.append([box])
            continue
        same = next((k for k, b in enumerate(part) if _takes_place(box, b)), None)
        if same is None:
            part.append(box)
        else:
            part[same] = box
    return tuple(Part(tuple(part)) for part in parts)


def _belongs(box: DrawnBox, part: list[DrawnBox]) -> bool:
    first = part[0]
    if box.flat is None or first.flat is None:
        return False
    if (box.adds, box.through) != (first.adds, first.through):
        return False
    if not (box.adds and box.through):
        return _takes_place(box, first)
    along = [b for b in part if b.flat == first.flat]
    if box.flat == first.flat:
        nearest = min(along, key=lambda b: abs(b.index - box.index))
        if nearest.index == box.index and not _takes_place(box, nearest):
            return False  # another part of the object on that slice
        return _agree(box, nearest)
    return any(_takes_place(box, b) for b in part) or any(_cross(box, b) for b in along)


def _takes_place(box: DrawnBox, older: DrawnBox) -> bool:
    return box.flat == older.flat and box.index == older.index and _agree(box, older)


def _agree(one: DrawnBox, other: DrawnBox) -> bool:
    """Whether two boxes across one axis are drawn around one thing, seen along it."""
    shared, areas = 1, [1, 1]
    for axis, ((a, b), (c, d)) in enumerate(zip(one.span, other.span, strict=True)):
        if axis != one.flat:
            shared *= max(0, min(b, d) - max(a, c))
            areas = [areas[0] * (b - a), areas[1] * (d - c)]
    return shared >= _SAME * min(areas)


def _cross(one: DrawnBox, other: DrawnBox) -> bool:
    """Whether two boxes of different planes share voxels."""
    return all(max(a, c) < min(b, d) for (a, b), (c, d) in zip(one.span, other.span, strict=True))
