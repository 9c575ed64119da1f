"""Writing files so that a killed run leaves either the whole file or none."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a name beside `path` to write to; moved onto `path` if all went well, else removed.

    The temporary name keeps the suffix, since many writers choose the format by it. The folder is
    created.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # Hidden, and with the process's number: two runs may write the same file.
    beside = target.with_name(f".{os.getpid()}.tmp.{target.name}")
    try:
        yield beside
        beside.replace(target)
    except OSError as error:
        if error.filename is None:  # a full disk names no file
            error.filename = str(target)
        raise
    finally:
        beside.unlink(missing_ok=True)
