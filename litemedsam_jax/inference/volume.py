"""3D: a box's object is followed from its middle slice up and down.

Every slice is encoded once, however many boxes it has, and all boxes of a slice are decoded
together; the boxes do not influence one another, so the order in which they are worked on is free.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from litemedsam_jax.inference.compiled import Engine
from litemedsam_jax.inference.decoding import decode_masks
from litemedsam_jax.inference.transforms import (
    Frame,
    Region,
    box_from_mask,
    boxes_to_input,
    to_input,
)

STRATEGIES = ("reference", "clean")

# Embeddings kept for the second sweep, 4 MiB each; slices beyond are encoded again.
KEPT_EMBEDDINGS = 64


@dataclass
class Track:
    """One box on its way through the slices."""

    label: int
    box: np.ndarray  # (4,) in the input frame, the prompt as given
    first: int
    middle: int
    last: int
    prompt: np.ndarray  # for the slice that comes next: the given box, or that of a mask
    prompt_down: np.ndarray  # for the first slice below the middle


def segment_volume(
    engine: Engine, volume: np.ndarray, boxes: np.ndarray, strategy: str = "reference"
) -> Iterator[tuple[int, int, Region]]:
    """Yields (slice, label, mask) for every slice of every box's range.

    The middle slice is prompted with the box as given; each next one with the box around the mask
    of the slice before, or the given box where that mask is empty.

    Args:
        volume: (D, H, W) or (D, H, W, 3).
        boxes: (N, 6), x_min, y_min, z_min, x_max, y_max, z_max, z inclusive, inside the volume.
        strategy: "reference" resizes the mask with its label as foreground value before taking the
            box, as the reference does, so that results depend on the order of boxes; "clean"
            resizes the binary mask.
    """
    if strategy not in STRATEGIES:
        raise ValueError(f"there is no strategy '{strategy}'; choose from {', '.join(STRATEGIES)}")
    frame = Frame(*volume.shape[1:3])
    tracks = [_track(label, box, frame) for label, box in enumerate(boxes, start=1)]
    encoder = _SliceEncoder(engine, volume, frame, tracks)
    for upward in (True, False):
        for z in _sweep(tracks, upward):
            live = [track for track in tracks if _is_live(track, z, upward)]
            if not live:
                continue
            prompts = np.stack([track.prompt for track in live])
            masks = decode_masks(engine, encoder.encode(z, upward), prompts, frame)
            for track, mask in zip(live, masks, strict=True):
                # Only the box is kept: the masks of ten thousand boxes would fill the memory.
                found = box_from_mask(mask, frame, track.label if strategy == "reference" else 1)
                track.prompt = track.box if found is None else found
                if z == track.middle:
                    track.prompt_down = track.prompt
                yield z, track.label, mask
        for track in tracks:
            track.prompt = track.prompt_down  # the way down starts from the middle again


def _track(label: int, box: np.ndarray, frame: Frame) -> Track:
    first, last = int(box[2]), int(box[5])
    middle = int((last - first) / 2 + first)
    flat = boxes_to_input(box[[0, 1, 3, 4]], frame)
    return Track(label, flat, first, middle, last, prompt=flat, prompt_down=flat)


def _sweep(tracks: list[Track], upward: bool) -> range:
    if upward:
        return range(min(t.middle for t in tracks), max(t.last for t in tracks) + 1)
    return range(max(t.middle for t in tracks) - 1, min(t.first for t in tracks) - 1, -1)


def _is_live(track: Track, z: int, upward: bool) -> bool:
    return track.middle <= z <= track.last if upward else track.first <= z < track.middle


class _SliceEncoder:
    """Encodes slices on demand; on the way up keeps those that the way down will need."""

    def __init__(self, engine: Engine, volume: np.ndarray, frame: Frame, tracks: list[Track]):
        self._engine, self._volume, self._frame = engine, volume, frame
        downward = {z for t in tracks for z in range(t.first, t.middle)}
        upward = {z for t in tracks for z in range(t.middle, t.last + 1)}
        # The way down starts at the top: if not all can be kept, keep the upper ones.
        self._wanted = set(sorted(downward & upward, reverse=True)[:KEPT_EMBEDDINGS])
        self._kept: dict[int, object] = {}

    def encode(self, z: int, upward: bool):
        if z in self._kept:
            return self._kept.pop(z)
        embedding = self._engine.encode(to_input(self._volume[z], self._frame))
        if upward and z in self._wanted:
            self._kept[z] = embedding
        return embedding
