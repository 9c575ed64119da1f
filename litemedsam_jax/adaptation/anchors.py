"""What is not to be forgotten: prompts with the masks that the starting weights give for them.

Half of a batch are such anchors: other images with boxes on their objects and anywhere, and one's
own images with boxes elsewhere. They need no true labels. Source: Li and Hoiem, Learning without
forgetting, 2016, with boxes in the place of tasks.
"""

from typing import Any

import numpy as np

from litemedsam_jax.imaging.input_frame import to_input
from litemedsam_jax.training.anchored_sample import Anchor
from litemedsam_jax.training.catalog import Catalog, Slice
from litemedsam_jax.training.samples import FinetuneSample, frame_of, padded_mask, tight_box

OTHERS, OWN = 160, 48  # anchors on other images, and on one's own
_ANYWHERE = 0.4  # of the anchors on other images: boxes that know nothing of an object
_SIDES = (12.0, 160.0)  # pixels of the square that such a box's sides have
_APART = 0.2  # IoU with an own object up to which a box lies elsewhere
_TRIES = 20


def anchors_on_others(
    catalog: Catalog, sample: FinetuneSample, engine: Any, rng: np.random.Generator
) -> list[Anchor]:
    """Chooses prompts on images of other kinds, evenly by case, and decodes them.

    Args:
        catalog: their slices with objects; may be empty.
        sample: makes prompts of use on them, without flips.
        engine: of the starting weights.
        rng: chooses.
    """
    anchors = []
    for index in _evenly_by_case(catalog, OTHERS, rng):
        element = catalog[index]
        if rng.random() < _ANYWHERE:
            box = _box_elsewhere(element, sample.size, rng)
        else:
            box = sample.random_map(element, rng)["box"]
        anchors.append(_anchor(element, box, sample.size, engine))
    return anchors


def anchors_on_own(
    catalog: Catalog, size: int, engine: Any, rng: np.random.Generator
) -> list[Anchor]:
    """Chooses boxes away from the objects to learn, and decodes them.

    Args:
        catalog: slices to learn from.
        size: of the network's input, in pixels.
        engine: of the starting weights.
        rng: chooses.
    """
    elements = [catalog[int(index)] for index in rng.integers(len(catalog), size=OWN)]
    return [_anchor(one, _box_elsewhere(one, size, rng), size, engine) for one in elements]


def _anchor(element: Slice, box: np.ndarray, size: int, engine: Any) -> Anchor:
    embedding = engine.encode(to_input(element.image, frame_of(element.gts, size)))
    logits, iou = engine.decode(embedding, box[None])
    target = np.rint(255 / (1 + np.exp(-np.clip(logits[0], -30, 30)))).astype(np.uint8)
    return Anchor(element.entry.name, element.image, box, target, float(iou[0]))


def _evenly_by_case(catalog: Catalog, count: int, rng: np.random.Generator) -> list[int]:
    """Indices of slices, as many of each case."""
    cases: dict[str, list[int]] = {}
    for index, entry in enumerate(catalog.entries):
        cases.setdefault(entry.case, []).append(index)
    groups = list(cases.values())
    count = count if groups else 0
    return [int(rng.choice(groups[number % len(groups)])) for number in range(count)]


def _box_elsewhere(element: Slice, size: int, rng: np.random.Generator) -> np.ndarray:
    """A box (4,) anywhere in the image, of any size, that is no labelled object's."""
    frame = frame_of(element.gts, size)
    objects = [tight_box(padded_mask(element.gts, one, frame)) for one in element.entry.labels]
    inner = np.array([frame.inner_width, frame.inner_height], np.float32) - 1
    box = np.concatenate([np.zeros(2, np.float32), inner])
    for _ in range(_TRIES):
        low, high = np.log(_SIDES)
        sides = np.minimum(np.exp(rng.uniform(low, high, 2)), inner)
        corner = rng.uniform(0, 1, 2) * (inner - sides)
        box = np.concatenate([corner, corner + sides]).astype(np.float32)
        if all(_iou(box, one) < _APART for one in objects):
            break
    return box


def _iou(first: np.ndarray, second: np.ndarray) -> float:
    low, high = np.maximum(first[:2], second[:2]), np.minimum(first[2:], second[2:])
    both = float(np.prod(np.maximum(high - low, 0)))
    areas = [float(np.prod(np.maximum(box[2:] - box[:2], 0))) for box in (first, second)]
    return both / max(sum(areas) - both, 1e-6)
