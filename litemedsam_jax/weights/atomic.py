"""Writing weights so that a killed or failed run leaves no half of a file."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from litemedsam_jax import files
from litemedsam_jax.weights.errors import CheckpointError


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """`files.replacing`, whose failures are told as any other trouble with weights.

    Raises:
        CheckpointError: The file cannot be written.
    """
    try:
        with files.replacing(path) as beside:
            yield beside
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror or error}.") from error
