"""Masks of volumes, kept as bits where they are not empty."""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

Box = tuple[tuple[int, int], ...]  # of each axis the first index, and the one after the last


@dataclass(frozen=True, eq=False)
class CroppedMask:
    """A mask (D, H, W): its bits inside a box; all else is empty.

    Attributes:
        box: Where it can be set; lengths of 0 where nothing is.
        bits: Eight voxels a byte.
    """

    box: Box
    bits: np.ndarray

    @classmethod
    def of(cls, values: np.ndarray, corner: tuple[int, ...] = (0, 0, 0)) -> "CroppedMask":
        """From a bool array (d, h, w) that lies at a corner; what is empty around it is cut off."""
        spans = []
        for axis in range(values.ndim):
            others = tuple(k for k in range(values.ndim) if k != axis)
            set_ = np.flatnonzero(values.any(axis=others))
            if not set_.size:
                return EMPTY
            spans.append((int(set_[0]), int(set_[-1]) + 1))
        inside = values[tuple(slice(*span) for span in spans)]
        box = tuple((a + int(c), b + int(c)) for (a, b), c in zip(spans, corner, strict=True))
        return cls(box, np.packbits(inside))

    @property
    def empty(self) -> bool:
        """Whether no voxel is set."""
        return not self.bits.size

    @property
    def nbytes(self) -> int:
        """What it takes in memory."""
        return self.bits.nbytes

    def values(self) -> np.ndarray:
        """The mask inside its box, bool."""
        shape = tuple(b - a for a, b in self.box)
        return np.unpackbits(self.bits, count=int(np.prod(shape))).reshape(shape).view(bool)

    def within(self, box: Box) -> np.ndarray:
        """The mask inside another box, bool."""
        result = np.zeros(tuple(b - a for a, b in box), bool)
        common = _common(self.box, box)
        if common is not None:
            result[_at(common, box)] = self.values()[_at(common, self.box)]
        return result


EMPTY = CroppedMask(((0, 0),) * 3, np.zeros(0, np.uint8))


def union(masks: Iterable[CroppedMask]) -> CroppedMask:
    """What any of the masks holds."""
    parts = [mask for mask in masks if not mask.empty]
    if len(parts) < 2:
        return parts[0] if parts else EMPTY
    box = around(mask.box for mask in parts)
    values = np.zeros(tuple(b - a for a, b in box), bool)
    for mask in parts:
        values[_at(mask.box, box)] |= mask.values()
    return CroppedMask.of(values, tuple(a for a, _ in box))


def without(mask: CroppedMask, others: Iterable[CroppedMask | Box]) -> CroppedMask:
    """What a mask holds and no other mask or box does."""
    values = None
    for other in others:
        box = other.box if isinstance(other, CroppedMask) else other
        common = _common(mask.box, box)
        if common is None:
            continue
        values = mask.values() if values is None else values
        taken = other.within(common) if isinstance(other, CroppedMask) else True
        values[_at(common, mask.box)] &= ~np.asarray(taken)
    return mask if values is None else CroppedMask.of(values, tuple(a for a, _ in mask.box))


def changed(before: CroppedMask, after: CroppedMask) -> Box | None:
    """The smallest box that holds all voxels in which two masks differ; None: they are equal."""
    if before is after or (before.empty and after.empty):
        return None
    box = around(mask.box for mask in (before, after) if not mask.empty)
    differ = CroppedMask.of(before.within(box) ^ after.within(box), tuple(a for a, _ in box))
    return None if differ.empty else differ.box


def around(boxes: Iterable[Box]) -> Box:
    """The smallest box that holds all boxes."""
    return tuple(
        (min(a for a, _ in spans), max(b for _, b in spans)) for spans in zip(*boxes, strict=True)
    )


def _common(one: Box, other: Box) -> Box | None:
    pairs = zip(one, other, strict=True)
    common = tuple((max(a, c), min(b, d)) for (a, b), (c, d) in pairs)
    return common if all(a < b for a, b in common) else None


def _at(box: Box, inside: Box) -> tuple[slice, ...]:
    """A box as slices of an array that another box holds."""
    return tuple(slice(a - c, b - c) for (a, b), (c, _) in zip(box, inside, strict=True))
