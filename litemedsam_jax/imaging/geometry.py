"""Grids in the patient: where voxels lie."""

from dataclasses import dataclass, field, replace

import numpy as np

# Two grids are one if their points lie closer than this part of a voxel: headers round.
SAME_PLACE = 0.05


@dataclass(frozen=True)
class Geometry:
    """Where a grid lies in the patient (millimetres, LPS, as in DICOM), in x, y, z order.

    Attributes:
        size: Voxels.
        spacing: In mm.
        origin: Centre of voxel (0, 0, 0).
        direction: 3x3 cosines, by rows.
        open_ended: Slices beyond its ends hold no label, since they are not stored (DICOM SEG).
        flat: The file itself is two-dimensional, and the volume's one slice stands for it.
        other: Where the file's other statement puts the same voxels, if it differs (a NIfTI's
            qform beside its sform).
        nifti: The NIfTI header that says so, whose statements a label file repeats.
    """

    size: tuple[int, int, int]
    spacing: tuple[float, float, float]
    origin: tuple[float, float, float]
    direction: tuple[float, ...]
    flat: bool = False
    open_ended: bool = False
    other: "Geometry | None" = field(default=None, compare=False)
    nifti: bytes | None = field(default=None, compare=False, repr=False)

    def to_index(self, points: np.ndarray) -> np.ndarray:
        """Physical points (N, 3) in mm (LPS) to continuous voxel indices x, y, z."""
        axes = np.reshape(self.direction, (3, 3)) * np.asarray(self.spacing)
        return np.linalg.solve(axes, (np.asarray(points, np.float64) - self.origin).T).T

    def to_points(self, indices: np.ndarray) -> np.ndarray:
        """Voxel indices (N, 3) x, y, z to physical points in mm (LPS)."""
        axes = np.reshape(self.direction, (3, 3)) * np.asarray(self.spacing)
        return np.asarray(indices, np.float64) @ axes.T + self.origin

    def corners(self) -> np.ndarray:
        """Centres of the 8 corner voxels, (8, 3) in mm."""
        last = np.array(self.size) - 1
        return self.to_points(np.array(list(np.ndindex(2, 2, 2))) * last)

    def covers_same(self, other: "Geometry") -> bool:
        """Whether both grids fill the same part of space, axes flipped or swapped or not."""
        corners, others = self.corners(), other.corners()
        gaps = np.linalg.norm(corners[:, None] - others[None], axis=2).min(axis=1)
        return bool(gaps.max() <= SAME_PLACE * min(self.spacing))

    def same_as(self, other: "Geometry") -> bool:
        """Whether both grids have their voxels at the same places, index by index."""
        if self.size != other.size:
            return False
        shift = np.abs(self.corners() - other.corners()).max()
        return bool(shift <= SAME_PLACE * min(self.spacing))

    def enlarged(self, other: "Geometry") -> "Geometry":
        """This grid, with as many voxels more as it takes to hold another one."""
        ends = np.rint(self.to_index(other.corners())).astype(int)
        low, high = np.minimum(ends.min(0), 0), np.maximum(ends.max(0) + 1, self.size)
        x, y, z = (high - low).tolist()
        origin = self.to_points(low[None])[0].tolist()
        return replace(self, size=(x, y, z), origin=tuple(origin), other=None, nifti=None)

    def meant_by(self, other: "Geometry") -> bool:
        """Whether a file on the grid `other` was drawn on this one, by any of their statements."""
        mine = [self, *([self.other] if self.other else [])]
        theirs = [other, *([other.other] if other.other else [])]
        return any(one.same_as(two) for one in mine for two in theirs)


def geometry_arrays(geometry: Geometry) -> dict[str, np.ndarray]:
    """`spacing`, `origin` (3,) and `direction` (9,), as cases carry them: x, y, z, mm, LPS."""
    return {
        "spacing": np.array(geometry.spacing),
        "origin": np.array(geometry.origin),
        "direction": np.array(geometry.direction),
    }


def geometry_of(arrays: dict[str, np.ndarray], shape: tuple[int, ...]) -> Geometry:
    """The grid of a case's (D, H, W) arrays; without `origin`, the axes start at 0, straight."""
    depth, height, width = shape[:3]

    def numbers(key: str, default: np.ndarray) -> tuple[float, ...]:
        values = np.asarray(arrays.get(key, default), np.float64).ravel()
        if values.size != default.size or not np.isfinite(values).all():
            raise ValueError(f"{key} is {values.tolist()}; expected {default.size} numbers")
        return tuple(values.tolist())

    spacing, origin = numbers("spacing", np.ones(3)), numbers("origin", np.zeros(3))
    direction = numbers("direction", np.eye(3))
    return Geometry((width, height, depth), spacing, origin, direction)  # type: ignore[arg-type]
