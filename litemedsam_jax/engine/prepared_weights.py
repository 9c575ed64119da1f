"""What an engine makes of weights before it runs them: folded ones, and the encoder's plan."""

import numpy as np

from litemedsam_jax.config import ModelConfig
from litemedsam_jax.engine import encoder_plan
from litemedsam_jax.engine.encoder_plan import EncoderLayer
from litemedsam_jax.engine.folded_cache import fold_once
from litemedsam_jax.engine.folding import fold
from litemedsam_jax.engine.lanes import Lanes
from litemedsam_jax.engine.network import DECODER_PARAMETERS, image_encoder
from litemedsam_jax.engine.precision import BFLOAT16
from litemedsam_jax.engine.program_store import ProgramStore
from litemedsam_jax.engine.rounding import round_weights
from litemedsam_jax.weights.values_digest import DigestCheck

Prepared = tuple[dict[str, np.ndarray], list[EncoderLayer]]


def prepare_for_cpu(
    config: ModelConfig,
    precision: str,
    store: ProgramStore,
    lanes: Lanes,
    variables: dict[str, np.ndarray],
    check: DigestCheck,
) -> Prepared:
    """Folds the weights and plans the encoder; has the executables loaded."""
    network = image_encoder(config)
    folded = fold_once(variables, network.grid_size, store, check, precision)
    layers = encoder_plan.plan(network, encoder_plan.large_logits(folded), precision=precision)
    lanes.prefetch(*dict.fromkeys(layer.program.name for layer in layers))
    store.mark_used()
    return folded, layers


def prepare_for_accelerator(
    config: ModelConfig, precision: str, variables: dict[str, np.ndarray], check: DigestCheck
) -> Prepared:
    """Folds the weights; an accelerator runs the encoder as a whole, without a plan."""
    check()
    folded = fold(variables, image_encoder(config).grid_size)
    return round_weights(folded) if precision == BFLOAT16 else folded, []


def with_other_decoder(
    prepared: Prepared, variables: dict[str, np.ndarray], precision: str
) -> Prepared:
    """The same encoder, with prompt encoder and mask decoder of other weights.

    Folding changes nothing of theirs.

    Args:
        prepared: of all weights.
        variables: flat; those of other parts are not looked at.
        precision: that was prepared for.
    """
    folded, layers = prepared
    theirs = {name: one for name, one in variables.items() if name.startswith(DECODER_PARAMETERS)}
    if precision == BFLOAT16:
        theirs = round_weights(theirs)
    return {**folded, **theirs}, layers
