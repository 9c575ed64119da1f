"""The losses of both stages.

Source: the reference's `train_one_gpu.py` (MONAI's DiceLoss with squared predictions, BCE with
logits, MSE of the predicted IoU) and `distill_single_gpu.py` (MSE of embeddings).
"""

import jax
import jax.numpy as jnp
from jax.scipy.special import xlogy

from litemedsam_jax.training.config import LossConfig

Array = jax.Array
_SMOOTH = 1e-5  # MONAI's, in numerator and denominator


def dice_loss(logits: Array, masks: Array) -> Array:
    """1 - 2·Σpg / (Σp² + Σg²), p the sigmoid of the logits; both (B, H, W), returns (B,)."""
    probability = jax.nn.sigmoid(logits)
    overlap = (probability * masks).sum((-2, -1))
    total = jnp.square(probability).sum((-2, -1)) + jnp.square(masks).sum((-2, -1))
    return 1 - (2 * overlap + _SMOOTH) / (total + _SMOOTH)


def bce_loss(logits: Array, masks: Array) -> Array:
    """Binary cross entropy, mean over the pixels; both (B, H, W), returns (B,)."""
    # log(1 + exp(-|x|)) never overflows.
    terms = jnp.maximum(logits, 0) - logits * masks + jnp.log1p(jnp.exp(-jnp.abs(logits)))
    return terms.mean((-2, -1))


def actual_iou(logits: Array, masks: Array) -> Array:
    """Intersection over union of the predicted mask (logit > 0) and the true one, (B,)."""
    predicted, true = logits > 0, masks > 0
    both = (predicted & true).sum((-2, -1))
    either = (predicted | true).sum((-2, -1))
    return both / jnp.maximum(either, 1)


def segmentation_loss(
    logits: Array, predicted_iou: Array, masks: Array, config: LossConfig
) -> tuple[Array, dict[str, Array]]:
    """Stage 2: weighted sum of Dice, BCE and the error of the predicted IoU.

    Args:
        logits: (B, S, S).
        predicted_iou: (B,).
        masks: (B, S, S), 0 or 1; padding is background.
        config: the terms' weights.

    Returns:
        The total and its unweighted terms `dice`, `bce`, `iou`, all means over the batch.
    """
    logits, masks = logits.astype(jnp.float32), masks.astype(jnp.float32)
    ones = jnp.ones(len(logits))
    return _weighted(_segmentation_terms(logits, predicted_iou, masks), ones, config)


def anchored_loss(
    logits: Array,
    predicted_iou: Array,
    targets: Array,
    target_iou: Array,
    is_anchor: Array,
    config: LossConfig,
) -> tuple[Array, dict[str, Array]]:
    """Stage 2 beside anchors, whose masks and predicted IoU are to stay what they were.

    Args:
        logits: (B, S, S).
        predicted_iou: (B,).
        targets: (B, S, S), true masks, or an anchor's probabilities.
        target_iou: (B,), of anchors.
        is_anchor: (B,), 0 or 1.
        config: the terms' weights.

    Returns:
        The total and the unweighted terms of `segmentation_loss` and `anchor`, each a mean over the
        samples that it is for.
    """
    logits, targets = logits.astype(jnp.float32), targets.astype(jnp.float32)
    own = _segmentation_terms(logits, predicted_iou, targets)
    total, terms = _weighted(own, 1 - is_anchor, config)
    # Compiled into one loop, 1 - 255/255 can come out below zero, whose logarithm is not a number.
    rest = jnp.clip(1 - targets, 0, 1)
    entropy = -(xlogy(targets, targets) + xlogy(rest, rest)).mean((-2, -1))
    iou_error = jnp.square(predicted_iou.astype(jnp.float32) - target_iou)
    divergence = bce_loss(logits, targets) - entropy
    kept = _mean_over(config.anchor_weight * divergence + config.iou * iou_error, is_anchor)
    return total + kept, {**terms, "anchor": _mean_over(divergence, is_anchor)}


def _segmentation_terms(logits: Array, predicted_iou: Array, masks: Array) -> dict[str, Array]:
    target = jax.lax.stop_gradient(actual_iou(logits, masks))
    return {
        "dice": dice_loss(logits, masks),
        "bce": bce_loss(logits, masks),
        "iou": jnp.square(predicted_iou.astype(jnp.float32) - target),
    }


def _weighted(
    terms: dict[str, Array], counted: Array, config: LossConfig
) -> tuple[Array, dict[str, Array]]:
    means = {name: _mean_over(term, counted) for name, term in terms.items()}
    return sum(getattr(config, name) * mean for name, mean in means.items()), means


def _mean_over(values: Array, counted: Array) -> Array:
    return (values * counted).sum() / jnp.maximum(counted.sum(), 1)


def embedding_loss(student: Array, teacher: Array) -> Array:
    """Stage 1: mean squared error over all elements of two embeddings (B, G, G, C)."""
    return jnp.square(student.astype(jnp.float32) - teacher.astype(jnp.float32)).mean()
