"""Validation of a fine-tuning: DSC and NSD by case, from boxes of the ground truth."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from litemedsam_jax.evaluation.metrics import score_case
from litemedsam_jax.imaging.input_frame import Frame, mask_from_logits, to_input
from litemedsam_jax.training.catalog import Catalog, Slice
from litemedsam_jax.training.config import DataConfig
from litemedsam_jax.training.data import ALONE, Sharding
from litemedsam_jax.training.samples import ImageEmbeddings, frame_of, padded_mask, tight_box

BOXES = 4  # prompts of a slice that are decoded together; a slice with more comes again
# (variables, batch) -> logits (n, BOXES, S, S); the batch has image (n, S, S, 3) or embedding
# (n, G, G, C), boxes (n, BOXES, 4), valid (n, BOXES).
Predict = Callable[[Any, dict[str, np.ndarray]], np.ndarray]


@dataclass(frozen=True)
class Item:
    """Some boxes of one slice, as the network takes them."""

    slice: Slice
    frame: Frame
    labels: tuple[int, ...]
    seen: np.ndarray  # image (S, S, 3), or its embedding (G, G, C)
    boxes: np.ndarray


@dataclass
class CasePrediction:
    """A case under prediction: slices and what was segmented on each, by position."""

    slices: dict[int, Slice] = field(default_factory=dict)
    segs: dict[int, np.ndarray] = field(default_factory=dict)
    boxes: dict[int, list[np.ndarray]] = field(default_factory=dict)

    def stacked(self) -> tuple[np.ndarray, np.ndarray]:
        """Labels and masks, (H, W) or (D, H, W) of all slices between; gaps are empty."""
        positions = sorted(self.slices)
        if len(positions) == 1:
            return self.slices[positions[0]].gts, self.segs[positions[0]]
        first, depth = positions[0], positions[-1] - positions[0] + 1
        shape = (depth, *self.slices[first].gts.shape)
        gts, segs = np.zeros(shape, np.uint16), np.zeros(shape, np.uint16)
        for position in positions:
            gts[position - first] = self.slices[position].gts
            segs[position - first] = self.segs[position]
        return gts, segs


@dataclass(frozen=True)
class ModalityScores:
    """Sums over the cases of each modality, which add up over hosts."""

    modalities: tuple[str, ...]
    sums: np.ndarray  # (modalities, 3): DSC, NSD, cases

    def means(self) -> dict[str, float]:
        """`dsc`, `nsd` over all cases, and `dsc/CT` and the like."""
        means = {}
        total = self.sums.sum(0)
        for name, row in [("", total), *zip(self.modalities, self.sums, strict=True)]:
            if row[2]:
                suffix = f"/{name}" if name else ""
                means[f"dsc{suffix}"] = float(row[0] / row[2])
                means[f"nsd{suffix}"] = float(row[1] / row[2])
        return means


def validate(
    predict: Predict,
    variables: Any,
    catalog: Catalog,
    data: DataConfig,
    size: int,
    batch_size: int,
    *,
    sharding: Sharding = ALONE,
    pictured: Sequence[str] = (),
    embeddings: ImageEmbeddings | None = None,
) -> tuple[ModalityScores, dict[str, CasePrediction]]:
    """Segments every label of every validation slice from its tight box; scores cases.

    Args:
        predict: the network.
        variables: passed to it.
        catalog: the validation slices.
        data: how many slices of a case (`val_slices`).
        size: of the network's input, in pixels.
        batch_size: items of a call of `predict`.
        sharding: this process takes every n-th case.
        pictured: cases whose predictions are returned too.
        embeddings: of a frozen encoder, which `predict` then takes instead of images.

    Returns:
        The scores of this process's cases, and those predictions.
    """
    entries = catalog.entries
    modalities = tuple(sorted({entry.modality for entry in entries}))
    sums = np.zeros((len(modalities), 3))
    kept: dict[str, CasePrediction] = {}
    groups = _cases(catalog, data.val_slices)
    own = list(groups.items())[sharding.index :: sharding.count]
    items = _items(catalog, own, size, embeddings)
    what = "image" if embeddings is None else "embedding"
    segmented = _predicted(predict, variables, items, batch_size, what)
    for case, prediction in _by_case(segmented):
        gts, segs = prediction.stacked()
        entry = entries[groups[case][0]]
        score = score_case(gts, segs, entry.spacing, corrected=True)
        sums[modalities.index(entry.modality)] += (score.dsc, np.nan_to_num(score.nsd), 1)
        if case in pictured:
            kept[case] = prediction
    return ModalityScores(modalities, sums), kept


def picked_cases(catalog: Catalog, count: int) -> list[str]:
    """Cases for pictures, evenly spread over the catalog: the same each epoch."""
    cases = list(dict.fromkeys(entry.case for entry in catalog.entries))
    chosen = np.linspace(0, len(cases) - 1, min(count, len(cases))).round().astype(int)
    return [cases[i] for i in chosen]


def _cases(catalog: Catalog, limit: int) -> dict[str, list[int]]:
    """Case -> its slices in the catalog, at most `limit` of them, evenly spread."""
    groups: dict[str, list[int]] = {}
    for index, entry in enumerate(catalog.entries):
        groups.setdefault(entry.case, []).append(index)
    if not limit:
        return groups
    return {
        case: [indices[i] for i in _spread(len(indices), limit)] for case, indices in groups.items()
    }


def _spread(count: int, limit: int) -> list[int]:
    if count <= limit:
        return list(range(count))
    return sorted({int((i + 0.5) * count / limit) for i in range(limit)})


def _items(
    catalog: Catalog, cases, size: int, embeddings: ImageEmbeddings | None
) -> Iterator[tuple[str, Item]]:
    for case, indices in cases:
        for index in indices:
            one = catalog[index]
            frame = frame_of(one.gts, size)
            image = to_input(one.image, frame)
            seen = image if embeddings is None else embeddings.read(image)
            labels = one.entry.labels
            for start in range(0, len(labels), BOXES):
                chunk = labels[start : start + BOXES]
                masks = [padded_mask(one.gts, label, frame) for label in chunk]
                boxes = np.stack([tight_box(mask) for mask in masks])
                yield case, Item(one, frame, chunk, seen, boxes)


def _predicted(predict: Predict, variables, items, batch_size: int, what: str):
    """Pairs of (case, item) with logits (labels, S, S), computed in batches of one size."""
    waiting: list[tuple[str, Item]] = []

    def run():
        empty = batch_size - len(waiting)
        some = [item for _, item in waiting] + [waiting[0][1]] * empty
        boxes = np.zeros((batch_size, BOXES, 4), np.float32)
        valid = np.zeros((batch_size, BOXES), bool)
        for row, item in enumerate(some):
            boxes[row, : len(item.boxes)] = item.boxes
            valid[row, : len(item.boxes)] = True
        seen = np.stack([item.seen for item in some])
        logits = predict(variables, {what: seen, "boxes": boxes, "valid": valid})
        for (case, item), masks in zip(waiting, logits, strict=False):
            yield case, item, masks[: len(item.labels)]
        waiting.clear()

    for pair in items:
        waiting.append(pair)
        if len(waiting) == batch_size:
            yield from run()
    if waiting:
        yield from run()


def _by_case(segmented) -> Iterator[tuple[str, CasePrediction]]:
    """Paints masks into slices; yields each case when the next one begins."""
    current, prediction = None, CasePrediction()
    for case, item, logits in segmented:
        # Images called a-001 and a-002 look like slices of a volume; their sizes differ.
        shape = item.slice.gts.shape
        if (case, shape) != current:
            if current is not None:
                yield current[0], prediction
            current, prediction = (case, shape), CasePrediction()
        position = item.slice.entry.position or 0
        prediction.slices[position] = item.slice
        seg = prediction.segs.setdefault(position, np.zeros(shape, item.slice.gts.dtype))
        for label, one in zip(item.labels, logits, strict=True):
            region = mask_from_logits(one, item.frame)
            seg[region.rows, region.columns][region.mask] = label
        drawn = prediction.boxes.setdefault(position, [])
        drawn.extend(item.boxes / item.frame.scale)
    if current is not None:
        yield current[0], prediction
