"""Pure functions of a step: state and batch in, state and metrics out. No loop, no device."""

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jax import lax

from litemedsam_jax.config import Execution, ModelConfig
from litemedsam_jax.models.cpu_ops import on_cpu
from litemedsam_jax.models.lite_medsam import LiteMedSAMNetwork, make_image_encoder
from litemedsam_jax.training import losses
from litemedsam_jax.training.config import TrainingConfig
from litemedsam_jax.training.optimizer import map_paths, trains

Array = jax.Array
Metrics = dict[str, Array]
# (params, batch_stats, buffers, batch, train) -> loss, (terms, new batch_stats)
LossFunction = Callable[..., tuple[Array, tuple[Metrics, Any]]]


class TrainState(NamedTuple):
    """All that a step changes, and `buffers`, which it only needs. No device axis anywhere."""

    step: Array  # optimizer steps done, int32
    params: Any
    batch_stats: Any
    buffers: Any
    opt_state: Any
    ema_params: Any  # exponential moving average of params; empty without --ema

    def variables(self, averaged: bool = True) -> dict[str, Any]:
        """The network's collections, with the averaged parameters where there are any."""
        params = self.ema_params if averaged and self.ema_params else self.params
        collections = {"params": params, "batch_stats": self.batch_stats, "buffers": self.buffers}
        return {name: tree for name, tree in collections.items() if tree}


def init_state(
    variables: dict[str, Any], optimizer: optax.GradientTransformation, ema: bool
) -> TrainState:
    """The state before the first step."""
    params = variables["params"]
    return TrainState(
        jnp.zeros((), jnp.int32),
        params,
        variables.get("batch_stats", {}),
        variables.get("buffers", {}),
        optimizer.init(params),
        jax.tree.map(jnp.copy, params) if ema else {},
    )


def execution(config: TrainingConfig, axis: str | None) -> Execution:
    """How the trained network computes: on CPUs in bfloat16 only what products multiply."""
    dtype, products = ("float32", config.dtype) if on_cpu() else (config.dtype, "float32")
    return Execution(dtype=dtype, products=products, batch_axis=axis, remat=config.remat)


def finetune_loss(config: TrainingConfig, axis: str | None = None) -> LossFunction:
    """Stage 2. Batches: image (B, S, S, 3), mask (B, S, S), box (B, 4).

    Instead of the image a batch may have its `embedding` (B, G, G, C), of a frozen encoder.
    """
    network = LiteMedSAMNetwork(config.model, execution(config, axis))
    # A frozen encoder keeps its running statistics too.
    encoder_trains = "encoder" not in config.optimizer.freeze

    def loss(params, batch_stats, buffers, batch, train):
        variables = {"params": params, "batch_stats": batch_stats, "buffers": buffers}
        if "embedding" in batch:
            logits, iou = _decode(network, variables, batch)
        else:
            train = train and encoder_trains
            (logits, iou), updated = network.apply(
                variables, batch["image"], batch["box"][:, None], train, mutable=["batch_stats"]
            )
            batch_stats = updated["batch_stats"]
        total, terms = losses.segmentation_loss(
            logits[:, 0, 0], iou[:, 0, 0], batch["mask"], config.loss
        )
        return total, (terms, batch_stats)

    return loss


def anchored_loss(config: TrainingConfig, axis: str | None = None) -> LossFunction:
    """Stage 2 on embeddings of a frozen encoder, with anchors among the samples.

    Batches: embedding (B, G, G, C), box (B, 4), mask (B, S, S) uint8 from 0 to 255, iou (B,) and
    anchor (B,); see `losses.anchored_loss`.
    """
    network = LiteMedSAMNetwork(config.model, execution(config, axis))

    def loss(params, batch_stats, buffers, batch, train):
        del train
        variables = {"params": params, "batch_stats": batch_stats, "buffers": buffers}
        logits, iou = _decode(network, variables, batch)
        total, terms = losses.anchored_loss(
            logits[:, 0, 0],
            iou[:, 0, 0],
            batch["mask"].astype(jnp.float32) / 255,
            batch["iou"],
            batch["anchor"],
            config.loss,
        )
        return total, (terms, batch_stats)

    return loss


def _decode(network: LiteMedSAMNetwork, variables: Any, batch: Any) -> Any:
    """Logits and predicted IoU of a batch's boxes on its embeddings."""
    embedding = batch["embedding"].astype(jnp.float32)
    return network.apply(variables, embedding, batch["box"][:, None], method="decode")


def distill_loss(config: TrainingConfig, axis: str | None = None) -> LossFunction:
    """Stage 1. Batches: image (B, S, S, 3), the teacher's embedding (B, G, G, C)."""
    network = make_image_encoder(config.model, execution(config, axis))

    def loss(params, batch_stats, buffers, batch, train):
        del buffers
        variables = {"params": params["image_encoder"]}
        if batch_stats:
            variables["batch_stats"] = batch_stats["image_encoder"]
        student, updated = network.apply(variables, batch["image"], train, mutable=["batch_stats"])
        total = losses.embedding_loss(student, batch["embedding"])
        stats = updated.get("batch_stats")
        return total, ({}, {"image_encoder": stats} if stats else batch_stats)

    return loss


def teacher_embedding(config: ModelConfig, dtype: str, variables: Any, image: Array) -> Array:
    """The frozen teacher's embedding, (B, G, G, C) bfloat16: what the cache stores.

    Args:
        config: of the teacher's whole model.
        dtype: of its activations.
        variables: of the image encoder alone.
        image: (B, S, S, 3) at the teacher's size.
    """
    network = make_image_encoder(config, Execution(dtype=dtype))
    embedding: Any = network.apply(variables, image)
    return lax.stop_gradient(embedding).astype(jnp.bfloat16)


def make_step(
    config: TrainingConfig,
    loss: LossFunction,
    optimizer: optax.GradientTransformationExtraArgs,
    axis: str | None = None,
) -> Callable[[TrainState, Any], tuple[TrainState, Metrics]]:
    """The training step over a batch (accumulate, B, ...), one optimizer step.

    Args:
        config: what is frozen, whether parameters are averaged.
        loss: of one batch.
        optimizer: as `make_optimizer` makes it.
        axis: name of the axis of devices, over which gradients and metrics are averaged.

    Returns:
        (state, batch) -> (state, metrics: loss, its terms, gradient_norm, finite). A step whose
        loss or gradient is not finite leaves the state as it was, for the guard to stop on.
    """
    gradients = partial(
        _accumulated, jax.value_and_grad(_without_frozen(loss, config), has_aux=True)
    )
    ema = config.optimizer.ema_decay

    def step(state: TrainState, batch: Any) -> tuple[TrainState, Metrics]:
        grads, metrics, batch_stats = gradients(state, batch)
        if axis is not None:
            grads, metrics = lax.pmean((grads, metrics), axis)
        norm = optax.tree.norm(grads)
        finite = jnp.isfinite(metrics["loss"]) & jnp.isfinite(norm)
        updates, opt_state = optimizer.update(
            grads, state.opt_state, state.params, value=metrics["loss"]
        )
        params = optax.apply_updates(state.params, updates)
        ema_params = optax.incremental_update(params, state.ema_params, 1 - ema) if ema else {}
        new = TrainState(state.step + 1, params, batch_stats, state.buffers, opt_state, ema_params)
        new = jax.tree.map(lambda a, b: jnp.where(finite, a, b), new, state)
        return new, {**metrics, "gradient_norm": norm, "finite": finite}

    return step


def _without_frozen(loss: LossFunction, config: TrainingConfig) -> LossFunction:
    """The loss without gradients into frozen parameters, whose backward pass then goes away."""

    def loss_of_trained(params, *arguments):
        kept = map_paths(lambda path: trains(path, config.optimizer), params)
        params = jax.tree.map(lambda k, p: p if k else lax.stop_gradient(p), kept, params)
        return loss(params, *arguments)

    return loss_of_trained


def _accumulated(value_and_grad, state: TrainState, batch: Any) -> tuple[Any, Metrics, Any]:
    """Mean gradients and metrics over the leading axis of the batch, one part after the other."""

    def part(batch_stats, one):
        (total, (terms, batch_stats)), grads = value_and_grad(
            state.params, batch_stats, state.buffers, one, True
        )
        return batch_stats, (grads, {"loss": total, **terms})

    count = jax.tree.leaves(batch)[0].shape[0]
    if count == 1:
        batch_stats, (grads, metrics) = part(state.batch_stats, jax.tree.map(lambda x: x[0], batch))
        return grads, metrics, batch_stats

    def add(carry, one):
        batch_stats, total = carry
        batch_stats, one_total = part(batch_stats, one)
        return (batch_stats, jax.tree.map(jnp.add, total, one_total)), None

    shapes = jax.eval_shape(part, state.batch_stats, jax.tree.map(lambda x: x[0], batch))[1]
    zeros = jax.tree.map(lambda s: jnp.zeros(s.shape, s.dtype), shapes)
    (batch_stats, total), _ = lax.scan(add, (state.batch_stats, zeros), batch)
    grads, metrics = jax.tree.map(lambda x: x / count, total)
    return grads, metrics, batch_stats
