"""What a run starts from: its own checkpoint, other weights, or nothing, in this order."""

from pathlib import Path
from typing import Any

import jax

from litemedsam_jax.config import ModelConfig
from litemedsam_jax.models.lite_medsam import init_variables
from litemedsam_jax.weights import default_weights
from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.load import load, load_model
from litemedsam_jax.weights.tree import unflatten

Variables = dict[str, Any]


def whole_model(
    path: Path | None, scratch: ModelConfig | None, seed: int
) -> tuple[Variables, ModelConfig, dict[str, int]]:
    """Variables of a whole model to fine-tune, its architecture, torch's BatchNorm counters.

    Args:
        path: a .pth or safetensors file; None: the default weights.
        scratch: the architecture to start at random where there is no path.
        seed: of the random start.

    Raises:
        CheckpointError: the file is missing or unusable, or neither was given.
    """
    if path is None and scratch is not None:
        return _fresh(scratch, seed), scratch, {}
    stored = load_model(_existing(path or default_weights.find(), "-pretrained_checkpoint"))
    return unflatten(stored.variables), stored.config, stored.counters


def encoder_alone(
    path: Path | None, scratch: ModelConfig | None, seed: int
) -> tuple[Variables, ModelConfig, dict[str, int]]:
    """The same of an image encoder to distil into; a whole model's is taken out of it."""
    if path is None and scratch is not None:
        return _encoder_of(_fresh(scratch, seed)), scratch, {}
    path = _existing(path, "-tinyvit_checkpoint")
    stored = load(path, ("image_encoder",))
    counters = {k: n for k, n in stored.counters.items() if k.startswith("image_encoder.")}
    return _encoder_of(unflatten(stored.variables)), stored.config, counters


def teacher(path: Path | None) -> tuple[Variables, ModelConfig]:
    """The teacher's image encoder: variables as its module takes them, and its architecture."""
    path = _existing(path, "-medsam_checkpoint")
    stored = load(path, ("image_encoder",))
    collections = _encoder_of(unflatten(stored.variables))
    return {name: tree["image_encoder"] for name, tree in collections.items()}, stored.config


def _fresh(config: ModelConfig, seed: int) -> Variables:
    return jax.tree.map(jax.numpy.asarray, init_variables(config, jax.random.key(seed)))


def _encoder_of(variables: Variables) -> Variables:
    return {
        name: {"image_encoder": tree["image_encoder"]}
        for name, tree in variables.items()
        if "image_encoder" in tree
    }


def _existing(path: Path | None, flag: str) -> Path:
    if path is None:
        raise CheckpointError(
            f"{flag} is missing: give the weights to start from (`litemedsam weights` gets "
            "the published LiteMedSAM), or start at random with --from-scratch"
        )
    if not path.is_file():
        raise CheckpointError(
            f"{path}: there is no such file. Give existing weights with {flag} (`litemedsam "
            "weights` gets the published LiteMedSAM), or start at random with --from-scratch"
        )
    return path
