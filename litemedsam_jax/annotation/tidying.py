"""Masks put right as a whole: holes filled, the largest part kept, gaps between slices closed."""

from itertools import pairwise

import numpy as np

from litemedsam_jax.annotation.document import Document
from litemedsam_jax.annotation.edits import mask_layer
from litemedsam_jax.annotation.layers import Layer
from litemedsam_jax.annotation.run_lengths import Patch, encode_cropped


def fill_holes(document: Document, number: int, label: int) -> Layer:
    """A layer that fills what a label encloses within each slice.

    Raises:
        ValueError: There is nothing to fill, or the label is locked.
    """
    from scipy import ndimage

    masks = {}
    for z in slices_of(document, label):
        mask = document.voxels[z] == label
        holes = ndimage.binary_fill_holes(mask) & ~mask
        if holes.any():
            masks[z] = encode_cropped(holes)
    if not masks:
        raise ValueError(f"{document.label(label).name} has no holes")
    return mask_layer(document, number, "fill", label, True, masks)


def keep_largest(document: Document, number: int, label: int) -> Layer:
    """A layer that takes away all but the largest connected part of a label.

    Raises:
        ValueError: There is one part or none, or the label is locked.
    """
    from litemedsam_jax.imaging.masks import components

    drawn = slices_of(document, label)
    if not drawn:
        raise ValueError(f"{document.label(label).name} has nothing there")
    first, last = drawn[0], drawn[-1]
    parts = components(document.voxels[first : last + 1] == label)
    sizes = np.bincount(parts[parts > 0])
    if np.count_nonzero(sizes) < 2:
        raise ValueError(f"{document.label(label).name} has no second part")
    rest = (parts > 0) & (parts != sizes.argmax())
    return mask_layer(document, number, "largest", label, False, _by_slice(rest, first))


def clear(document: Document, number: int, label: int, z: int | None = None) -> Layer:
    """A layer that takes a label away, from one slice or from all.

    Raises:
        ValueError: There is nothing to take away, or the label is locked.
    """
    slices = slices_of(document, label) if z is None else [z]
    masks = {k: encode_cropped(document.voxels[k] == label) for k in slices}
    if not any(patch.width for patch in masks.values()):
        raise ValueError(f"{document.label(label).name} has nothing there")
    return mask_layer(document, number, "clear", label, False, masks)


def interpolate(document: Document, number: int, label: int) -> Layer:
    """A layer that fills the slices between those that hold a label, by distance to its edge.

    Source: shape-based interpolation, Raya and Udupa, IEEE Trans. Med. Imaging 9 (1990).

    Raises:
        ValueError: No slice lies between two that hold the label, or the label is locked.
    """
    drawn = slices_of(document, label)
    masks = {}
    for first, last in pairwise(drawn):
        if last - first < 2:
            continue
        near, far = (_signed_distance(document.voxels[z] == label) for z in (first, last))
        for z in range(first + 1, last):
            weight = (z - first) / (last - first)
            between = near * (1 - weight) + far * weight > 0
            if between.any():
                masks[z] = encode_cropped(between)
    if not masks:
        name = document.label(label).name
        raise ValueError(f"no slice is missing between those on which {name} is drawn")
    return mask_layer(document, number, "interpolation", label, True, masks)


def slices_of(document: Document, label: int) -> list[int]:
    """The slices that hold a label, in order."""
    return [z for z, plane in enumerate(document.voxels) if (plane == label).any()]


def _by_slice(mask: np.ndarray, first: int = 0) -> dict[int, Patch]:
    return {z: encode_cropped(plane) for z, plane in enumerate(mask, first) if plane.any()}


def _signed_distance(mask: np.ndarray) -> np.ndarray:
    """Distances from the mask's edge in pixels, positive inside."""
    import cv2

    inside, outside = (
        cv2.distanceTransform(part.astype(np.uint8), cv2.DIST_L2, cv2.DIST_MASK_PRECISE)
        for part in (mask, ~mask)
    )
    return inside - outside
