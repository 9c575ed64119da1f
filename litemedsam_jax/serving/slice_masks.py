"""Masks of boxes on slices, as the model makes them; runs on the model's thread."""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from litemedsam_jax.annotation.run_lengths import Patch, encode_cropped
from litemedsam_jax.imaging.input_frame import Frame, boxes_to_input, mask_from_logits
from litemedsam_jax.imaging.slice_prompt import SlicePrompt
from litemedsam_jax.inference.encoded_image import EncodedImage
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.inference.slice_propagation import EncodedVolume, propagate
from litemedsam_jax.serving.embedding_cache import EmbeddingCache


@dataclass(frozen=True)
class SliceResult:
    """A propagated mask and its slice."""

    slice: int
    mask: Patch


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


class _CachedVolume(EncodedVolume):
    """A volume whose encoded slices are the server's."""

    def __init__(self, model: LiteMedSAM, cache: EmbeddingCache, case: int, volume: np.ndarray):
        super().__init__(model.engine, volume)
        self._model, self._cache, self._case = model, cache, case

    def __getitem__(self, index: int) -> EncodedImage:
        """The encoded slice."""
        return encoded(
            self._model, self._cache, SliceImage((self._case, index), self.slices[index])
        )


def propagated(
    model: LiteMedSAM, cache: EmbeddingCache, case: int, volume: np.ndarray, prompt: SlicePrompt
) -> Iterator[SliceResult]:
    """Yields an object's masks slice by slice, outwards from its box."""
    for mask in propagate(_CachedVolume(model, cache, case, volume), prompt):
        region = mask.region
        patch = encode_cropped(region.mask, region.columns.start, region.rows.start)
        yield SliceResult(mask.index, patch)
