"""Compiled steps on disk (JAX's persistent cache): only the first run of a kind waits for XLA."""

from contextlib import suppress
from pathlib import Path

import jax

from litemedsam_jax.engine import program_store
from litemedsam_jax.engine.trusted_files import make_trusted_folder

LIMIT = 1 << 30  # bytes: steps that were compiled last stay
_LEAST_SECONDS = 5.0  # of compiling: the engine stores its own programs


def keep() -> Path | None:
    """Has JAX look for compiled programs in the user's cache folder, and store new ones there.

    A folder belongs to one kind of host, since programs for CPUs are compiled for the processor at
    hand. Where `JAX_COMPILATION_CACHE_DIR` names a folder, that one stays.

    Returns:
        The folder; None: another one is set, or it cannot be written or trusted.
    """
    if jax.config.values["jax_compilation_cache_dir"]:
        return None
    root = program_store.default_folder()
    folder = root / "training" / program_store.host()
    try:
        make_trusted_folder(folder, root)
        _remove_oldest(folder)
    except OSError:  # a container's folder, another's: compile as if there were none
        return None
    jax.config.update("jax_compilation_cache_dir", str(folder))
    jax.config.update("jax_persistent_cache_min_compile_time_secs", _LEAST_SECONDS)
    return folder


def _remove_oldest(folder: Path) -> None:
    files = [(path.stat().st_mtime, path.stat().st_size, path) for path in folder.iterdir()]
    total = 0
    for _, size, path in sorted(files, reverse=True):
        total += size
        if total > LIMIT:
            with suppress(OSError):  # another run's, which removes it as well
                path.unlink()
