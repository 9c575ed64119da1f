"""2D with widened boxes and, for small objects, a second embedding of an enlarged window.

The network was trained on boxes up to 5 pixels wider than the object, at 256x256; a tight box makes
it cut the object short. An object that is 20 of 256 pixels wide has few tokens to be drawn with.
The logits of the whole image count too, since a window may hide what tells an object from others.
What a tight box tells beside that is added to the logits: its object is rather round than filling
the corners, has intensities of its own, and reaches all four sides.
"""

from collections.abc import Iterator

import numpy as np

from litemedsam_jax.engine.engine import Engine
from litemedsam_jax.imaging import ellipsoid_prior, zoom_windows
from litemedsam_jax.imaging.input_frame import (
    Frame,
    Scores,
    counted_from,
    edges_to_input,
    logits_at,
    region_of,
    widened,
)
from litemedsam_jax.imaging.zoom_windows import Window
from litemedsam_jax.inference.encoded_image import DECODED_AT_ONCE, EncodedImage
from litemedsam_jax.inference.object_intensity import ObjectIntensity
from litemedsam_jax.inference.strategies import Ensemble

MARGINS = (5, 8)  # pixels of the input frame; both are decoded, and their logits averaged
AGREEMENT = 0.7  # IoU of the masks of the box and of the widened ones, below which they differ
LARGEST_MARGIN = 0.5  # of the box's shorter side: a thin layer is not to include its neighbours
CLIP = 3.0  # a logit beyond it counts as much, where prior and intensities are added
PRIOR_WEIGHT = 0.5
INTENSITY_WEIGHT = 0.5  # of the log ratio of intensities inside and outside of the mask
EXTENT = 0.9  # of the box's sides, that a mask has to span
MOST_RAISED = 2.0  # logits that it is raised by for that, in steps
_STEPS = 8


def fuse_image(
    engine: Engine, image: np.ndarray, boxes: np.ndarray, strategy: Ensemble
) -> Iterator[tuple[int, Scores]]:
    """Yields (label, scores) of every box, in no order.

    Args:
        engine: runs the network.
        image: (H, W, 3) or (H, W).
        boxes: (N, 4), x_min, y_min, x_max, y_max, inclusive, inside the image.
        strategy: its parts.
    """
    height, width = image.shape[:2]
    whole = EncodedImage.encode(engine, image, Frame(height, width), strategy.mirror)
    everywhere = Window(slice(0, height), slice(0, width), [])
    windows = []
    if strategy.zoom:
        windows = zoom_windows.cover(boxes, height, width, strategy.max_windows)
    enlarged = {k for window in windows for k in window.boxes}
    rest = [k for k in range(len(boxes)) if k not in enlarged]
    for k, scores in _fuse([(whole, everywhere)], rest, boxes, strategy):
        yield k + 1, _shaped(scores, boxes[k], image, strategy)
    for window in windows:
        part = image[window.rows, window.columns]
        zoomed = EncodedImage.encode(engine, part, Frame(*part.shape[:2]), strategy.mirror)
        views = [(whole, everywhere), (zoomed, window)]
        for k, scores in _fuse(views, window.boxes, boxes, strategy):
            yield k + 1, _shaped(scores, boxes[k], image, strategy)


def _fuse(
    views: list[tuple[EncodedImage, Window]],
    indices: list[int],
    boxes: np.ndarray,
    strategy: Ensemble,
) -> Iterator[tuple[int, Scores]]:
    """Yields (index, scores) of the boxes at these indices."""
    smallest = views[-1][1]
    margins = (0, *MARGINS) if strategy.margin else (0,)
    chunk = max(1, DECODED_AT_ONCE // len(margins) // len(views))
    for start in range(0, len(indices), chunk):
        some = indices[start : start + chunk]
        decoded = [_decode(encoded, window, boxes[some], margins) for encoded, window in views]
        for number, k in enumerate(some):
            rows, columns = smallest.rows, smallest.columns
            if strategy.clip:
                rows, columns = region_of(boxes[k])
            seen = [
                _at(logits[:, number], encoded, window, rows, columns)
                for logits, (encoded, window) in zip(decoded, views, strict=True)
            ]
            tight, wide = np.mean(seen, axis=0)
            yield k, Scores(rows, columns, _fuller(tight, wide))


def _fuller(tight: np.ndarray, wide: np.ndarray) -> np.ndarray:
    """Of the logits of a box and of the widened ones: the latter, unless they see another object.

    Where their masks hardly overlap one of them took what is beside the object for it. A tight box
    is mostly full of its object, so the larger mask is the likelier one.
    """
    in_tight, in_wide = tight > 0, wide > 0
    common = np.count_nonzero(in_tight & in_wide)
    if common >= AGREEMENT * np.count_nonzero(in_tight | in_wide):
        return wide
    return tight if np.count_nonzero(in_tight) > np.count_nonzero(in_wide) else wide


def _shaped(scores: Scores, box: np.ndarray, image: np.ndarray, strategy: Ensemble) -> Scores:
    """The scores with what a tight box tells of its object's shape, intensities and extent."""
    rows, columns = region_of(box)
    values = scores.values
    if strategy.prior or strategy.intensity:
        values = np.clip(values, -CLIP, CLIP)
    within = values[
        counted_from(rows, scores.rows), counted_from(columns, scores.columns)
    ]  # a view
    if strategy.prior:
        down, across = (
            ellipsoid_prior.from_centre(span, span.start, span.stop) for span in (rows, columns)
        )
        within += np.float32(PRIOR_WEIGHT) * ellipsoid_prior.prior(down, across, 0.0)
    if strategy.intensity:
        pixels = image[rows, columns]
        intensity = ObjectIntensity(pixels.min(), pixels.max())
        within += np.float32(INTENSITY_WEIGHT) * intensity.log_ratio(pixels, within)
    if strategy.extent:
        within += _raise(within)
    return scores._replace(values=values)


def _raise(logits: np.ndarray) -> np.float32:
    """By how much a box's logits are raised, that their mask reaches the box's sides."""
    lines = logits.max(axis=1), logits.max(axis=0)
    offsets = np.linspace(0, MOST_RAISED, _STEPS + 1, dtype=np.float32)
    for offset in offsets:
        if all(_spanned(line > -offset) >= EXTENT * len(line) for line in lines):
            return offset
    return offsets[-1]


def _spanned(line: np.ndarray) -> int:
    """From the first to the last of those that are set."""
    where = np.flatnonzero(line)
    return int(where[-1] - where[0] + 1) if where.size else 0


def _decode(
    encoded: EncodedImage, window: Window, boxes: np.ndarray, margins: tuple[int, ...]
) -> np.ndarray:
    """Logits (2, N, 256, 256): of the boxes as they are, and means over the widened ones."""
    inside = boxes - np.array([window.columns.start, window.rows.start] * 2)
    flat = edges_to_input(inside, encoded.frame)
    limit = LARGEST_MARGIN * (flat[:, 2:] - flat[:, :2]).min(axis=1)
    prompts = [widened(flat, np.minimum(margin, limit)) for margin in margins]
    logits = encoded.logits(np.concatenate(prompts))
    logits = logits.reshape(len(margins), len(boxes), *logits.shape[1:])
    return np.stack([logits[0], logits[1:].mean(axis=0) if len(margins) > 1 else logits[0]])


def _at(
    logits: np.ndarray, encoded: EncodedImage, window: Window, rows: slice, columns: slice
) -> np.ndarray:
    """Logits (2, 256, 256) of a view, at rows and columns of the image."""
    rows, columns = counted_from(rows, window.rows), counted_from(columns, window.columns)
    return np.stack([logits_at(one, encoded.frame, rows, columns) for one in logits])
