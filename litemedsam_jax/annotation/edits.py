"""What users do, as layers: boxes, strokes, holes filled, the largest part kept."""

import numpy as np

from litemedsam_jax.annotation.document import Document
from litemedsam_jax.annotation.layers import Layer
from litemedsam_jax.annotation.run_lengths import Patch, encode_cropped

Box = tuple[float, float, float, float]


def box_layer(
    document: Document,
    number: int,
    *,
    label: int,
    z: int,
    box: Box,
    mask: Patch,
    adds: bool = True,
    threshold: float = 0.0,
) -> Layer:
    """A box on a slice and the mask that the model made of it."""
    document.label(label)
    if label in document.locked():
        raise ValueError(f"{document.label(label).name} is locked")
    return Layer(number, "box", label, adds, {z: mask}, box, z, threshold, document.locked())


def ordered_box(box: list[float], shape: tuple[int, int, int]) -> Box:
    """A box's corners in order and inside the slice; raises ValueError where nothing is left."""
    if len(box) != 4 or not np.isfinite(box).all():
        raise ValueError("a box must be four numbers: x_min, y_min, x_max, y_max")
    x_min, x_max = sorted((float(box[0]), float(box[2])))
    y_min, y_max = sorted((float(box[1]), float(box[3])))
    height, width = shape[1:]
    if x_max < 0 or y_max < 0 or x_min > width - 1 or y_min > height - 1:
        raise ValueError("the box lies outside the image")
    return max(x_min, 0), max(y_min, 0), min(x_max, width - 1), min(y_max, height - 1)


def paint_masks(document: Document, axis: int, index: int, mask: Patch) -> dict[int, Patch]:
    """A mask that was painted on a slice of any plane, by native slices.

    Args:
        axis: Of (D, H, W), across which the painted slice lies; `index` along it.
        mask: In the painted slice: rows and columns are the two other axes, in order.
    """
    if not 0 <= index < document.shape[axis]:
        raise ValueError(f"slice {index} is outside the image")
    if axis == 0:
        return {index: mask}
    array = mask.array() > 0
    masks = {}
    for row, line in enumerate(array):
        if not line.any():
            continue
        z = mask.y + row
        if axis == 1:
            masks[z] = encode_cropped(line[None, :], mask.x, index)
        else:
            masks[z] = encode_cropped(line[:, None], index, mask.x)
    return masks
