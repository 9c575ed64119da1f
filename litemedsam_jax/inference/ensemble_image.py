"""2D with widened boxes and, for small objects, a second look through a window that enlarges.

The network was trained on boxes up to 5 pixels wider than the object, at 256x256; a tight box makes
it cut the object short. An object that is 20 of 256 pixels wide has few tokens to be drawn with.
The whole picture still has its say, since a window may hide what tells an object from its like.
"""

from collections.abc import Iterator

import numpy as np

from litemedsam_jax.engine.engine import Engine
from litemedsam_jax.imaging.input_frame import (
    Frame,
    Scores,
    edges_to_input,
    logits_at,
    region_of,
    widened,
)
from litemedsam_jax.inference import zoom_windows
from litemedsam_jax.inference.encoded_image import DECODED_AT_ONCE, Look
from litemedsam_jax.inference.strategies import Strategy

MARGINS = (5, 8)  # pixels of the input frame; both are decoded, and their logits averaged
LARGEST_MARGIN = 0.5  # of the box's shorter side: a thin layer is not to swallow its neighbours


def fuse_picture(
    engine: Engine, image: np.ndarray, boxes: np.ndarray, strategy: Strategy
) -> Iterator[tuple[int, Scores]]:
    """Yields (label, scores) of every box, in no order.

    Args:
        image: (H, W, 3) or (H, W).
        boxes: (N, 4), x_min, y_min, x_max, y_max, inclusive, inside the image.
        strategy: one with parts.
    """
    height, width = image.shape[:2]
    mirrored = "mirror" in strategy.parts
    whole = Look.at(engine, image, Frame(height, width), mirrored)
    everywhere = zoom_windows.Window(slice(0, height), slice(0, width), [])
    found = []
    if "zoom" in strategy.parts:
        found = zoom_windows.cover(boxes, height, width, strategy.most_windows)
    enlarged = {k for window in found for k in window.boxes}
    rest = [k for k in range(len(boxes)) if k not in enlarged]
    yield from _fuse([(whole, everywhere)], rest, boxes, strategy)
    for window in found:
        part = image[window.rows, window.columns]
        look = Look.at(engine, part, Frame(*part.shape[:2]), mirrored)
        yield from _fuse([(whole, everywhere), (look, window)], window.boxes, boxes, strategy)


def _fuse(
    looks: list[tuple[Look, zoom_windows.Window]],
    indices: list[int],
    boxes: np.ndarray,
    strategy: Strategy,
) -> Iterator[tuple[int, Scores]]:
    smallest = looks[-1][1]
    margins = MARGINS if "margin" in strategy.parts else (0,)
    chunk = max(1, DECODED_AT_ONCE // len(margins) // len(looks))
    for start in range(0, len(indices), chunk):
        some = indices[start : start + chunk]
        decoded = [_decode(look, window, boxes[some], margins) for look, window in looks]
        for number, k in enumerate(some):
            rows, columns = smallest.rows, smallest.columns
            if "clip" in strategy.parts:
                rows, columns = region_of(boxes[k])
            values = [
                _at(logits[number], look, window, rows, columns)
                for logits, (look, window) in zip(decoded, looks, strict=True)
            ]
            yield k + 1, Scores(rows, columns, np.mean(values, axis=0))


def _decode(
    look: Look, window: zoom_windows.Window, boxes: np.ndarray, margins: tuple[int, ...]
) -> np.ndarray:
    """Logits (N, 256, 256), means over the margins."""
    inside = boxes - np.array([window.columns.start, window.rows.start] * 2)
    flat = edges_to_input(inside, look.frame)
    most = LARGEST_MARGIN * (flat[:, 2:] - flat[:, :2]).min(axis=1)
    prompts = [widened(flat, np.minimum(margin, most)) for margin in margins]
    logits = look.logits(np.concatenate(prompts))
    return logits.reshape(len(margins), len(boxes), *logits.shape[1:]).mean(axis=0)


def _at(
    logits: np.ndarray, look: Look, window: zoom_windows.Window, rows: slice, columns: slice
) -> np.ndarray:
    top, left = window.rows.start, window.columns.start
    inner_rows = slice(rows.start - top, rows.stop - top)
    inner_columns = slice(columns.start - left, columns.stop - left)
    return logits_at(logits, look.frame, inner_rows, inner_columns)
