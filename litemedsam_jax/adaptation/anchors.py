"""What is not to be forgotten: prompts with the masks that the starting weights give for them.

Half of a batch are such anchors: other images with boxes on their objects and anywhere, and one's
own images with boxes elsewhere. They need no true labels. Source: Li and Hoiem, Learning without
forgetting, 2016, with boxes in the place of tasks.
"""

from collections.abc import Callable

import numpy as np

from litemedsam_jax.imaging.input_frame import to_input
from litemedsam_jax.training.anchored_sample import Anchor
from litemedsam_jax.training.catalog import Catalog, Slice
from litemedsam_jax.training.embedding_files import EmbeddingFiles, Encode
from litemedsam_jax.training.samples import FinetuneSample, frame_of, padded_mask, tight_box

OTHERS, OWN = 160, 48  # anchors on other images, and on one's own
_ANYWHERE = 0.4  # of the anchors on other images: boxes that know nothing of an object
_SIDES = (12.0, 160.0)  # pixels of the square that such a box's sides have
_APART = 0.2  # IoU with an own object up to which a box lies elsewhere
_TRIES = 20
# (embedding, boxes) -> logits (N, S, S), predicted IoU (N,)
Decode = Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray]]


def make_anchors(
    own: Catalog,
    others: Catalog | None,
    sample: FinetuneSample,
    encode: Encode,
    files: EmbeddingFiles,
    decode: Decode,
    rng: np.random.Generator,
) -> list[Anchor]:
    """Chooses prompts and decodes them with the starting weights.

    Args:
        own: slices to learn from.
        others: slices of other kinds; None: there are none, and one's own images serve alone.
        sample: makes prompts of use on slices of `others`, without flips.
        encode: the frozen encoder.
        files: its embeddings.
        decode: the decoder with the starting weights.
        rng: chooses.
    """
    anchors = []
    size = sample.size
    wanted = [(own, int(index), True) for index in rng.integers(len(own), size=OWN)]
    if others is not None:
        chosen = _evenly_by_case(others, OTHERS, rng)
        wanted += [(others, index, bool(rng.random() < _ANYWHERE)) for index in chosen]
    for catalog, index, elsewhere in wanted:
        element = catalog[index]
        frame = frame_of(element.gts, size)
        image = to_input(element.image, frame)
        embedding = files.read_or_encode(image, encode)
        if elsewhere:
            box = _box_elsewhere(element, size, rng)
        else:
            box = sample.random_map(element, rng)["box"]
        logits, iou = decode(embedding, box[None])
        target = np.rint(255 / (1 + np.exp(-np.clip(logits[0], -30, 30)))).astype(np.uint8)
        anchors.append(Anchor(element.entry.name, element.image, box, target, float(iou[0])))
    return anchors


def _evenly_by_case(catalog: Catalog, count: int, rng: np.random.Generator) -> list[int]:
    """Indices of slices, as many of each case."""
    cases: dict[str, list[int]] = {}
    for index, entry in enumerate(catalog.entries):
        cases.setdefault(entry.case, []).append(index)
    groups = list(cases.values())
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
