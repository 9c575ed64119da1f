"""The one exception for weights that cannot be read or written."""

import contextlib
from collections.abc import Iterator
from pathlib import Path

from litemedsam_jax import files

# Keys come from the file: hostile ones neither reach the terminal as they are nor flood it.
_LONGEST_LINE, _MOST_LINES = 1000, 2000


class CheckpointError(ValueError):
    """A weights file that cannot be used: the message names the file, the fault and the remedy."""

    def __init__(self, message: str):
        """Makes the message printable: one or several lines, none without end."""
        lines = message.split("\n")[:_MOST_LINES]
        super().__init__("\n".join(files.one_line(line, _LONGEST_LINE) for line in lines))


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Like `files.replacing`, with its failures as `CheckpointError`.

    Args:
        path: The file to write; its folder is created.

    Yields:
        A temporary name beside it, moved onto `path` if all went well, else removed.

    Raises:
        CheckpointError: The file cannot be written.
    """
    try:
        with files.replacing(path) as beside:
            yield beside
    except OSError as error:
        raise CheckpointError(f"{path}: cannot be written: {error.strerror or error}.") from error
