"""The journal of a case: every step on disk as soon as it is done, so that a kill loses nothing."""

import json
import os
import sys
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any, BinaryIO

from litemedsam_jax.files import replacing

FORMAT = 1


class Journal:
    """A file of one JSON object a line; the first line says of which image it is."""

    def __init__(self, path: Path, identity: Mapping[str, Any], write: bool = True):
        """Opens the journal or begins one.

        Args:
            path: The file; its folder is created.
            identity: Of the image (shape, checksum), as JSON holds it.
            write: Whether anything will be appended; otherwise nothing on disk is touched.

        Raises:
            ValueError: The file belongs to another image, or is no journal.
            OSError: It cannot be read or written.
        """
        self.path = path
        self._header = {"litemedsam_annotation": FORMAT, **identity}
        self.records: list[dict[str, Any]] = []
        self._file: BinaryIO | None = None
        intact = self._read() if path.exists() else 0
        if not write:
            return
        if not intact:
            with replacing(path) as beside:
                beside.write_bytes(_line(self._header))
            intact = path.stat().st_size
        self._file = path.open("r+b", buffering=0)
        if not lock(self._file):
            self._file.close()
            raise ValueError(
                f"{path}: another `litemedsam annotate` works on this image; close it first"
            )
        # A line that was cut short was never confirmed to anyone.
        self._file.truncate(intact)
        self._file.seek(intact)

    def append(self, record: Mapping[str, Any]) -> None:
        """Writes a record and waits until it is on disk; raises OSError."""
        if self._file is None:
            return
        end = self._file.tell()
        try:
            data = memoryview(_line(record))
            while data:  # unbuffered: a write may take a part only
                data = data[self._file.write(data) :]
            os.fsync(self._file.fileno())
        except OSError:  # a full disk: no half line may stay before later ones
            with suppress(OSError):
                self._file.truncate(end)
                self._file.seek(end)
            raise

    def close(self) -> None:
        """Closes the file, and with it gives up the lock."""
        if self._file is not None:
            self._file.close()

    def _read(self) -> int:
        """Reads the records; returns how many bytes of the file are whole lines."""
        data = self.path.read_bytes()
        intact = data.rfind(b"\n") + 1
        if not intact:
            return 0  # killed while the first line was written
        try:
            header, *self.records = (json.loads(line) for line in data[:intact].splitlines())
        except (ValueError, RecursionError):
            raise ValueError(f"{self.path}: is no journal that can be read; move it away") from None
        if header != self._header:
            raise ValueError(
                f"{self.path}: was written for another image of this name (its size or values "
                "differ); move the journal away, or choose another --output"
            )
        return intact


def lock(file: BinaryIO) -> bool:
    """Locks a file for this process; the system gives it up when the process ends, however."""
    try:
        if sys.platform == "win32":
            import msvcrt

            file.seek(1 << 62)  # a byte that nobody reads: locks are mandatory there
            msvcrt.locking(file.fileno(), msvcrt.LK_NBLCK, 1)
        else:
            import fcntl

            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _line(record: Mapping[str, Any]) -> bytes:
    return json.dumps(record, separators=(",", ":")).encode() + b"\n"
