"""Masks from elsewhere, as steps that can be undone."""

import numpy as np

from litemedsam_jax.annotation.document import Document
from litemedsam_jax.annotation.edits import drawable
from litemedsam_jax.annotation.layers import MAX_LABEL, Layer, default_label
from litemedsam_jax.annotation.operations import Operation, PutLabel, PutLayer
from litemedsam_jax.annotation.run_lengths import encode_cropped


def loaded(document: Document, number: int, voxels: np.ndarray) -> list[Operation]:
    """Operations that add every label of a label map; labels that are missing are created.

    Args:
        document: What it is added to; left as it is.
        number: Of the first layer.
        voxels: (D, H, W), on the document's grid.

    Raises:
        ValueError: It is empty, holds values that are no labels, or a label of it is locked.
    """
    values = [int(value) for value in np.unique(voxels) if value]
    if not values:
        raise ValueError("it holds no label")
    if not 1 <= values[0] <= values[-1] <= MAX_LABEL:
        raise ValueError(f"it holds values up to {values[-1]}; expected labels 1 to {MAX_LABEL}")
    operations: list[Operation] = []
    slices = [z for z, plane in enumerate(voxels) if plane.any()]
    for count, value in enumerate(values):
        if value in document.labels:
            drawable(document, value)
        else:
            operations.append(PutLabel(default_label(value)))
        masks = {z: encode_cropped(voxels[z] == value) for z in slices}
        masks = {z: patch for z, patch in masks.items() if patch.width}
        protects = document.locked()
        layer = Layer(number + count, "loaded", value, True, masks, protects=protects)
        operations.append(PutLayer(layer))
    return operations
