"""The mask of a part of the object, slice by slice; runs on the model's thread."""

from collections.abc import Callable, Iterator, Sequence
from typing import NamedTuple

import numpy as np

from litemedsam_jax.imaging.boxes import to_pixel_centres
from litemedsam_jax.imaging.input_frame import Frame, boxes_to_input
from litemedsam_jax.imaging.postprocess import Step, postprocess
from litemedsam_jax.imaging.slice_prompt import SlicePrompt
from litemedsam_jax.inference.encoded_image import EncodedImage, EncodedVolume
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.inference.strategies import SingleMask, Strategy
from litemedsam_jax.serving.remote.cropped_mask import CroppedMask
from litemedsam_jax.serving.remote.drawn_box import DrawnBox, Part


class SliceOfMask(NamedTuple):
    """A mask on a slice; not final: it only says that the work goes on."""

    number: int
    rows: slice
    columns: slice
    mask: np.ndarray
    final: bool = True


def slices_of(
    model: LiteMedSAM,
    volume: np.ndarray,
    part: Part,
    axis: int,
    strategy: Strategy,
    enough: Callable[[], bool],
) -> Iterator[SliceOfMask]:
    """Yields a part's mask; slices lie across the part's own axis, see `axis_of`.

    Args:
        model: With an engine that keeps embeddings, so that no slice is encoded twice.
        volume: (D, H, W) or (D, H, W, 3), 0 to 255.
        part: Of boxes inside the volume.
        axis: Along which boxes in three dimensions are worked on.
        strategy: Of boxes in three dimensions.
        enough: Once it says so, a flat box's mask ends by what was seen so far.
    """
    if part.first.flat is None:
        yield from _solid(model, np.moveaxis(volume, axis, 0), part.first.in_volume(axis), strategy)
    elif part.first.through and volume.shape[part.first.flat] > 1:
        yield from _through(model, volume, part, enough)
    else:
        yield _single(model, volume, part.first)


def axis_of(part: Part, axis: int) -> int:
    """Across which axis the slices of a part lie; `axis`: those of boxes in three dimensions."""
    return axis if part.first.flat is None else part.first.flat


def assemble(slices: dict[int, SliceOfMask], axis: int, steps: Sequence[Step] = ()) -> CroppedMask:
    """The mask (D, H, W) that slices across an axis make up, cleaned by steps."""
    held = [one for one in slices.values() if one.mask.any()]
    if not held:
        return CroppedMask.of(np.zeros((1, 1, 1), bool))
    first, last = min(one.number for one in held), max(one.number for one in held)
    top, left = min(one.rows.start for one in held), min(one.columns.start for one in held)
    bottom, right = max(one.rows.stop for one in held), max(one.columns.stop for one in held)
    values = np.zeros((last - first + 1, bottom - top, right - left), bool)
    for one in held:
        rows = slice(one.rows.start - top, one.rows.stop - top)
        values[one.number - first, rows, one.columns.start - left : one.columns.stop - left] = (
            one.mask
        )
    if steps:
        values = postprocess(values.astype(np.uint8), steps) > 0
    corner = [top, left]
    corner.insert(axis, first)
    return CroppedMask.of(np.moveaxis(values, 0, axis), tuple(corner))


def _single(model: LiteMedSAM, volume: np.ndarray, box: DrawnBox) -> SliceOfMask:
    """The mask of a box on its slice, as `litemedsam segment` makes it of a 2D image."""
    assert box.flat is not None
    image = np.ascontiguousarray(np.moveaxis(volume, box.flat, 0)[box.index])
    encoded = EncodedImage.encode(model.engine, image, Frame(*image.shape[:2]))
    corners = np.array([box.on_slice().box])
    region = next(encoded.masks(boxes_to_input(corners, encoded.frame)))
    return SliceOfMask(box.index, *region)


def _through(
    model: LiteMedSAM, volume: np.ndarray, part: Part, enough: Callable[[], bool]
) -> Iterator[SliceOfMask]:
    """A part's mask from slice to slice, until its object ends."""
    from litemedsam_jax.inference.slice_propagation import propagate

    # What subtracts is subtracted later: here it is an object like any other.
    boxes = tuple(DrawnBox(box.span, True, True).on_slice() for box in part.boxes)
    prompt = SlicePrompt(boxes)
    encoded = EncodedVolume(model.engine, volume, prompt.axis, kept=1)
    for one in propagate(encoded, prompt, previews=True, enough=enough):
        yield SliceOfMask(one.index, *one.region, final=one.final)


def _solid(
    model: LiteMedSAM, volume: np.ndarray, box: np.ndarray, strategy: Strategy
) -> Iterator[SliceOfMask]:
    """The mask of a box (1, 6), as `LiteMedSAM.segment_volume` makes it."""
    if isinstance(strategy, SingleMask):
        from litemedsam_jax.inference.propagation import propagate_volume

        for z, _, region in propagate_volume(model.engine, volume, box, strategy):
            yield SliceOfMask(z, *region)
        return
    from litemedsam_jax.inference.ensemble_volume import fuse_volume

    box = to_pixel_centres(box, volume.shape[:3])
    for z, _, scores in fuse_volume(model.engine, volume, box, strategy):
        yield SliceOfMask(z, scores.rows, scores.columns, scores.values > 0)
