"""Boxes from ground truth: every label of every slice prompts for itself.

What the reference's inference_2D.py and inference_3D.py do, to measure a model without the
challenge's boxes and without propagation.
"""

import numpy as np

from litemedsam_jax.imaging.input_frame import Frame, bounding_box, resize_labels
from litemedsam_jax.imaging.label_map import paint
from litemedsam_jax.inference.encoded_image import EncodedImage
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.inference.slice_order import OnSlice


def segment_by_labels(
    model: LiteMedSAM,
    image: np.ndarray,
    gts: np.ndarray,
    shift: int = 5,
    on_slice: OnSlice | None = None,
) -> np.ndarray:
    """Segments each label of `gts` from the box around it, slice by slice.

    Args:
        model: with the weights to measure.
        image: (H, W, 3), (H, W), (D, H, W) or (D, H, W, 3).
        gts: (H, W) or (D, H, W), labels.
        shift: pixels of the 256x256 frame by which each side of a box is moved outwards.
        on_slice: called with the number of a volume's slices that are done, and of all.

    Returns:
        Labels as in `gts`, of the image's size; the higher label wins where masks overlap.
    """
    if gts.ndim == 2:
        return _segment_slice(model, image, resize_labels(gts, *image.shape[:2]), shift)
    segs: list[np.ndarray] = []
    for one, labels in zip(image, gts, strict=True):
        if on_slice is not None:
            on_slice(len(segs), len(gts))
        segs.append(_segment_slice(model, one, labels, shift))
    return np.stack(segs)


def _segment_slice(model: LiteMedSAM, image: np.ndarray, gts: np.ndarray, shift: int) -> np.ndarray:
    frame = Frame(*image.shape[:2])
    segs = np.zeros(gts.shape, gts.dtype)
    boxes = {
        int(label): box
        for label in np.unique(gts[gts > 0])
        if (box := _box(gts == label, frame, shift)) is not None
    }
    if not boxes:
        return segs
    masks = EncodedImage.encode(model.engine, image, frame).masks(np.stack(list(boxes.values())))
    for label, mask in zip(boxes, masks, strict=True):
        paint(segs, mask, label)
    return segs


def _box(mask: np.ndarray, frame: Frame, shift: int) -> np.ndarray | None:
    small = resize_labels(mask.astype(np.uint8), frame.inner_height, frame.inner_width)
    return bounding_box(small > 0, shift, frame.size)  # None: lost in the resize
