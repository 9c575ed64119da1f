"""Reads weights from any file that holds them: safetensors, or a PyTorch checkpoint."""

from collections.abc import Iterable
from pathlib import Path

from litemedsam_jax.weights import safetensors_file
from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.tree import PARTS, Weights, part_of


def load(path: str | Path, parts: Iterable[str] = PARTS) -> Weights:
    """Reads a whole model, or some parts of it.

    Args:
        path: The file; its content tells its kind, not its name.
        parts: Which of `tree.PARTS` to take; of an image encoder alone, only that.

    Returns:
        Variables of those parts that the file has.

    Raises:
        CheckpointError: The file cannot be read, is of an unknown architecture, or does not match
            its architecture exactly; every mismatch is listed.
    """
    path, parts = Path(path), tuple(parts)
    if _is_torch(path):
        from litemedsam_jax.weights.state_dict import to_weights
        from litemedsam_jax.weights.torch_file import read_torch_file

        return to_weights(read_torch_file(path), parts, str(path))
    arrays, metadata = safetensors_file.read(path)
    config = safetensors_file.config_of(metadata, str(path))
    variables = {name: array for name, array in arrays.items() if part_of(name) in parts}
    counters = safetensors_file.counters_of(metadata, str(path))
    return Weights(
        variables, config, {k: n for k, n in counters.items() if k.split(".")[0] in parts}
    )


def load_model(path: str | Path) -> Weights:
    """Reads a whole model; arguments and errors as of `load`.

    Raises:
        CheckpointError: Also where the file holds an image encoder alone.
    """
    weights = load(path)
    if weights.parts == ("image_encoder",):
        raise CheckpointError(
            f"{path}: an image encoder alone, without prompt encoder and mask decoder. Join them "
            "with: convert_weights.py --encoder ENCODER --decoder-from FULL_MODEL OUT.safetensors"
        )
    return weights


def _is_torch(path: Path) -> bool:
    """Whether the file starts as PyTorch's checkpoints do (old ones without zip included)."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}.") from error
    return start == b"PK\x03\x04" or start[:2] == b"\x80\x02"
