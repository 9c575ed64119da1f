"""3D from boxes on single slices: a mask is propagated outwards until its object ends."""

from collections import OrderedDict
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from litemedsam_jax.engine.engine import Engine
from litemedsam_jax.imaging.input_frame import (
    Frame,
    Region,
    bounding_box,
    edges_to_input,
    mask_from_logits,
    widened,
)
from litemedsam_jax.imaging.slice_prompt import AXES, SlicePrompt, fit_prompt
from litemedsam_jax.inference.encoded_image import EncodedImage

KEPT_SLICES = 64  # embeddings of 4 MiB each
MARGINS = (3, 5)  # pixels of the input frame around the mask of the slice before
DRAWN_MARGIN = 5  # and around the drawn box, which no prompt leaves
LEAST_IOU, LEAST_AREA, LEAST_OVERLAP = 0.7, 0.05, 0.4


class EncodedVolume:
    """A volume's slices along one axis, each encoded when it is first asked for.

    Attributes:
        slices: (N, rows, columns) or (N, rows, columns, 3), a view of the volume.
        frame: of every slice.
        passes: slices encoded so far.
    """

    def __init__(
        self, engine: Engine, volume: np.ndarray, axis: str = "z", kept: int = KEPT_SLICES
    ):
        """Takes a volume; nothing is encoded yet.

        Args:
            engine: runs the network.
            volume: (D, H, W) or (D, H, W, 3).
            axis: "z", "y" or "x", the volume's axes 0, 1, 2: across which the slices lie.
            kept: embeddings kept, the last used ones.
        """
        self.axis = axis
        self.slices = np.moveaxis(volume, AXES.index(axis), 0)
        self.frame = Frame(*self.slices.shape[1:3])
        self.passes = 0
        self._engine, self._capacity = engine, kept
        self._kept: OrderedDict[int, EncodedImage] = OrderedDict()

    def __len__(self) -> int:
        """How many slices there are."""
        return len(self.slices)

    def __getitem__(self, index: int) -> EncodedImage:
        """The encoded slice."""
        encoded = self._kept.pop(index, None)
        if encoded is None:
            encoded = EncodedImage.encode(
                self._engine, np.ascontiguousarray(self.slices[index]), self.frame
            )
            self.passes += 1
        self._kept[index] = encoded
        if len(self._kept) > self._capacity:
            self._kept.popitem(last=False)
        return encoded


@dataclass(frozen=True)
class SliceMask:
    """The object's mask on one slice.

    Attributes:
        index: of the slice along `axis`.
        axis: of the propagation, the prompt's: "z", "y" or "x".
        region: the mask; its rows and columns are those of the slice as a box on it counts them
            (see `SliceBox.box`): for "z" the volume's rows and columns.
        confidence: the network's predicted IoU, about 0 to 1.
    """

    index: int
    axis: str
    region: Region
    confidence: float


def propagate(encoded: EncodedVolume, prompt: SlicePrompt) -> Iterator[SliceMask]:
    """Yields an object's mask slice by slice, outwards from where it was drawn.

    The drawn slices come first, then the next ones above and below in turn, until the object ends
    on both sides. A slice is yielded once, and final when it is; close the generator to stop.

    Args:
        encoded: the volume along the prompt's axis; it may be kept for further prompts, so that no
            slice is encoded twice.
        prompt: the object's boxes; see `fit_prompt` for what is put right.

    Raises:
        CaseError: a box lies outside of the volume (at the first `next`).
        ValueError: the volume is encoded along another axis.
    """
    if encoded.axis != prompt.axis:
        raise ValueError(f"slices along {encoded.axis}, but the boxes are across {prompt.axis}")
    shape = np.moveaxis(encoded.slices, 0, AXES.index(encoded.axis)).shape[:3]
    prompt = fit_prompt(prompt, shape)
    drawn = [box for box in prompt.boxes if box.axis == prompt.axis and not box.subtract]
    frame = encoded.frame
    given = edges_to_input(np.array([drawn[0].box]), frame)[0]
    limit = widened(given, DRAWN_MARGIN)
    start = drawn[0].index
    logits, iou = encoded[start].decode(np.stack([widened(given, m) for m in MARGINS]))
    first = _Step(start, logits.mean(axis=0), float(iou.mean()))
    yield _mask(first, prompt.axis, frame)
    sides = {1: first, -1: first}
    low = 0 if prompt.first is None else prompt.first
    high = len(encoded) - 1 if prompt.last is None else prompt.last
    area = int(np.count_nonzero(first.logits > 0))
    while sides:
        for direction, before in list(sides.items()):
            index = before.index + direction
            step = None
            if low <= index <= high:
                step = _next(encoded, before, index, limit, area)
            if step is None:
                del sides[direction]
                continue
            sides[direction] = step
            yield _mask(step, prompt.axis, frame)


@dataclass(frozen=True)
class _Step:
    index: int
    logits: np.ndarray  # (256, 256)
    iou: float


def _next(
    encoded: EncodedVolume, before: _Step, index: int, limit: np.ndarray, area: int
) -> _Step | None:
    mask_before = before.logits > 0
    around = bounding_box(mask_before, 0, mask_before.shape[0])
    if around is None:
        return None
    boxes = np.stack([widened(around, margin) for margin in MARGINS])
    boxes = np.concatenate(
        [np.maximum(boxes[:, :2], limit[:2]), np.minimum(boxes[:, 2:], limit[2:])], axis=1
    )
    logits, iou = encoded[index].decode(boxes)
    step = _Step(index, logits.mean(axis=0), float(iou.mean()))
    mask = step.logits > 0
    common, size_before = int((mask & mask_before).sum()), int(mask_before.sum())
    ends = (
        step.iou < LEAST_IOU
        or int(mask.sum()) < LEAST_AREA * area
        or common < LEAST_OVERLAP * size_before
    )
    return None if ends else step


def _mask(step: _Step, axis: str, frame: Frame) -> SliceMask:
    return SliceMask(step.index, axis, mask_from_logits(step.logits, frame), step.iou)
