"""Joins a distilled image encoder with MedSAM's prompt encoder and mask decoder.

The reference distils an encoder (stage 1) and fine-tunes a whole model (stage 2), but ships
nothing that makes the second's start out of the first's result.
"""

from pathlib import Path

from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.load import load
from litemedsam_jax.weights.tree import Weights

_ENCODER = ("image_encoder",)
_DECODER = ("prompt_encoder", "mask_decoder")


def join(encoder: str | Path, decoder_from: str | Path) -> Weights:
    """Makes a whole model out of two files, each PyTorch's or safetensors.

    Args:
        encoder: Gives the image encoder and the architecture; it may be an encoder alone.
        decoder_from: Gives prompt encoder and mask decoder, such as `medsam_vit_b.pth`. Coordinates
            are relative to the frame, so a decoder of 1024-pixel input serves at 256.

    Returns:
        The weights of a whole model, of the encoder's architecture.

    Raises:
        CheckpointError: A file cannot be used, lacks its part, or their widths differ.
    """
    front, back = _read(encoder, _ENCODER), _read(decoder_from, _DECODER)
    for name in _DECODER:
        if getattr(front.config, name) != getattr(back.config, name):
            raise CheckpointError(
                f"{decoder_from}: the {name} of {back.config.name} does not fit the encoder of "
                f"{front.config.name} in {encoder}: {getattr(front.config, name)} was expected."
            )
    return Weights(
        {**front.variables, **back.variables}, front.config, {**front.counters, **back.counters}
    )


def _read(path: str | Path, parts: tuple[str, ...]) -> Weights:
    """Some parts of a model; all of these must be there."""
    weights = load(path, parts)
    lacking = set(parts) - set(weights.parts)
    if lacking:
        raise CheckpointError(
            f"{path}: it has no {' and no '.join(sorted(lacking))}; a file with "
            f"{' and '.join(parts)} was expected."
        )
    return weights
