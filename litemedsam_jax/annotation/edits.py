"""What users draw, as layers: boxes and strokes."""

from collections.abc import Mapping

import numpy as np

from litemedsam_jax.annotation.document import Document
from litemedsam_jax.annotation.layers import Layer
from litemedsam_jax.annotation.run_lengths import Patch, encode_cropped, from_json

Box = tuple[float, float, float, float]


def drawable(document: Document, label: int) -> frozenset[int]:
    """The values that a step on this label must leave alone.

    Raises:
        ValueError: There is no such label, or it is locked.
    """
    if document.label(label).locked:
        raise ValueError(f"{document.label(label).name} is locked; unlock it to change it")
    return document.locked()


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
    """A box on a slice and the mask that the model made of it.

    If the document has a layer of that number whose mask was propagated from its box, the masks of
    the other slices stay.
    """
    protects = drawable(document, label)
    masks, kind = {z: mask}, "box"
    for old in document.layers:
        if old.number == number and old.kind == "propagation" and old.slice == z:
            masks, kind = {**old.masks, z: mask}, old.kind
    return Layer(number, kind, label, adds, masks, box, z, threshold, protects)


def mask_layer(
    document: Document,
    number: int,
    kind: str,
    label: int,
    adds: bool,
    masks: Mapping[int, Patch],
) -> Layer:
    """Masks that no box made: strokes, holes, parts."""
    protects = drawable(document, label)
    return Layer(number, kind, label, adds, dict(masks), protects=protects)


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


def paint_masks(document: Document, axis: int, index: int, data: object) -> dict[int, Patch]:
    """A mask that was painted on a slice of any plane, by native slices.

    Args:
        document: What it was painted on; left as it is.
        axis: Of (D, H, W), across which the painted slice lies.
        index: Of that slice along the axis.
        data: The mask as JSON holds it (see `run_lengths`), in the painted slice: its rows and
            columns follow the two other axes, in order.

    Raises:
        ValueError: It does not fit the slice.
    """
    if axis not in (0, 1, 2) or not 0 <= index < document.shape[axis]:
        raise ValueError(f"there is no slice {index} across axis {axis}")
    rows, columns = (size for k, size in enumerate(document.shape) if k != axis)
    patch = from_json(data, (rows, columns))
    if axis == 0:
        return {index: patch}
    masks = {}
    for z, line in enumerate(patch.array() > 0, start=patch.y):
        if not line.any():
            continue
        if axis == 1:
            masks[z] = encode_cropped(line[None, :], patch.x, index)
        else:
            masks[z] = encode_cropped(line[:, None], index, patch.x)
    return masks
