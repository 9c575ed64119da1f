"""Writing a file so that a killed or failed run leaves no half of it."""

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path

from litemedsam_jax.weights.errors import CheckpointError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Gives a name beside `path` to write to, and renames it to `path` at the end.

    The folder is made. On an error the file beside is removed, and `path` stays as it was.

    Raises:
        CheckpointError: The file cannot be written.
    """
    temporary = path.with_name(f".{path.name}.{os.getpid()}.tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        yield temporary
        temporary.replace(path)
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror or error}.") from error
    finally:
        with contextlib.suppress(OSError):
            temporary.unlink()
