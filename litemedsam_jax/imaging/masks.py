"""Cleaning label maps: labels dropped, instances split, dust removed (connected-components-3d)."""

from collections.abc import Sequence
from typing import Literal

import cc3d
import numpy as np

from litemedsam_jax.imaging.errors import CaseError


def drop_labels(labels: np.ndarray, unwanted: Sequence[int]) -> np.ndarray:
    """The labels with the unwanted ones set to background."""
    return np.where(np.isin(labels, unwanted), labels.dtype.type(0), labels)


def keep_labels(labels: np.ndarray, wanted: Sequence[int]) -> np.ndarray:
    """The labels with all but the wanted ones set to background."""
    return np.where(np.isin(labels, wanted), labels, labels.dtype.type(0))


def split_instances(labels: np.ndarray, label: int) -> np.ndarray:
    """One label's connected parts (26- or 8-connected) become labels of their own.

    They are numbered after the largest remaining label, as in the reference.

    Args:
        labels: (H, W) or (D, H, W), unsigned.
        label: the one to split.

    Returns:
        uint16.

    Raises:
        CaseError: more than 65535 labels would result.
    """
    rest = drop_labels(labels, [label]).astype(np.uint16)
    parts = components(labels == label)
    offset = int(rest.max(initial=0))
    if offset + int(parts.max(initial=0)) > 65535:
        raise CaseError(f"label {label} has {parts.max()} separate parts; at most 65535 labels fit")
    return np.where(parts > 0, (parts + offset).astype(np.uint16), rest)


def components(mask: np.ndarray) -> np.ndarray:
    """Connected parts of a boolean (D, H, W) or (H, W) mask as 1, 2, ...; diagonals connect."""
    # As bytes: of boolean 2D masks cc3d 4.1.1 leaves numbers out.
    parts, count = cc3d.connected_components(
        np.ascontiguousarray(mask, np.uint8),
        connectivity=26 if mask.ndim == 3 else 8,
        return_N=True,
    )
    if int(parts.max(initial=0)) == count:
        return parts
    return np.unique(parts, return_inverse=True)[1].reshape(parts.shape).astype(parts.dtype)


def remove_dust(labels: np.ndarray, min_voxels: int, min_pixels: int) -> np.ndarray:
    """Drops parts smaller than `min_voxels` in 3D, then smaller than `min_pixels` in each slice.

    Parts are 26- (8-) connected voxels of one label. Source: the reference's `pre_CT_MR.py`.

    Args:
        labels: (D, H, W), or (H, W), where only `min_pixels` counts.
        min_voxels: of a part in 3D.
        min_pixels: of a part in a slice.
    """
    if labels.ndim == 2:
        return _dust(labels, min_pixels, 8)
    cleaned = labels.copy()
    # Within the labels' own box: most of a scan is background.
    part = cleaned[tuple(_extent(labels, axis) for axis in range(3))]
    part[...] = _dust(part, min_voxels, 26)
    for plane in part:
        plane[...] = _dust(plane, min_pixels, 8)
    return cleaned


def _extent(labels: np.ndarray, axis: int) -> slice:
    others = tuple(a for a in range(labels.ndim) if a != axis)
    occupied = np.flatnonzero(labels.any(axis=others))
    return slice(int(occupied[0]), int(occupied[-1]) + 1) if len(occupied) else slice(0, 0)


def _dust(labels: np.ndarray, threshold: int, connectivity: Literal[8, 26]) -> np.ndarray:
    if threshold <= 1 or not labels.any():
        return labels
    return cc3d.dust(
        np.ascontiguousarray(labels), threshold=threshold, connectivity=connectivity, in_place=False
    )
