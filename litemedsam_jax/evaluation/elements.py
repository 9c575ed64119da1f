"""The surface elements of every label of a map at once, as `surface-distance` defines them.

An element is a corner between 8 voxels (3D) or 4 pixels (2D) of which some bear the label and some
do not. `surface-distance` codes one mask's elements in several passes over the mask's box. Here one
pass over the map, slice by slice, finds the corners where labels meet; only these are coded, for
all labels that meet there. So the cost does not grow with the number of labels, and what is kept
grows with the surfaces, not with the volume.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

_BLOCK = 1 << 16  # corners coded together: few enough to stay in the processor's cache


@dataclass(frozen=True)
class Lattice:
    """Corners between the voxels of a (D, H, W) map, as positions in one long array.

    Corner (z, y, x) is the one before voxel (z, y, x) on each axis. Empty corners follow each row
    and each slice, as many as `halo` (z, y, x): a step of at most that far from any corner is the
    same sum everywhere, and never lands on a corner of another row or slice.
    """

    shape: tuple[int, ...]
    halo: tuple[int, ...]

    @property
    def row(self) -> int:
        """Positions from one row to the next."""
        return self.shape[2] + 1 + self.halo[2]

    @property
    def slice(self) -> int:
        """Positions from one slice to the next."""
        return (self.shape[1] + 1 + self.halo[1]) * self.row

    @property
    def margin(self) -> int:
        """Empty positions before the first corner, and after the last slice."""
        return int(self.steps(np.array(self.halo)))

    @property
    def size(self) -> int:
        """Positions in all."""
        return 2 * self.margin + (self.shape[0] + 1) * self.slice

    def steps(self, offsets: np.ndarray) -> np.ndarray:
        """Offsets (..., 3) in z, y, x as differences of positions."""
        return offsets @ np.array([self.slice, self.row, 1])

    def indices(self, positions: np.ndarray) -> np.ndarray:
        """Positions (N,) of corners as z, y, x (N, 3)."""
        z, rest = np.divmod(positions - self.margin, self.slice)
        return np.stack([z, *np.divmod(rest, self.row)], axis=1)


class Elements(NamedTuple):
    """One label's surface elements: positions on the lattice, ascending, and neighbour codes."""

    positions: np.ndarray
    codes: np.ndarray


def elements_of(
    labels: np.ndarray, wanted: np.ndarray, weights: np.ndarray, lattice: Lattice
) -> dict[int, Elements]:
    """The elements of each wanted label.

    Args:
        labels: (D, H, W), unsigned.
        wanted: bool, indexed by label; of the background False.
        weights: each neighbour's part of a code, (2, 2, 2), or (1, 2, 2) for a 2D image as one
            slice.
        lattice: of the corners between voxels.
    """
    blocks = [_code(at, around, wanted, weights.ravel()) for at, around in
             _blocks(_corners(labels, weights.shape[0], lattice))]  # fmt: skip
    if not blocks:
        return {}
    owners, positions, codes = (np.concatenate(parts) for parts in zip(*blocks, strict=True))
    del blocks
    order = np.argsort(owners, kind="stable")  # ascending positions within a label
    counts = np.bincount(owners)
    ends = np.cumsum(counts)
    return {
        int(label): Elements(positions[part], codes[part])
        for label in np.flatnonzero(counts)
        for part in [order[ends[label] - counts[label] : ends[label]]]
    }


def _corners(
    labels: np.ndarray, thickness: int, lattice: Lattice
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """By slice: positions (P,) of the corners where labels differ, and those labels (8 or 4, P)."""
    depth, height, width = labels.shape
    kind = np.int32 if lattice.size < 1 << 31 else np.int64  # half the memory
    # A slice with an empty row and pixel before it: pixel p has its upper left neighbour at p.
    before, after = np.zeros((2, lattice.row + 1 + lattice.slice), labels.dtype)
    differs_before = np.zeros(lattice.slice, bool)
    for z in range(depth + thickness - 1):
        pixels = after[lattice.row + 1 :].reshape(-1, lattice.row)[:height, :width]
        pixels[...] = labels[z] if z < depth else 0
        differs = _differs(after, lattice.row)
        borders = differs
        if thickness == 2:
            borders = differs | differs_before
            borders |= before[lattice.row + 1 :] != after[lattice.row + 1 :]
        at = np.flatnonzero(borders)
        around = [
            part[at + (y * lattice.row + x)]
            for part in (before, after)[-thickness:]
            for y in (0, 1)
            for x in (0, 1)
        ]
        yield (at + (lattice.margin + z * lattice.slice)).astype(kind), np.array(around)
        before, after, differs_before = after, before, differs


def _differs(padded: np.ndarray, row: int) -> np.ndarray:
    """Whether the four pixels around each corner of a slice are not all the same."""
    across = padded[1:] != padded[:-1]
    differs = across[row:] | across[:-row]
    differs |= padded[row:-1] != padded[: -row - 1]
    return differs


def _blocks(
    slices: Iterator[tuple[np.ndarray, np.ndarray]],
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """What the slices hold, some slices together."""
    positions: list[np.ndarray] = []
    around: list[np.ndarray] = []
    for at, labels in slices:
        positions.append(at)
        around.append(labels)
        if sum(map(len, positions)) >= _BLOCK:
            yield np.concatenate(positions), np.concatenate(around, axis=1)
            positions, around = [], []
    if positions:
        yield np.concatenate(positions), np.concatenate(around, axis=1)


def _code(
    positions: np.ndarray, around: np.ndarray, wanted: np.ndarray, weights: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Label, position and code of each element: of each corner, one for each label around it."""
    owners, places, codes = [], [], []
    for i, label in enumerate(around):
        new = wanted[label]
        for earlier in around[:i]:
            new &= label != earlier
        chosen = np.flatnonzero(new)
        own = label[chosen]
        code = np.zeros(len(chosen), np.uint8)
        for other, weight in zip(around[i:], weights[i:], strict=True):
            code += (other[chosen] == own) * np.uint8(weight)
        owners.append(own)
        places.append(positions[chosen])
        codes.append(code)
    return np.concatenate(owners), np.concatenate(places), np.concatenate(codes)
