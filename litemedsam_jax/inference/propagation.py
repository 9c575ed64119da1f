"""3D, the reference's way: a mask is propagated from its box's middle slice up and down.

Every slice is encoded once, however many boxes it has, and all boxes of a slice are decoded
together; the boxes do not influence one another, so the order in which they are worked on is free.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from litemedsam_jax.engine.engine import Engine
from litemedsam_jax.imaging.input_frame import Frame, Region, box_from_mask, boxes_to_input
from litemedsam_jax.inference.slice_order import Span, sweep
from litemedsam_jax.inference.strategies import SingleMask


@dataclass
class _Track:
    """One box on its way through the slices."""

    box: np.ndarray  # (4,) in the input frame, the prompt as given
    upward: np.ndarray  # the prompts for the next slice above and below
    downward: np.ndarray


def propagate_volume(
    engine: Engine, volume: np.ndarray, boxes: np.ndarray, strategy: SingleMask
) -> Iterator[tuple[int, int, Region]]:
    """Yields (slice, label, mask) for every slice of every box's range.

    The middle slice is prompted with the box as given; each next one with the box around the mask
    of the slice before, or the given box where that mask is empty.

    Args:
        engine: runs the network.
        volume: (D, H, W) or (D, H, W, 3).
        boxes: (N, 6), x_min, y_min, z_min, x_max, y_max, z_max, z inclusive, inside the volume.
        strategy: how the box is taken from a mask.
    """
    frame = Frame(*volume.shape[1:3])
    spans = [Span.of(box) for box in boxes]
    given = boxes_to_input(boxes[:, [0, 1, 3, 4]], frame)
    tracks = [_Track(box, upward=box, downward=box) for box in given]
    for step in sweep(engine, volume, spans):
        live = [tracks[k] for k in step.boxes]
        prompts = np.stack([t.upward if step.upward else t.downward for t in live])
        for k, track, mask in zip(step.boxes, live, step.encoded.masks(prompts), strict=True):
            # Only the box is kept: the masks of ten thousand boxes would fill the memory.
            value = k + 1 if strategy.by_label else 1
            around_mask = box_from_mask(mask, frame, value)
            next_prompt = track.box if around_mask is None else around_mask
            if step.upward:
                track.upward = next_prompt
            if not step.upward or step.z == spans[k].middle:
                track.downward = next_prompt
            yield step.z, k + 1, mask
