"""Reads weights from any file that holds them: safetensors, or a PyTorch checkpoint.

Whatever the file, the same holds afterwards: the variables are exactly those of the configuration,
by name, shape and type (see weights.variable_shapes), and a file written here has the values that
were written.
"""

from collections.abc import Iterable
from os import PathLike
from pathlib import Path

from litemedsam_jax.weights import safetensors_file, values_digest
from litemedsam_jax.weights.default_weights import COMMAND
from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.tree import PARTS, Weights, part_of
from litemedsam_jax.weights.values_digest import DigestCheck
from litemedsam_jax.weights.variable_shapes import mismatches, variable_shapes

_WITHOUT_DIGEST = (
    "{path}: without a digest of its values (written by an earlier version or another program), so "
    "that it cannot be told whether they were changed. If you trust the file: "
    "litemedsam convert {path} OUT.safetensors"
)


def load(
    path: str | PathLike, parts: Iterable[str] = PARTS, *, need_digest: bool = True
) -> Weights:
    """Reads a whole model, or some parts of it.

    Args:
        path: The file; its content tells its kind, not its name.
        parts: Which of `tree.PARTS` to take; of an image encoder alone, only that.
        need_digest: Whether a file in our own format must have the digest of its values.

    Returns:
        Variables of those parts that the file has.

    Raises:
        CheckpointError: The file cannot be read, is of an unknown architecture, or does not match
            its architecture exactly (every mismatch is listed), or its values were changed.
    """
    weights, check = _open(Path(path), tuple(parts), need_digest)
    check()
    return weights


def load_model(path: str | PathLike) -> Weights:
    """Reads a whole model; arguments and errors as of `load`.

    Raises:
        CheckpointError: Also where the file holds an image encoder alone.
    """
    weights, check = open_model(path)
    check()
    return weights


def open_model(path: str | PathLike) -> tuple[Weights, DigestCheck]:
    """Reads a whole model, and does not wait until its values are checked.

    Args:
        path: As of `load`.

    Returns:
        The weights; and the check of their values, which raises CheckpointError where they were
        changed. Nothing that they give may be used before it is called.

    Raises:
        CheckpointError: As `load`; and where the file holds an image encoder alone.
    """
    weights, check = _open(Path(path), PARTS)
    if weights.parts == ("image_encoder",):
        raise CheckpointError(
            f"{path}: an image encoder alone, without prompt encoder and mask decoder. Join them "
            "with: litemedsam convert --encoder ENCODER --decoder-from FULL_MODEL OUT.safetensors"
        )
    return weights, check


def _open(
    path: Path, parts: tuple[str, ...], need_digest: bool = True
) -> tuple[Weights, DigestCheck]:
    if _is_torch(path):
        from litemedsam_jax.weights.state_dict import to_weights
        from litemedsam_jax.weights.torch_file import read_torch_file

        weights = to_weights(read_torch_file(path), parts, str(path))
        return weights, DigestCheck(weights.variables, None, str(path))
    arrays, metadata = safetensors_file.read(path)
    if "config" not in metadata:
        weights = _with_torch_keys(path, arrays, parts)
        return weights, DigestCheck(weights.variables, None, str(path))
    config = safetensors_file.config_of(metadata, str(path))
    alone = not any(part_of(name) in ("prompt_encoder", "mask_decoder") for name in arrays)
    present = ("image_encoder",) if alone else PARTS
    try:
        faults = mismatches(arrays, variable_shapes(config, present))
    except ValueError as error:
        raise CheckpointError(f"{path}: its metadata holds {error}.") from error
    if faults:
        raise CheckpointError(
            f"{path}: does not match {config.name}, {len(faults)} mismatches:\n  "
            + "\n  ".join(faults)
        )
    stated = metadata.get(safetensors_file.DIGEST)
    otherwise = ""
    if stated is None and need_digest:
        stated = values_digest.PUBLISHED  # the one model whose files lie about without
        otherwise = _WITHOUT_DIGEST.format(path=path)
    check = DigestCheck(arrays, stated, str(path), otherwise)
    counters = safetensors_file.counters_of(metadata, str(path))
    return Weights(
        {name: array for name, array in arrays.items() if part_of(name) in parts},
        config,
        {key: count for key, count in counters.items() if key.split(".")[0] in parts},
    ), check


def _with_torch_keys(path: Path, arrays: dict, parts: tuple[str, ...]) -> Weights:
    """A state_dict that was saved as safetensors, with PyTorch's own keys."""
    if any(name.startswith("params/") for name in arrays):
        raise CheckpointError(
            f"{path}: the model configuration is missing from its metadata (another program has "
            "written the file anew). Make such files with `litemedsam convert`."
        )
    from litemedsam_jax.weights.state_dict import to_weights

    return to_weights(arrays, parts, str(path))


def _is_torch(path: Path) -> bool:
    """Whether the file starts as PyTorch's checkpoints do (old ones without zip included)."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        missing = isinstance(error, FileNotFoundError)
        advice = f" `{COMMAND}` gets the published weights." if missing else ""
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}.{advice}") from error
    return start == b"PK\x03\x04" or start[:2] == b"\x80\x02"
