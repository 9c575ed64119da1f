"""Masks of many boxes, in bounded memory: ten thousand boxes are a case too."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from litemedsam_jax.inference.compiled import Engine
from litemedsam_jax.inference.transforms import Frame, Region, mask_from_logits

DECODED_AT_ONCE = 32  # boxes; their logits take 256 KiB each


def decode_masks(
    engine: Engine, embedding: Any, boxes: np.ndarray, frame: Frame
) -> Iterator[Region]:
    """Yields the mask of each box (N, 4) of the input frame, in order."""
    for start in range(0, len(boxes), DECODED_AT_ONCE):
        logits, _ = engine.decode(embedding, boxes[start : start + DECODED_AT_ONCE])
        for one in logits:
            yield mask_from_logits(one, frame)
