"""Folded weights on disk beside the executables, so that a fresh process maps them.

Folding takes a tenth of a second. A file's name is the SHA-256 of all weights that were folded; it
holds what folding changes, 16 of 40 MB.
"""

import hashlib
from contextlib import suppress
from pathlib import Path

import numpy as np

from litemedsam_jax.engine.folding import fold, is_read
from litemedsam_jax.engine.precision import BFLOAT16, FLOAT32
from litemedsam_jax.engine.program_store import ProgramStore
from litemedsam_jax.engine.rounding import is_changed, round_weights
from litemedsam_jax.engine.trusted_files import open_trusted
from litemedsam_jax.files import replacing
from litemedsam_jax.weights import safetensors_file
from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.values_digest import DigestCheck

KEPT = 4  # files of 16 MB; the ones read longest ago go
_FOLDER = "folded"
_CONTENT = "content"  # the checksum of what the file holds


def fold_once(
    variables: dict[str, np.ndarray],
    grid_size: int,
    store: ProgramStore,
    check: DigestCheck | None = None,
    precision: str = FLOAT32,
) -> dict[str, np.ndarray]:
    """`engine.folding.fold`, from disk if these weights were folded before, else kept there.

    What cannot be read, is damaged or may be written by others is folded anew; what cannot be
    kept is not. A file is looked for by the digest that is stated, which spares the wait for the
    true one; so call `check` before what the folded variables give is used. Nothing is kept
    unchecked.

    Args:
        variables: Flat, not folded.
        grid_size: Side of the embedding.
        store: In whose folder they are kept.
        check: Of the variables; None: they have just any digest.
        precision: "float32", or "bfloat16": as `rounding.round_weights` has them.

    Returns:
        The folded variables.

    Raises:
        CheckpointError: As `check` does, where it was called.
    """
    check = check or DigestCheck(variables, None, "the weights")
    low = precision == BFLOAT16
    read = {
        name: array
        for name, array in variables.items()
        if is_read(name) or (low and is_changed(name, array.shape))
    }
    untouched = {name: array for name, array in variables.items() if name not in read}
    folder = store.folder / _FOLDER
    suffix = f"_{BFLOAT16}.safetensors" if low else ".safetensors"
    with suppress(OSError, CheckpointError):
        return untouched | _read(folder / f"{check.stated or check()}{suffix}")
    name = f"{check()}{suffix}"
    folded = fold(read, grid_size)
    if low:
        folded = round_weights(folded)
    with suppress(OSError):
        _write(store.make_folder(_FOLDER) / name, folded)
        _prune(folder)
    return untouched | folded


def _checksum(arrays: dict[str, np.ndarray]) -> str:
    """Tells a file that was damaged on the disk; sums of 64 columns an array, for speed."""
    digest = hashlib.sha256()
    for name in sorted(arrays):
        array = np.ascontiguousarray(arrays[name]).reshape(-1)
        words = array.view(np.uint16 if array.itemsize == 2 else np.uint32)
        even = len(words) // 64 * 64
        digest.update(f"{name} {arrays[name].shape}\n".encode())
        digest.update(words[:even].reshape(-1, 64).sum(axis=0, dtype=np.uint32).tobytes())
        digest.update(words[even:].tobytes())
    return digest.hexdigest()[:32]


def _write(path: Path, arrays: dict[str, np.ndarray]) -> None:
    with replacing(path) as beside:
        safetensors_file.write(beside, arrays, {_CONTENT: _checksum(arrays)})
        beside.chmod(0o644)


def _read(path: Path) -> dict[str, np.ndarray]:
    with open_trusted(path) as file:
        arrays, metadata = safetensors_file.read(path, file)
    if _checksum(arrays) != metadata.get(_CONTENT):
        raise CheckpointError(f"{path}: damaged.")
    return arrays


def _prune(folder: Path) -> None:
    paths = sorted(folder.glob("*.safetensors"), key=lambda path: path.stat().st_atime)
    for path in paths[:-KEPT]:
        path.unlink(missing_ok=True)
