"""Folded weights on disk beside the programs, so that a fresh process maps them.

Folding takes a tenth of a second. A file's name is a digest of the weights that were folded; it
holds what folding changes, 16 of 40 MB.
"""

import hashlib
import zlib
from contextlib import suppress
from pathlib import Path

import numpy as np

from litemedsam_jax.engine.folding import fold, is_read
from litemedsam_jax.engine.program_store import ProgramError, ProgramStore, check_owner
from litemedsam_jax.files import replacing
from litemedsam_jax.weights import safetensors_file
from litemedsam_jax.weights.errors import CheckpointError

_KEPT = 4  # files of 16 MB; the ones read longest ago go
_CONTENT = "content"  # the checksum of what the file holds


def fold_once(
    variables: dict[str, np.ndarray], grid_size: int, store: ProgramStore
) -> dict[str, np.ndarray]:
    """`engine.folding.fold`, from disk if these weights were folded before, else kept there.

    What cannot be read, is damaged or may be written by others is folded anew; what cannot be
    kept is not.
    """
    read = {name: array for name, array in variables.items() if is_read(name)}
    untouched = {name: array for name, array in variables.items() if name not in read}
    path = store.folder / "folded" / f"{digest(read)}.safetensors"
    with suppress(OSError, CheckpointError, ProgramError):
        return untouched | _read(path)
    folded = fold(read, grid_size)
    with suppress(OSError):
        _write(path, folded)
        _prune(path.parent)
    return untouched | folded


def digest(variables: dict[str, np.ndarray]) -> str:
    """A digest of names, shapes and all values.

    Of the values it takes their CRC: it tells exchanged rows apart, as of two channels or tokens,
    and costs a third of what a cryptographic hash would.
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
    with replacing(path) as beside:
        safetensors_file.write(beside, arrays, {_CONTENT: _checksum(arrays)})
        beside.chmod(0o644)


def _read(path: Path) -> dict[str, np.ndarray]:
    check_owner(path)
    arrays, metadata = safetensors_file.read(path)
    if _checksum(arrays) != metadata.get(_CONTENT):
        raise CheckpointError(f"{path}: damaged.")
    return arrays


def _prune(folder: Path) -> None:
    paths = sorted(folder.glob("*.safetensors"), key=lambda path: path.stat().st_atime)
    for path in paths[:-_KEPT]:
        path.unlink(missing_ok=True)
