"""Joins a distilled image encoder with MedSAM's prompt encoder and mask decoder.

The reference distils an encoder (stage 1) and fine-tunes a whole model (stage 2), but ships
nothing that makes the second's start out of the first's result.
"""

from pathlib import Path

from litemedsam_jax.weights import store, torch_checkpoint
from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.torch_checkpoint import Converted

_ENCODER = ("image_encoder",)
_DECODER = ("prompt_encoder", "mask_decoder")


def join(encoder: str | Path, decoder_from: str | Path) -> Converted:
    """Makes a whole model out of two files, each PyTorch's or safetensors.

    Args:
        encoder: Gives the image encoder and the architecture; it may be an encoder alone.
        decoder_from: Gives prompt encoder and mask decoder, such as `medsam_vit_b.pth`. Coordinates
            are relative to the frame, so a decoder of 1024-pixel input serves at 256.

    Raises:
        CheckpointError: A file cannot be used, lacks its part, or their widths differ.
    """
    front, back = _read(encoder, _ENCODER), _read(decoder_from, _DECODER)
    for name in ("prompt_encoder", "mask_decoder"):
        if getattr(front.config, name) != getattr(back.config, name):
            raise CheckpointError(
                f"{decoder_from}: the {name} of {back.config.name} does not fit the encoder of "
                f"{front.config.name} in {encoder}: {getattr(front.config, name)} was expected."
            )
    return Converted(
        {**front.variables, **back.variables}, front.config, {**front.counters, **back.counters}
    )


def _read(path: str | Path, parts: tuple[str, ...]) -> Converted:
    """The variables of some parts of a model; all of these parts must be there."""
    whole = read_either(path, parts)
    chosen = {name: value for name, value in whole.variables.items() if name.split("/")[1] in parts}
    lacking = set(parts) - {name.split("/")[1] for name in chosen}
    if lacking:
        raise CheckpointError(
            f"{path}: it has no {' and no '.join(sorted(lacking))}; a file with "
            f"{' and '.join(parts)} was expected."
        )
    counters = {key: n for key, n in whole.counters.items() if key.split(".")[0] in parts}
    return Converted(chosen, whole.config, counters)


def read_either(path: str | Path, parts: tuple[str, ...] = torch_checkpoint.PARTS) -> Converted:
    """Reads a PyTorch checkpoint or our safetensors, counters included.

    Args:
        path: The file; its content tells its kind.
        parts: Which parts of a PyTorch checkpoint to take; of safetensors all are read.

    Raises:
        CheckpointError: The file cannot be used.
    """
    if store.is_zip(Path(path)):
        return torch_checkpoint.read(path, parts)
    variables, config = store.load(path)
    counters = torch_checkpoint.counters_from_text(store.read_metadata(path))
    return Converted(variables, config, counters)
