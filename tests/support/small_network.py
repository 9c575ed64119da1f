"""A network whose programs compile in seconds, with random variables."""

import jax
import numpy as np

from litemedsam_jax.config import (
    MaskDecoderConfig,
    ModelConfig,
    PromptEncoderConfig,
    StageConfig,
    TinyViTConfig,
)
from litemedsam_jax.models.lite_medsam import init_variables
from litemedsam_jax.weights.tree import flatten, unflatten


def small_model() -> ModelConfig:
    """A LiteMedSAM of 64x64 input whose programs compile in seconds."""
    stages = (StageConfig(8, 1, 1, 7, 1), StageConfig(16, 1, 2, 7, None))
    return ModelConfig(
        "small",
        TinyViTConfig(64, 1, 2, stages, out_dim=16),
        PromptEncoderConfig(dim=16, mask_channels=4),
        MaskDecoderConfig(dim=16, depth=1, heads=2, mlp_dim=32),
    )


def random_variables(model: ModelConfig, seed: int = 0) -> dict:
    """Variables scaled for training, as arrays; `init_variables` would compile for ten seconds."""
    shapes = jax.eval_shape(lambda key: init_variables(model, key), jax.random.key(0))
    rng = np.random.default_rng(seed)

    def value(path: str, leaf) -> np.ndarray:
        name = path.split("/")[-1]
        if name in ("scale", "var"):
            return np.ones(leaf.shape, np.float32)
        if name in ("bias", "mean"):
            return np.zeros(leaf.shape, np.float32)
        inputs = np.prod(leaf.shape[:-1]) if name == "kernel" else 1
        return rng.normal(0, inputs**-0.5, leaf.shape).astype(np.float32)

    return unflatten({path: value(path, leaf) for path, leaf in flatten(shapes).items()})
