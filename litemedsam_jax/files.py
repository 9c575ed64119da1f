"""Writing files so that a killed run leaves either the whole file or none; names that print."""

import os
import re
import sys
import time
import zlib
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import cache
from pathlib import Path

# .MACHINE.PROCESS.tmp.NAME, hidden: what `replacing` is writing, or what a kill left of it.
_TEMPORARY = re.compile(r"\.([0-9a-f]{8})\.(\d+)\.tmp\.")
# A writer elsewhere cannot be asked for; one that has written nothing for so long is gone.
_STALE_SECONDS = 3600.0


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yields a name beside `path` to write to; moved onto `path` if all went well, else removed.

    The temporary name keeps the suffix, since many writers choose the format by it. The folder is
    created.

    Args:
        path: The file that appears whole, or not at all.

    Yields:
        The temporary name, in the same folder.

    Raises:
        OSError: It cannot be written; names the file.
    """
    target = Path(path)
    target.parent.mkdir(parents=True, exist_ok=True)
    # With the process's number: two runs may write the same file, on two hosts even.
    beside = target.with_name(f".{_machine()}.{os.getpid()}.tmp.{_shortened(target.name)}")
    try:
        yield beside
        beside.replace(target)
    except OSError as error:
        if error.filename is None:  # a full disk names no file
            error.filename = str(target)
        raise
    finally:
        # The first fault is the one reported; what cannot be removed now, a later run removes.
        with suppress(OSError):
            beside.unlink(missing_ok=True)


def one_line(text: str, longest: int | None = None) -> str:
    """Text that prints as one line on any terminal: file names may hold anything.

    Args:
        text: Any string, surrogates and control characters included.
        longest: Characters after which it is truncated.
    """
    text = "".join(c if c.isprintable() else repr(c)[1:-1] for c in text)
    return text if longest is None or len(text) <= longest else text[: longest - 3] + "..."


def _shortened(name: str) -> str:
    """A name that has room for more before it: file systems end at 255 bytes."""
    encoded = os.fsencode(name)
    return name if len(encoded) <= 200 else f"{zlib.crc32(encoded):08x}{name[-40:]}"


def remove_stale(folder: Path) -> int:
    """Removes what killed runs have left in `folder`, hidden half files; returns how many.

    Only files that `replacing` made, and none that may still be written: its process is gone, or,
    where that cannot be seen from here (another host or container), nothing was written to it for
    an hour. What cannot be looked at or removed stays.
    """
    removed = 0
    with suppress(OSError):
        for path in folder.iterdir():
            parts = _TEMPORARY.match(path.name)
            with suppress(OSError):
                if parts and _is_stale(path, parts[1], int(parts[2])):
                    path.unlink()
                    removed += 1
    return removed


def _is_stale(path: Path, machine: str, process: int) -> bool:
    if machine == _machine():
        return not _runs(process)
    return time.time() - path.lstat().st_mtime > _STALE_SECONDS


def _runs(process: int) -> bool:
    if sys.platform == "win32":  # there the question itself would end the process
        return True
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:  # another user's
        return True
    return True


@cache
def _machine() -> str:
    """Eight digits that differ wherever process numbers mean other processes.

    These are counted anew in each container and after each start of a machine.
    """
    parts = [os.uname().nodename if hasattr(os, "uname") else os.environ.get("COMPUTERNAME", "")]
    with suppress(OSError):  # Linux
        parts.append(Path("/proc/sys/kernel/random/boot_id").read_text(encoding="ascii"))
        parts.append(str(Path("/proc/self/ns/pid").readlink()))
    return f"{zlib.crc32(' '.join(parts).encode()):08x}"
