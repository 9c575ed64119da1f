"""Files of the user's cache that are run or trusted: only the user (or root) may write to them.

What is checked is what is read: the folder and the file are opened once, and asked about through
their descriptors. On Windows, which keeps a user's folders to the user, nothing is checked.
"""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO


class UntrustedError(PermissionError):
    """Others may write to a file or its folder; `filename` and `strerror` say so."""


@contextmanager
def open_trusted(path: Path) -> Iterator[BinaryIO]:
    """Opens a file that nobody but the user (or root) may write to or replace.

    Args:
        path: The file.

    Yields:
        The open file.

    Raises:
        UntrustedError: Others may write to it or to its folder.
        OSError: It cannot be opened.
    """
    if sys.platform == "win32":
        with path.open("rb") as file:
            yield file
        return
    folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY)
    try:
        _check(path.parent, os.fstat(folder))
        descriptor = os.open(path.name, os.O_RDONLY | os.O_NONBLOCK, dir_fd=folder)
    finally:
        os.close(folder)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(file.fileno())
        _check(path, status)
        if not stat.S_ISREG(status.st_mode):
            raise UntrustedError(1, "is not a file, so it is not used", str(path))
        yield file


def make_trusted_folder(folder: Path, parent: Path) -> None:
    """Makes a folder that `open_trusted` reads from, whatever the umask is.

    Args:
        folder: What to make, with all folders above it.
        parent: Of these, the one above which modes stay as the umask makes them.

    Raises:
        UntrustedError: It is there, and others may write to it: nothing in it would be read.
        OSError: It cannot be made.
    """
    if not folder.exists():
        missing = [path for path in (folder, *folder.parents) if not path.exists()]
        folder.mkdir(parents=True, exist_ok=True)
        for made in missing:
            if made == parent or parent in made.parents:
                made.chmod(0o755)
    if sys.platform != "win32":
        _check(folder, folder.stat())


def _check(path: Path, status: os.stat_result) -> None:
    if sys.platform == "win32":
        return
    if status.st_uid not in (os.getuid(), 0) or status.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        raise UntrustedError(
            1, "may be written by others, so it is not used (chmod go-w helps if it is yours)",
            str(path),
        )  # fmt: skip
