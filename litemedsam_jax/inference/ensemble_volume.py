"""3D with several prompts a slice, whose logits are fused; see `strategies` for the parts.

Propagating one mask through the slices (`propagation`) fails where it is lost or grows, and a
prompt that does not depend on other slices fails where the object wanders within its box. The mean
of both kinds keeps what they agree on, and where they do not, the ellipsoid in the box decides.
"""

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from litemedsam_jax.engine.engine import Engine
from litemedsam_jax.imaging import ellipsoid_prior
from litemedsam_jax.imaging.input_frame import (
    Frame,
    Scores,
    bounding_box,
    counted_from,
    edges_to_input,
    logits_at,
    region_of,
    widened,
)
from litemedsam_jax.inference.encoded_image import DECODED_AT_ONCE, EncodedImage
from litemedsam_jax.inference.object_intensity import ObjectIntensity
from litemedsam_jax.inference.slice_order import Span, Step, sweep
from litemedsam_jax.inference.strategies import Ensemble

SECTION_MARGIN = 5  # pixels of the input frame around the ellipsoid's section
PROPAGATION_MARGINS = (3, 5)  # and around the mask of the slice before; each propagates alone
FLAT = [0, 1, 3, 4]  # of a box (6,), what a slice sees of it
PRIOR_WEIGHT = 3.0
INTENSITY_WEIGHT = 1.5  # of the log ratio of intensities inside and outside of the mask
SIZE_WEIGHT = 3.0  # of the logarithm of how much larger the other box is
LARGEST_ADVANTAGE = 18.0  # logits; more would leave the masks' own no room (see `label_map`)
CLIP = 3.0  # a logit beyond it counts as much: none outweighs the others


@dataclass
class _Object:
    """One box: its place, and the prompts that go from slice to slice."""

    box: np.ndarray  # (6,), as given
    given: np.ndarray  # (4,) in the input frame
    span: Span
    distances: np.ndarray  # of its slices from where it is widest
    next_prompts: dict[bool, list[np.ndarray]]  # upward or not: a prompt for each margin
    pixels: np.ndarray  # (slices, h, w) or (slices, h, w, 3), the volume in the box; a view
    intensity: ObjectIntensity | None


def fuse_volume(
    engine: Engine, volume: np.ndarray, boxes: np.ndarray, strategy: Ensemble
) -> Iterator[tuple[int, int, Scores]]:
    """Yields (slice, label, scores) for every slice of every box's range.

    Args:
        engine: runs the network.
        volume: (D, H, W) or (D, H, W, 3).
        boxes: (N, 6), x_min, y_min, z_min, x_max, y_max, z_max, inclusive, inside the volume.
        strategy: its parts.
    """
    frame = Frame(*volume.shape[1:3])
    objects = [_object(box, frame, volume, strategy) for box in boxes]
    spans = [one.span for one in objects]
    for step in sweep(engine, volume, spans, mirrored=strategy.mirror):
        prompts = {k: _prompts(objects[k], step, strategy, frame) for k in step.boxes}
        for k, logits in _decode(step.encoded, prompts):
            if strategy.propagate:
                _propagate(objects[k], step, logits[-len(PROPAGATION_MARGINS) :])
            fused = np.clip(logits, -CLIP, CLIP).mean(axis=0)
            yield step.z, k + 1, _scores(fused, objects[k], step.z, strategy, frame)


def advantages(boxes: np.ndarray) -> np.ndarray:
    """By how many logits each box (N, 6) is ahead of the largest one where masks overlap; (N,).

    Of two boxes that hold a voxel the smaller one tells more: a larger share of its voxels belongs
    to its object, and a mask that spills over into neighbours is that of a large, hollow box.
    """
    volumes = np.prod(boxes[:, 3:] - boxes[:, :3] + 1, axis=1)
    return np.minimum(SIZE_WEIGHT * np.log(volumes.max() / volumes), LARGEST_ADVANTAGE)


def _object(box: np.ndarray, frame: Frame, volume: np.ndarray, strategy: Ensemble) -> _Object:
    span = Span.of(box)
    given = edges_to_input(box[None, FLAT], frame)[0]
    distances = ellipsoid_prior.distances(span.first, span.last, len(volume))
    start = [widened(given, PROPAGATION_MARGINS[0])] * len(PROPAGATION_MARGINS)
    pixels = volume[(slice(span.first, span.last + 1), *region_of(box[FLAT]))]
    intensity = ObjectIntensity(pixels.min(), pixels.max()) if strategy.intensity else None
    prompts = {True: list(start), False: list(start)}
    return _Object(box, given, span, distances, prompts, pixels, intensity)


def _prompts(one: _Object, step: Step, strategy: Ensemble, frame: Frame) -> list[np.ndarray]:
    prompts = []
    if strategy.ellipsoid:
        section = ellipsoid_prior.section(one.box[FLAT], one.distances[step.z - one.span.first])
        prompts.append(widened(edges_to_input(section[None], frame)[0], SECTION_MARGIN))
    if strategy.box or not (strategy.ellipsoid or strategy.propagate):
        prompts.append(one.given)
    if strategy.propagate:
        prompts += one.next_prompts[step.upward]  # the last ones: see `fuse_volume`
    return prompts


def _decode(
    encoded: EncodedImage, prompts: dict[int, list[np.ndarray]]
) -> Iterator[tuple[int, np.ndarray]]:
    """Yields each object's logits (P, 256, 256), many objects decoded together."""
    keys = list(prompts)
    each = len(prompts[keys[0]])
    chunk = max(1, DECODED_AT_ONCE // each)
    for start in range(0, len(keys), chunk):
        some = keys[start : start + chunk]
        logits = encoded.logits(np.stack([box for k in some for box in prompts[k]]))
        yield from zip(some, logits.reshape(-1, each, *logits.shape[1:]), strict=True)


def _propagate(one: _Object, step: Step, logits: np.ndarray) -> None:
    """Sets the prompts of the next slice: around each mask, but within the box given."""
    rows, columns = (slice(int(one.given[k]), int(np.ceil(one.given[k + 2])) + 1) for k in (1, 0))
    prompts = []
    for mask, margin in zip(logits[:, rows, columns] > 0, PROPAGATION_MARGINS, strict=True):
        around_mask = bounding_box(mask, 0, mask.shape[0] + mask.shape[1])
        if around_mask is None:
            prompts.append(widened(one.given, PROPAGATION_MARGINS[0]))
            continue
        around_mask += np.array([columns.start, rows.start] * 2, np.float32)
        limit = widened(one.given, margin)
        low, high = np.split(widened(around_mask, margin), 2)
        prompts.append(np.r_[np.maximum(low, limit[:2]), np.minimum(high, limit[2:])])
    one.next_prompts[step.upward] = prompts
    if step.z == one.span.middle:
        one.next_prompts[False] = list(prompts)


def _scores(fused: np.ndarray, one: _Object, z: int, strategy: Ensemble, frame: Frame) -> Scores:
    inside = region_of(one.box[FLAT])
    everywhere = slice(0, frame.height), slice(0, frame.width)
    rows, columns = inside if strategy.clip else everywhere
    scores = logits_at(fused, frame, rows, columns)
    if strategy.prior:
        down, across = (
            ellipsoid_prior.from_centre(span, side.start, side.stop)
            for span, side in zip((rows, columns), inside, strict=True)
        )
        distance = one.distances[z - one.span.first]
        scores += np.float32(PRIOR_WEIGHT) * ellipsoid_prior.prior(down, across, distance)
    if one.intensity is not None:
        pixels = one.pixels[z - one.span.first]
        # A view of what lies inside of the box, all of it if the strategy clips.
        within = scores[counted_from(inside[0], rows), counted_from(inside[1], columns)]
        within += np.float32(INTENSITY_WEIGHT) * one.intensity.log_ratio(pixels, within)
    return Scores(rows, columns, scores)
