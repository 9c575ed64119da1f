"""Masks of boxes on slices, as the model makes them; runs on the model's thread."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from litemedsam_jax.annotation.run_lengths import Patch, encode_cropped
from litemedsam_jax.imaging.boxes import to_pixel_centres
from litemedsam_jax.imaging.input_frame import (
    Frame,
    Region,
    Scores,
    boxes_to_input,
    mask_from_logits,
)
from litemedsam_jax.imaging.postprocess import Step, postprocess
from litemedsam_jax.imaging.slice_prompt import SlicePrompt
from litemedsam_jax.inference.encoded_image import EncodedImage
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.inference.slice_propagation import EncodedVolume, propagate
from litemedsam_jax.inference.strategies import Ensemble, SingleMask, Strategy
from litemedsam_jax.serving.embedding_cache import EmbeddingCache


@dataclass(frozen=True)
class SliceResult:
    """A propagated mask and its slice; not final: it may be replaced, or turn out too far out."""

    slice: int
    mask: Patch
    final: bool = True


@dataclass(frozen=True)
class SliceImage:
    """A slice of a case as the network takes it.

    Attributes:
        key: The case's number and the slice, under which its embedding is kept.
        volume: (D, H, W) or (D, H, W, 3), the case.
        flat: Whether the case is a 2D image.
    """

    key: tuple[int, int]
    volume: np.ndarray
    flat: bool = False

    @property
    def image(self) -> np.ndarray:
        """(H, W) or (H, W, 3)."""
        return self.volume[self.key[1]]


def encoded(model: LiteMedSAM, cache: EmbeddingCache, source: SliceImage) -> EncodedImage:
    """The encoded slice, from the cache if it is there."""
    image = cache.get(source.key)
    if image is None:
        image = EncodedImage.encode(model.engine, source.image, Frame(*source.image.shape[:2]))
        cache.put(source.key, image)
    # The weights may have changed since; their encoder is the same.
    return image if image.engine is model.engine else replace(image, engine=model.engine)


def mask_of_box(
    image: EncodedImage, box: np.ndarray, threshold: float = 0.0, steps: Sequence[Step] = ()
) -> Patch:
    """The mask of a box (4,), x_min, y_min, x_max, y_max, in pixels of the slice.

    Args:
        image: The encoded slice.
        box: x_min, y_min, x_max, y_max, inclusive.
        threshold: The logit above which a pixel belongs to the mask.
        steps: That clean it, each slice by itself.
    """
    logits = image.logits(boxes_to_input(np.reshape(box, (1, 4)), image.frame))[0]
    region = mask_from_logits(logits - np.float32(threshold), image.frame)
    return _encode_region(region, steps)


def mask_to_keep(
    model: LiteMedSAM,
    cache: EmbeddingCache,
    source: SliceImage,
    box: np.ndarray,
    threshold: float,
    strategy: Strategy,
    steps: Sequence[Step] = (),
) -> Patch:
    """The mask of a box (4,) by a strategy, as `litemedsam segment` makes it on one slice."""
    if isinstance(strategy, SingleMask):
        return mask_of_box(encoded(model, cache, source), box, threshold, steps)
    image = source.image
    box = to_pixel_centres(np.reshape(box, (1, 4)), image.shape[:2])
    if source.flat:
        from litemedsam_jax.inference.ensemble_image import fuse_image

        scores = next(scores for _, scores in fuse_image(model.engine, image, box, strategy))
    else:
        from litemedsam_jax.inference.ensemble_volume import fuse_volume

        # One slice by itself: its neighbours have no say in it, but the volume's ends have.
        (x_min, y_min, x_max, y_max), z = box[0], source.key[1]
        solid = np.array([[x_min, y_min, z, x_max, y_max, z]])
        volume = source.volume
        scores = next(s for _, _, s in fuse_volume(model.engine, volume, solid, strategy))
    return _encode_region(_region(scores, threshold), steps)


def _region(scores: Scores, threshold: float = 0.0) -> Region:
    return Region(scores.rows, scores.columns, scores.values > threshold)


def _encode_region(region: Region, steps: Sequence[Step]) -> Patch:
    mask = region.mask
    if steps:
        mask = postprocess(mask.astype(np.uint8), steps) > 0
    return encode_cropped(mask, region.columns.start, region.rows.start)


class _CachedVolume(EncodedVolume):
    """A volume whose encoded slices are the server's."""

    def __init__(self, model: LiteMedSAM, cache: EmbeddingCache, case: int, volume: np.ndarray):
        super().__init__(model.engine, volume)
        self._model, self._cache, self._case, self._volume = model, cache, case, volume

    def __getitem__(self, index: int) -> EncodedImage:
        """The encoded slice."""
        source = SliceImage((self._case, index), self._volume)
        return encoded(self._model, self._cache, source)


def propagated(
    model: LiteMedSAM,
    cache: EmbeddingCache,
    case: int,
    volume: np.ndarray,
    prompt: SlicePrompt,
    strategy: Strategy,
    steps: Sequence[Step] = (),
) -> Iterator[SliceResult]:
    """Yields an object's masks slice by slice, outwards from its boxes.

    An ensemble is used where the range is known and there is one box: it asks for the object's
    first and last slice, and for the same box on all of them.
    """
    bounded = prompt.first is not None and prompt.last is not None
    if isinstance(strategy, Ensemble) and bounded and len(prompt.boxes) == 1:
        from litemedsam_jax.inference.ensemble_volume import fuse_volume

        x_min, y_min, x_max, y_max = prompt.boxes[0].box
        solid = np.array([[x_min, y_min, prompt.first, x_max, y_max, prompt.last]])
        solid = to_pixel_centres(solid, volume.shape[:3])
        for z, _, scores in fuse_volume(model.engine, volume, solid, strategy):
            yield SliceResult(z, _encode_region(_region(scores), steps))
        return
    for mask in propagate(_CachedVolume(model, cache, case, volume), prompt, previews=True):
        yield SliceResult(mask.index, _encode_region(mask.region, steps), mask.final)
