"""Weights on disk: one flat safetensors file, the model configuration in its metadata.

Names are paths of variables, `params/image_encoder/patch_embed/seq_0/c/kernel`; the layout is the
public one (https://github.com/huggingface/safetensors), so other tools can read the files.
Reading is part of every timed start, so it maps the file and copies nothing, and imports neither
jax nor flax.
"""

import json
import math
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from litemedsam_jax.config import ModelConfig
from litemedsam_jax.weights import config_json
from litemedsam_jax.weights.atomic import replacing
from litemedsam_jax.weights.errors import CheckpointError

FORMAT = "litemedsam_jax"
_DTYPES = {"F64": "<f8", "F32": "<f4", "F16": "<f2", "I64": "<i8", "I32": "<i4", "U8": "|u1"}
_KINDS = {np.dtype(dtype).str: kind for kind, dtype in _DTYPES.items()}
_ALIGNMENT = 64  # bytes
_MAX_HEADER = 16 << 20


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turns a tree of nested mappings into one flat dictionary, names joined by `/`."""
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}/"))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """The inverse of `flatten`: the nested dictionaries that Flax's `apply` takes."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, leaf = path.split("/")
        node = tree
        for name in parents:
            node = node.setdefault(name, {})
        node[leaf] = value
    return tree


def save(
    path: str | Path,
    variables: Mapping[str, Any],
    config: ModelConfig,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes variables (flat or nested) beside `path`, then renames: no half file is left.

    Args:
        path: The file, `.safetensors` by custom; its folder is made.
        variables: Name -> array.
        config: What they are the variables of.
        metadata: Further texts to keep, readable with `read_metadata`.

    Raises:
        CheckpointError: The file cannot be written.
    """
    texts = {**(metadata or {}), "format": FORMAT, "config": config_json.to_json(config)}
    with replacing(Path(path)) as temporary:
        write(temporary, flatten(variables), texts)


def write(path: Path, variables: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file whose arrays XLA can use where they lie.

    It wants them at multiples of 64 bytes, and would copy others, in time and memory of each start.
    The format allows no gaps, and the safetensors library sorts by name; so here the arrays of
    such a size come first. The few others (0.1 % of the bytes) are copied.
    """
    arrays = {name: np.ascontiguousarray(value) for name, value in variables.items()}
    names = sorted(arrays, key=lambda name: (arrays[name].nbytes % _ALIGNMENT > 0, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in names:
        array, start = arrays[name], end
        end += array.nbytes
        kind = _KINDS[array.dtype.str]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": (start, end)}
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            file.write(arrays[name].tobytes())


def load(path: str | Path) -> tuple[dict[str, np.ndarray], ModelConfig]:
    """Reads a file written by `save`.

    Returns:
        Name -> read-only array lying in the mapped file, and the model's configuration.

    Raises:
        CheckpointError: The file is missing, truncated, not safetensors, or not written here.
    """
    path = Path(path)
    header, data = open_mapped(path)
    metadata = _metadata(path, header)
    try:
        config = config_json.from_json(metadata["config"])
    except ValueError as error:
        raise CheckpointError(f"{path}: its metadata holds {error}.") from error
    arrays = {}
    for name, entry in header.items():
        try:
            arrays[name] = array_at(entry, data)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(
                f"{path}: truncated or damaged at {name}. Fetch or convert the file again."
            ) from error
    return arrays, config


def read_metadata(path: str | Path) -> dict[str, str]:
    """The texts kept beside the variables (`format` and `config` are always there).

    Raises:
        CheckpointError: As `load`.
    """
    path = Path(path)
    return _metadata(path, open_mapped(path)[0])


def load_any(
    path: str | Path, expected: str | None = None
) -> tuple[dict[str, np.ndarray], ModelConfig]:
    """Reads a whole model, be it safetensors or a PyTorch checkpoint (converted in memory).

    Args:
        path: The file; its content tells its kind, not its name.
        expected: The architecture that is wanted, such as "lite_medsam"; None: any.

    Returns:
        As `load`.

    Raises:
        CheckpointError: As `load`; or the file holds another architecture, or only a part of it.
    """
    path = Path(path)
    if is_zip(path):
        from litemedsam_jax.weights import torch_checkpoint

        converted = torch_checkpoint.read(path)
        variables, config = converted.variables, converted.config
    else:
        variables, config = load(path)
    if expected is not None and config.name != expected:
        raise CheckpointError(f"{path}: the weights of {config.name}; {expected} was expected.")
    parts = {name.split("/")[1] for name in variables}
    if parts == {"image_encoder"}:
        raise CheckpointError(
            f"{path}: an image encoder alone, without prompt encoder and mask decoder. Join them "
            "with: convert_weights.py --encoder ENCODER --decoder-from FULL_MODEL OUT.safetensors"
        )
    return variables, config


def is_zip(path: Path) -> bool:
    """Whether the file starts as PyTorch's checkpoints do (old ones without zip included)."""
    try:
        with path.open("rb") as file:
            start = file.read(4)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}.") from error
    return start == b"PK\x03\x04" or start[:2] == b"\x80\x02"


def open_mapped(path: Path) -> tuple[dict[str, Any], memoryview]:
    """The header and the bytes after it: 8 bytes of header length, JSON, then the arrays."""
    try:
        with path.open("rb") as file:
            if os.fstat(file.fileno()).st_size < 8:
                raise CheckpointError(f"{path}: an empty or truncated file, not safetensors.")
            buffer = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}.") from error
    length = int.from_bytes(buffer[:8], "little")
    if length > _MAX_HEADER or bytes(buffer[8:9]) != b"{":
        raise CheckpointError(
            f"{path}: neither safetensors nor a PyTorch checkpoint. Convert weights with "
            "convert_weights.py, or fetch the published ones with `make weights`."
        )
    try:
        header = json.loads(bytes(buffer[8 : 8 + length]))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: truncated or damaged: {error}.") from error
    return header, buffer[8 + length :]


def _metadata(path: Path, header: dict[str, Any]) -> dict[str, str]:
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict) or not {"format", "config"} <= metadata.keys():
        raise CheckpointError(
            f"{path}: safetensors, but not written by litemedsam_jax: the model configuration is "
            "missing from its metadata. Make such files with convert_weights.py."
        )
    return metadata


def array_at(entry: dict[str, Any], data: memoryview) -> np.ndarray:
    dtype = np.dtype(_DTYPES[entry["dtype"]])
    start, end = entry["data_offsets"]
    shape = entry["shape"]
    if not 0 <= start <= end <= len(data) or end - start != math.prod(shape) * dtype.itemsize:
        raise ValueError("wrong offsets")
    return np.frombuffer(data[start:end], dtype).reshape(shape)
