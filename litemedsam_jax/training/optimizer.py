"""AdamW as torch computes it, with the schedules and the options of a run (optax).

Torch skips a parameter that no loss reaches: neither state nor decay. optax would see a gradient of
zeros and decay it, so such parameters are named here and left out. A parameter whose gradient is
zero (the hypernetworks of masks that are not asked for) decays in both.
"""

import re
from typing import Any

import jax
import optax
import optax.contrib

from litemedsam_jax.config import TinyViTConfig, ViTConfig
from litemedsam_jax.training.config import OptimizerConfig, TrainingConfig
from litemedsam_jax.weights.tree import flatten, unflatten

# Prompts that training with boxes never makes.
_WITHOUT_GRADIENT = (
    "prompt_encoder/point_embeddings_0/",
    "prompt_encoder/point_embeddings_1/",
    "prompt_encoder/not_a_point_embed/",
    "prompt_encoder/mask_downscaling_",
)
_PARTS = {"encoder": "image_encoder/", "prompt": "prompt_encoder/", "decoder": "mask_decoder/"}
# torch's ReduceLROnPlateau as the reference sets it: six epochs without improvement.
_PLATEAU_FACTOR, _PLATEAU_EPOCHS, _PLATEAU_THRESHOLD = 0.9, 6, 1e-4


def make_optimizer(
    config: TrainingConfig, params: Any, steps_per_epoch: int
) -> optax.GradientTransformationExtraArgs:
    """The optimizer of a run; its update takes the loss as `value` (plateau).

    Args:
        config: the run.
        params: nested, as the network's `params` collection.
        steps_per_epoch: optimizer steps, for plateau and cosine.
    """
    options = config.optimizer
    encoder = config.model.image_encoder
    adamw = optax.chain(
        optax.clip_by_global_norm(options.clip_norm) if options.clip_norm else optax.identity(),
        optax.scale_by_adam(b1=0.9, b2=0.999, eps=options.epsilon),
        optax.add_decayed_weights(options.weight_decay),
        _scale_by_layer(encoder, options.layer_decay),
        optax.scale_by_learning_rate(learning_rate(config, steps_per_epoch)),
    )
    labels = map_paths(lambda path: "trained" if trains(path, options) else "frozen", params)
    parts = {"trained": adamw, "frozen": optax.set_to_zero()}
    optimizer = optax.with_extra_args_support(optax.multi_transform(parts, labels))
    if options.schedule != "plateau":
        return _with_promotion(optimizer)
    plateau = optax.contrib.reduce_on_plateau(
        factor=_PLATEAU_FACTOR,
        patience=_PLATEAU_EPOCHS,
        rtol=_PLATEAU_THRESHOLD,
        accumulation_size=steps_per_epoch,
    )
    return _with_promotion(optax.chain(optimizer, plateau))


def _with_promotion(
    optimizer: optax.GradientTransformationExtraArgs,
) -> optax.GradientTransformationExtraArgs:
    """The optimizer where implicit promotion of dtypes is an error: optax relies on it."""

    def update(*arguments, **more):
        with jax.numpy_dtype_promotion("standard"):
            return optimizer.update(*arguments, **more)

    return optax.GradientTransformationExtraArgs(optimizer.init, update)


def learning_rate(config: TrainingConfig, steps_per_epoch: int) -> optax.Schedule:
    """Step -> learning rate, before the plateau's factor and the layers'."""
    schedule = _schedule(config, steps_per_epoch)

    def rate(step):
        with jax.numpy_dtype_promotion("standard"):
            return schedule(step)

    return rate


def _schedule(config: TrainingConfig, steps_per_epoch: int) -> optax.Schedule:
    options = config.optimizer
    peak, warmup = options.learning_rate, options.warmup_steps
    if options.schedule == "cosine":
        total = max(config.epochs * steps_per_epoch, warmup + 1)
        return optax.warmup_cosine_decay_schedule(0.0, peak, warmup, total)
    if warmup:
        return optax.linear_schedule(0.0, peak, warmup)
    return optax.constant_schedule(peak)


def plateau_factor(opt_state: Any) -> float:
    """What the plateau schedule has made of the learning rate so far; 1 without it."""
    plateaus = [
        part for part in jax.tree.leaves(opt_state, is_leaf=_is_plateau) if _is_plateau(part)
    ]
    return float(plateaus[0].scale) if plateaus else 1.0


def trains(path: str, options: OptimizerConfig) -> bool:
    """Whether the parameter at a path such as `image_encoder/neck_0/kernel` is trained."""
    frozen = tuple(_PARTS[name] for name in options.freeze)
    return not path.startswith((*_WITHOUT_GRADIENT, *frozen))


def layer_factor(path: str, encoder: TinyViTConfig | ViTConfig, decay: float) -> float:
    """The learning rate's factor of a parameter: decay^(blocks between it and the last one).

    The stem has the first block's, a downsampling its stage's last block's; the neck and all
    outside the encoder have 1. Source: TinyViT, whose training scales so; the reference sets the
    factors up and never applies them.
    """
    if not path.startswith("image_encoder/"):
        return 1.0
    if isinstance(encoder, ViTConfig):
        match = re.match(r"image_encoder/blocks_(\d+)/", path)
        block = int(match[1]) if match else 0
        depth = encoder.depth
    else:
        depths = [stage.depth for stage in encoder.stages]
        depth = sum(depths)
        match = re.match(r"image_encoder/layers_(\d+)/(?:blocks_(\d+)|downsample)/", path)
        block = 0
        if match:
            stage = int(match[1])
            within = depths[stage] - 1 if match[2] is None else int(match[2])
            block = sum(depths[:stage]) + within
    if path.startswith("image_encoder/neck_"):
        return 1.0
    return decay ** (depth - 1 - block)


def map_paths(function, params: Any) -> Any:
    """A tree like `params` with function(path) at every leaf."""
    return unflatten({path: function(path) for path in flatten(params)})


def _scale_by_layer(
    encoder: TinyViTConfig | ViTConfig, decay: float
) -> optax.GradientTransformation:
    if decay == 1.0:
        return optax.identity()

    def scale(updates, params):
        del params
        return jax.tree_util.tree_map_with_path(
            lambda path, update: update * layer_factor(_text(path), encoder, decay), updates
        )

    return optax.stateless(scale)


def _text(path: tuple) -> str:
    return "/".join(str(part.key) for part in path) + "/"


def _is_plateau(node: Any) -> bool:
    return isinstance(node, optax.contrib.ReduceLROnPlateauState)
