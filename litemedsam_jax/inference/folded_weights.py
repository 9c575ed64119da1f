"""Folded weights on disk beside the programs, so that a fresh process maps them.

Folding takes a tenth of a second and new memory for half of the weights. A file's name is a digest
of the weights that were folded; the arrays in it lie where XLA takes them over without a copy.
"""

import hashlib
import json
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np

from litemedsam_jax.files import replacing
from litemedsam_jax.inference.program_store import ProgramError, ProgramStore, check_owner
from litemedsam_jax.weights import store as weight_store
from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.folding import fold

_ALIGNMENT = 64  # bytes
_KEPT = 4  # files of 40 MB; the ones read longest ago go
_CONTENT = "__content__"  # the checksum of what the file holds


def fold_once(
    variables: dict[str, np.ndarray], grid_size: int, store: ProgramStore
) -> dict[str, np.ndarray]:
    """`weights.folding.fold`, from disk if these weights were folded before, else kept there.

    What cannot be read, is damaged or may be written by others is folded anew; what cannot be
    kept is not.
    """
    path = store.folder / "folded" / f"{digest(variables)}.weights"
    with suppress(OSError, CheckpointError, ProgramError):
        return _read(path)
    folded = fold(variables, grid_size)
    with suppress(OSError):
        _write(path, folded)
        _prune(path.parent)
    return folded


def digest(variables: dict[str, np.ndarray]) -> str:
    """A digest of names, shapes and all values.

    Of the values it takes their CRC: it tells exchanged rows apart, as of two channels or tokens,
    and costs 10 ms for 40 MB where a cryptographic hash costs more than 25 of each start.
    """
    found = hashlib.sha256()
    for name in sorted(variables):
        array = np.ascontiguousarray(variables[name])
        found.update(f"{name} {array.dtype} {array.shape} {zlib.crc32(array.data)}\n".encode())
    return found.hexdigest()[:32]


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    """Tells a file that was damaged on the disk; sums of 64 columns an array, for speed."""
    found = hashlib.sha256()
    for name in sorted(arrays):
        words = np.ascontiguousarray(arrays[name]).reshape(-1).view(np.uint32)
        even = len(words) // 64 * 64
        found.update(f"{name} {arrays[name].shape}\n".encode())
        found.update(words[:even].reshape(-1, 64).sum(axis=0, dtype=np.uint32).tobytes())
        found.update(words[even:].tobytes())
    return found.hexdigest()[:32]


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    """As safetensors, but that arrays are aligned (that format allows no gaps)."""
    entries, size = {}, 0
    for name, array in arrays.items():
        end = size + array.nbytes
        entries[name] = {"dtype": "F32", "shape": array.shape, "data_offsets": (size, end)}
        size = -(-end // _ALIGNMENT) * _ALIGNMENT
    header = json.dumps({**entries, _CONTENT: _checksum(arrays)}).encode()
    header += b" " * (-(8 + len(header)) % _ALIGNMENT)
    with replacing(path) as beside:
        with beside.open("wb") as out:
            out.write(len(header).to_bytes(8, "little") + header)
            for array in arrays.values():
                out.write(np.ascontiguousarray(array).tobytes())
                out.write(b"\0" * (-out.tell() % _ALIGNMENT))
        beside.chmod(0o644)


def _read(path: Path) -> dict[str, np.ndarray]:
    check_owner(path)
    header, data = weight_store.open_mapped(path)
    content = header.pop(_CONTENT, None)
    try:
        arrays = {name: weight_store.array_at(entry, data) for name, entry in header.items()}
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path}: damaged.") from error
    if _checksum(arrays) != content:
        raise CheckpointError(f"{path}: damaged.")
    return arrays


def _prune(folder: Path) -> None:
    paths = sorted(folder.glob("*.weights"), key=lambda path: path.stat().st_atime)
    for path in paths[:-_KEPT]:
        path.unlink(missing_ok=True)
