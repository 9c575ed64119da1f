"""Label maps: one number a pixel, of the box whose mask it is."""

import numpy as np

from litemedsam_jax.imaging.input_frame import Region, Scores

_LEVELS_PER_LOGIT = 8  # resolution of confidence; 255 levels in all


def blank(shape: tuple[int, ...], count: int) -> np.ndarray:
    """An empty label map of the smallest of the two types that holds `count` labels."""
    return np.zeros(shape, np.uint8 if count <= 255 else np.uint16)


def paint(labels: np.ndarray, region: Region, label: int) -> None:
    """Writes a label into (H, W) where the mask is set; a higher label stays.

    The reference paints box after box, so the later one wins; the maximum says the same and does
    not depend on the order in which slices are worked on.
    """
    target = labels[region.rows, region.columns]
    np.maximum(target, region.mask * labels.dtype.type(label), out=target)


def paint_by_score(
    labels: np.ndarray, confidence: np.ndarray, scores: Scores, label: int, advantage: float = 0.0
) -> None:
    """Writes a label into (H, W) where its confidence is above that of what is there.

    Among equals the higher label wins, so that the order of painting does not matter.

    Args:
        labels: (H, W), changed.
        confidence: (H, W) uint8, of the labels, changed too; 0 where there is none.
        scores: fused logits of a part of the image.
        label: from 1.
        advantage: logits, at least 0, that count where masks overlap but set no pixel.
    """
    level = np.ceil(np.clip((scores.values + advantage) * _LEVELS_PER_LOGIT, 1, 255))
    level = np.where(scores.values > 0, level, 0).astype(np.uint8)
    target, there = (array[scores.rows, scores.columns] for array in (labels, confidence))
    wins = (level > there) | ((level == there) & (level > 0) & (target < label))
    target[wins], there[wins] = label, level[wins]
