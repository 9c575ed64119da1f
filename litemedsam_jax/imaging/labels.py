"""Label maps: whole numbers from 0 to 65535, 0 is background."""

from collections.abc import Sequence

import numpy as np

from litemedsam_jax.imaging.boxes import MAX_LABEL
from litemedsam_jax.imaging.errors import CaseError
from litemedsam_jax.imaging.geometry import Geometry


def as_labels(array: np.ndarray, name: str = "labels") -> np.ndarray:
    """Labels in their smallest type; bool and whole floats are labels too.

    Args:
        array: of any shape but ().
        name: names the array in messages.

    Returns:
        uint8, or uint16 where labels pass 255.

    Raises:
        CaseError: fractions, NaN, anything out of range.
    """
    array = np.asarray(array)
    if array.dtype == bool:
        return array.astype(np.uint8)
    if array.dtype.kind == "f" and np.isfinite(array).all() and (array == np.floor(array)).all():
        array = array.astype(np.int64)
    if array.dtype.kind not in "iu" or array.ndim == 0:
        size = "x".join(map(str, array.shape)) or "a single number"
        fractions = array.dtype.kind == "f" and array.ndim > 0
        raise CaseError(
            f"{name}: {array.dtype} {size}{', with fractions or NaN' if fractions else ''}; "
            "expected whole numbers"
        )
    low, high = int(array.min(initial=0)), int(array.max(initial=0))
    if low < 0 or high > MAX_LABEL:
        raise CaseError(f"{name}: labels {low} to {high}; expected 0 to {MAX_LABEL}")
    return array.astype(np.uint8 if high < 256 else np.uint16, copy=False)


def rename_labels(segs: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Mask k (of box k) becomes the label `labels[k - 1]`.

    Args:
        segs: masks as labels 1 ... N, of any shape.
        labels: (N,).

    Returns:
        uint8, or uint16 where needed.

    Raises:
        CaseError: there are more masks than labels.
    """
    own = np.concatenate([[0], labels])
    if int(segs.max(initial=0)) >= len(own):
        raise CaseError(f"the masks go to {segs.max()}, but there are {len(labels)} labels")
    return own.astype(np.uint8 if int(own.max()) < 256 else np.uint16)[segs]


def absent_labels(labels: np.ndarray, wanted: Sequence[int]) -> list[int]:
    """Those of the wanted labels that a label map does not hold."""
    return [label for label in wanted if not (labels == label).any()]


def voxels_outside(labels: np.ndarray, grid: Geometry, target: Geometry) -> dict[int, int]:
    """How many voxels of each label have no place on another grid.

    Args:
        labels: (D, H, W).
        grid: where they lie.
        target: where they should go.

    Returns:
        Label to number of voxels; labels that lie wholly inside are left out.
    """
    if target.meant_by(grid):
        return {}
    from scipy import ndimage

    outside = {}
    for label, box in enumerate(ndimage.find_objects(labels), start=1):
        if box is None:
            continue
        ends = np.array([[axis.start, axis.stop - 1] for axis in box[::-1]])  # x, y, z
        corners = np.array([ends[np.arange(3), choice] for choice in np.ndindex(2, 2, 2)])
        if _inside(corners, grid, target).all():
            continue
        first = ends[:, 0]
        indices = np.argwhere(labels[box] == label)[:, ::-1] + first
        if count := int((~_inside(indices, grid, target)).sum()):
            outside[label] = count
    return outside


def _inside(indices: np.ndarray, grid: Geometry, target: Geometry) -> np.ndarray:
    """Whether voxels (N, 3) x, y, z of one grid lie within another one's voxels; (N,) bool."""
    there = np.rint(target.to_index(grid.to_points(indices)))
    return ((there >= 0) & (there < target.size)).all(axis=1)


def outside_message(outside: dict[int, int]) -> str:
    """A sentence on what `voxels_outside` found."""
    shown = ", ".join(f"label {label}: {count}" for label, count in list(outside.items())[:5])
    more = f" and {len(outside) - 5} labels more" if len(outside) > 5 else ""
    return f"{sum(outside.values())} labelled voxels lie outside the image ({shown}{more})"
