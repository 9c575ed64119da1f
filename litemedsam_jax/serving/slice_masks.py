"""Masks of boxes on slices, as the model makes them; runs on the model's thread."""

from dataclasses import dataclass

import numpy as np

from litemedsam_jax.annotation.run_lengths import Patch, encode_cropped
from litemedsam_jax.imaging.input_frame import Frame, boxes_to_input, mask_from_logits
from litemedsam_jax.inference.encoded_image import EncodedImage
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.serving.embedding_cache import EmbeddingCache


@dataclass(frozen=True)
class SliceImage:
    """A slice of a case as the network takes it, with the key under which it is kept."""

    key: tuple[int, int]  # the case's number, the slice
    image: np.ndarray  # (H, W) or (H, W, 3)


def encoded(model: LiteMedSAM, cache: EmbeddingCache, source: SliceImage) -> EncodedImage:
    """The encoded slice, from the cache if it is there."""
    image = cache.get(source.key)
    if image is None:
        image = EncodedImage.encode(model.engine, source.image, Frame(*source.image.shape[:2]))
        cache.put(source.key, image)
    return image


def mask_of_box(image: EncodedImage, box: np.ndarray, threshold: float = 0.0) -> Patch:
    """The mask of a box (4,), x_min, y_min, x_max, y_max, in pixels of the slice.

    Args:
        threshold: The logit above which a pixel belongs to the mask.
    """
    logits = image.logits(boxes_to_input(np.reshape(box, (1, 4)), image.frame))[0]
    region = mask_from_logits(logits - np.float32(threshold), image.frame)
    return encode_cropped(region.mask, region.columns.start, region.rows.start)
