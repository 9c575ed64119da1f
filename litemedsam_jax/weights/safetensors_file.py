"""Safetensors files: the flat public layout, with the model configuration in the metadata.

Layout: 8 bytes of header length, JSON, the arrays (https://github.com/huggingface/safetensors), so
other tools can read the files. Reading is part of every timed start: it maps the file, copies
nothing, and imports neither jax nor flax.
"""

import json
import math
import mmap
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from litemedsam_jax.config import ModelConfig
from litemedsam_jax.weights import config_json
from litemedsam_jax.weights.errors import CheckpointError, replacing
from litemedsam_jax.weights.tree import bfloat16, flatten
from litemedsam_jax.weights.values_digest import values_digest

FORMAT = "litemedsam_jax"
DIGEST = "values_sha256"  # in the metadata: see weights.values_digest
_COUNTERS = "num_batches_tracked"  # torch's name of them, in the metadata
_DTYPES = {
    **{"F64": "<f8", "F32": "<f4", "F16": "<f2", "BOOL": "|b1"},
    **{"I64": "<i8", "I32": "<i4", "I16": "<i2", "I8": "|i1"},
    **{"U64": "<u8", "U32": "<u4", "U16": "<u2", "U8": "|u1"},
}
_KINDS = {np.dtype(dtype).str: kind for kind, dtype in _DTYPES.items()}
_ALIGNMENT = 64  # bytes
_MAX_HEADER = 16 << 20


def save(
    path: str | Path,
    variables: Mapping[str, Any],
    config: ModelConfig,
    counters: Mapping[str, int] | None = None,
    metadata: Mapping[str, str] | None = None,
) -> None:
    """Writes variables and their configuration; a failed or killed run leaves no half of a file.

    Args:
        path: The file, `.safetensors` by custom; its folder is created.
        variables: Name -> array, flat or nested.
        config: The architecture whose variables they are.
        counters: torch's `num_batches_tracked` (see `tree.Weights`).
        metadata: Further texts to keep, readable with `read_metadata`.

    Raises:
        CheckpointError: The file cannot be written.
    """
    flat = {name: np.asarray(value) for name, value in flatten(variables).items()}
    texts = {**(metadata or {}), "format": FORMAT, "config": config_json.to_json(config)}
    texts[DIGEST] = values_digest(flat)
    if counters:
        texts[_COUNTERS] = json.dumps(dict(counters))
    with replacing(Path(path)) as temporary:
        write(temporary, flat, texts)


def write(path: Path, arrays: Mapping[str, Any], metadata: Mapping[str, str]) -> None:
    """Writes a safetensors file whose arrays XLA can use where they lie.

    It wants them at multiples of 64 bytes, and would copy others, in time and memory of each start.
    The format allows no gaps, and the safetensors library sorts by name; so here the arrays of
    such a size come first. The few others (0.1 % of the bytes) are copied.
    """
    arrays = {name: np.ascontiguousarray(value) for name, value in arrays.items()}
    names = sorted(arrays, key=lambda name: (arrays[name].nbytes % _ALIGNMENT > 0, name))
    header: dict[str, Any] = {"__metadata__": dict(metadata)}
    end = 0
    for name in names:
        array, start = arrays[name], end
        end += array.nbytes
        kind = "BF16" if array.dtype.name == "bfloat16" else _KINDS[array.dtype.str]
        header[name] = {"dtype": kind, "shape": array.shape, "data_offsets": (start, end)}
    text = json.dumps(header).encode()
    text += b" " * (-(8 + len(text)) % _ALIGNMENT)
    with path.open("wb") as file:
        file.write(len(text).to_bytes(8, "little") + text)
        for name in names:
            file.write(arrays[name].tobytes())


def read(
    path: str | Path, file: BinaryIO | None = None
) -> tuple[dict[str, np.ndarray], dict[str, str]]:
    """Maps any safetensors file.

    Args:
        path: Names it in messages, and is opened where there is no `file`.
        file: The file, opened already; it may be closed afterwards.

    Returns:
        Name -> read-only array that lies in the mapped file; the metadata's texts.

    Raises:
        CheckpointError: The file is missing, truncated, damaged or not safetensors.
    """
    path = Path(path)
    header, data = _open_mapped(path) if file is None else _mapped(path, file)
    metadata = _metadata(path, header)
    arrays = {}
    for name, entry in header.items():
        try:
            arrays[name] = _array_at(entry, data)
        except (KeyError, TypeError, ValueError, OverflowError) as error:
            raise CheckpointError(
                f"{path}: truncated or damaged at {name}. Fetch or convert the file again."
            ) from error
    return arrays, metadata


def read_metadata(path: str | Path) -> dict[str, str]:
    """Reads the metadata's texts alone; in a file written by `save`, `format` and `config`.

    Raises:
        CheckpointError: As `read`.
    """
    path = Path(path)
    return _metadata(path, _open_mapped(path)[0])


def config_of(metadata: Mapping[str, str], source: str) -> ModelConfig:
    """Returns the configuration that `save` put into the metadata.

    Raises:
        CheckpointError: It is not a configuration; the message begins with `source`.
    """
    try:
        return config_json.from_json(metadata["config"])
    except ValueError as error:
        raise CheckpointError(f"{source}: its metadata holds {error}.") from error


def counters_of(metadata: Mapping[str, str], source: str) -> dict[str, int]:
    """Returns the counters that `save` put into the metadata; empty where there are none.

    Raises:
        CheckpointError: They are damaged; the message begins with `source`.
    """
    try:
        counters = json.loads(metadata.get(_COUNTERS, "{}"))
        return {str(key): int(count) for key, count in counters.items()}
    except (ValueError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise CheckpointError(f"{source}: damaged counters of batches in its metadata.") from error


def _open_mapped(path: Path) -> tuple[dict[str, Any], memoryview]:
    """The header and the bytes after it."""
    try:
        with path.open("rb") as file:
            return _mapped(path, file)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be read: {error.strerror}.") from error


def _mapped(path: Path, file: BinaryIO) -> tuple[dict[str, Any], memoryview]:
    if os.fstat(file.fileno()).st_size < 8:
        raise CheckpointError(f"{path}: an empty or truncated file, not safetensors.")
    buffer = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    length = int.from_bytes(buffer[:8], "little")
    if length > _MAX_HEADER or bytes(buffer[8:9]) != b"{":
        raise CheckpointError(
            f"{path}: neither safetensors nor a PyTorch checkpoint. Convert weights with "
            "`litemedsam convert`, or get the published ones with `litemedsam weights`."
        )
    try:
        header = json.loads(bytes(buffer[8 : 8 + length]))
    except (ValueError, RecursionError) as error:
        raise CheckpointError(f"{path}: truncated or damaged: {error}.") from error
    return header, buffer[8 + length :]


def _metadata(path: Path, header: dict[str, Any]) -> dict[str, str]:
    """Takes the metadata out of the header."""
    metadata = header.pop("__metadata__", {})
    if not isinstance(metadata, dict):
        raise CheckpointError(f"{path}: damaged: its metadata is not a dictionary of texts.")
    return metadata


def _array_at(entry: dict[str, Any], data: memoryview) -> np.ndarray:
    dtype = bfloat16() if entry["dtype"] == "BF16" else np.dtype(_DTYPES[entry["dtype"]])
    start, end = entry["data_offsets"]
    shape = entry["shape"]
    if not 0 <= start <= end <= len(data) or end - start != math.prod(shape) * dtype.itemsize:
        raise ValueError("wrong offsets")
    return np.frombuffer(data[start:end], dtype).reshape(shape)
