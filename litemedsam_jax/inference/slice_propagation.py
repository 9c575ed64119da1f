"""3D from boxes on single slices: a mask is propagated outwards until its object ends.

Each slice is prompted with the drawn box, with the ellipsoid's section through it where the
object's end is known, and with the boxes around the masks of the slice before; logits are averaged
and the ellipsoid in the drawn box and the object's intensities so far raise or lower them, as
`ensemble_volume` does for 3D boxes.
Where the end is not known, evidence of the object (see `object_evidence`) is summed slice by slice,
and the object ends where the sum is largest.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from litemedsam_jax.imaging.input_frame import Region, Scores, counted_from, overlap
from litemedsam_jax.imaging.slice_prompt import AXES, SliceBox, SlicePrompt, fit_prompt
from litemedsam_jax.inference.encoded_image import EncodedVolume
from litemedsam_jax.inference.ensemble_volume import INTENSITY_WEIGHT
from litemedsam_jax.inference.object_intensity import ObjectIntensity
from litemedsam_jax.inference.slice_side import Side, Step, decode, scores_of, side_of


@dataclass(frozen=True)
class SliceMask:
    """The object's mask on one slice.

    Attributes:
        index: of the slice along `axis`.
        axis: of the propagation, the prompt's: "z", "y" or "x".
        scores: fused logits; the mask is where they are positive. Rows and columns are those of
            the slice as a box on it counts them (see `SliceBox.box`): for "z" the volume's.
        confidence: the network's predicted IoU, about 0 to 1.
        final: False for a preview, which the same slice's final mask replaces or, if the object
            turns out to end before it, nothing does.
    """

    index: int
    axis: str
    scores: Scores
    confidence: float
    final: bool = True

    @property
    def region(self) -> Region:
        """The mask, bool, where it can be set."""
        return Region(self.scores.rows, self.scores.columns, self.scores.values > 0)


def propagate(
    encoded: EncodedVolume,
    prompt: SlicePrompt,
    previews: bool = False,
    enough: Callable[[], bool] = lambda: False,
) -> Iterator[SliceMask]:
    """Yields an object's mask slice by slice, outwards from where it was drawn.

    The drawn slices come first, then the next ones above and below in turn. Where the object's end
    is known (the prompt's range, a box in another plane, the next drawn slice) a slice is yielded
    when it is decoded; else when the end was found. Close the generator to stop.

    Args:
        encoded: the volume along the prompt's axis; it may be kept for further prompts, so that no
            slice is encoded twice.
        prompt: the object's boxes; see `fit_prompt` for what is put right.
        previews: also yield masks (not `final`) of slices whose side has no known end, as soon as
            they are decoded.
        enough: asked before each slice; once it says so, the object ends where it most likely does
            by what was seen.

    Raises:
        CaseError: a box lies outside of the volume (at the first `next`).
        ValueError: the volume is encoded along another axis.
    """
    if encoded.axis != prompt.axis:
        raise ValueError(f"slices along {encoded.axis}, but the boxes are across {prompt.axis}")
    shape = np.moveaxis(encoded.slices, 0, AXES.index(encoded.axis)).shape[:3]
    prompt = fit_prompt(prompt, shape)
    removed = _subtracted(encoded, prompt)
    drawn = {one.index: np.array(one.box) for one in prompt.boxes if _along(one, prompt.axis)}
    indices = sorted(drawn)
    first, last = _bounds(prompt)
    masks = _Masks(encoded, prompt.axis, removed)
    sides: list[Side] = []
    for index in indices:
        logits, iou = decode(encoded[index], drawn[index], 0.0, None)
        start = Step.of(index, logits, iou)
        scores = scores_of(start.fused, drawn[index], 0.0, encoded.frame)
        yield masks.mask(start, scores)
        for direction in (1, -1):
            sides.append(side_of(encoded, drawn, start, logits, direction, first, last))
    while sides:
        for side in list(sides):
            stopped = enough()
            step = None if stopped else side.advance(encoded)
            if step is not None and (previews or side.known):
                scores = side.scores(step, encoded.frame)
                yield masks.mask(step, scores, final=side.known)
            if side.done or stopped:
                sides.remove(side)
                for late in side.found():
                    yield masks.mask(late, side.scores(late, encoded.frame))


def _along(one: SliceBox, axis: str) -> bool:
    return one.axis == axis and not one.subtract


def _bounds(prompt: SlicePrompt) -> tuple[int | None, int | None]:
    """The range, known or taken from boxes in other planes."""
    first, last = prompt.first, prompt.last
    # A box's columns and rows are the axes that its slice does not lie across, x before y before z.
    low, high = [], []
    for one in prompt.boxes:
        if one.axis != prompt.axis and not one.subtract:
            position = [axis for axis in "xyz" if axis != one.axis].index(prompt.axis)
            low.append(round(one.box[position]))
            high.append(round(one.box[position + 2]))
    inside = [one.index for one in prompt.boxes if _along(one, prompt.axis)]
    if low and first is None:
        first = min(*low, *inside)
    if high and last is None:
        last = max(*high, *inside)
    return first, last


def _subtracted(encoded: EncodedVolume, prompt: SlicePrompt) -> dict[int, list[Scores]]:
    """What the subtracting boxes hold, on the slices where it is found."""
    removed: dict[int, list[Scores]] = {}
    for one in prompt.boxes:
        if one.subtract and one.axis == prompt.axis:
            inverse = SlicePrompt((SliceBox(one.index, one.box, one.axis),), *_bounds(prompt))
            for mask in propagate(encoded, inverse):
                removed.setdefault(mask.index, []).append(mask.scores)
    return removed


class _Masks:
    """Makes masks of fused logits, by what is subtracted and by the object's intensities so far."""

    def __init__(self, encoded: EncodedVolume, axis: str, removed: dict[int, list[Scores]]):
        self._slices, self._axis, self._removed = encoded.slices, axis, removed
        self._intensity: ObjectIntensity | None = None

    def mask(self, step: Step, scores: Scores, final: bool = True) -> SliceMask:
        """The mask of a slice, which is learned from unless it is a preview."""
        pixels = self._slices[step.index][scores.rows, scores.columns]
        if self._intensity is None:
            self._intensity = ObjectIntensity(pixels.min(), pixels.max())
        values = scores.values
        ratio = self._intensity.log_ratio(pixels, values if final else None)
        values += np.float32(INTENSITY_WEIGHT) * ratio
        for other in self._removed.get(step.index, []):
            rows, columns = overlap(scores.rows, other.rows), overlap(scores.columns, other.columns)
            if rows.start >= rows.stop or columns.start >= columns.stop:
                continue
            ours = values[counted_from(rows, scores.rows), counted_from(columns, scores.columns)]
            theirs = other.values[
                counted_from(rows, other.rows), counted_from(columns, other.columns)
            ]
            np.minimum(ours, -theirs, out=ours)
        return SliceMask(step.index, self._axis, scores, step.iou, final)
