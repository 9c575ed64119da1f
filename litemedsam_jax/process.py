"""What a command needs of its process: declared by the command (in cli.py), applied here.

Imports little, for a process that starts again has imported it twice.
"""

import gc
import os
import signal
import sys
from contextlib import suppress
from typing import NamedTuple, NoReturn

_VARIABLE = "GLIBC_TUNABLES"
# Large arrays come fresh from the kernel; in huge pages they fault 500 times less often, which
# takes 15 % off an image. One arena: XLA's threads would otherwise keep memory apart, and of small
# pages. predict.sh sets the same.
HUGE_PAGES = "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1"
# A training step's temporaries are one block of gigabytes: from the kernel each time, so that it
# leaves no gaps; all else is kept.
TRAINING_PAGES = (
    f"{HUGE_PAGES}:glibc.malloc.mmap_threshold={1 << 30}:glibc.malloc.trim_threshold={1 << 40}"
)
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_KEPT = 256 << 20  # bytes; larger arrays still go back


class Terminated(BaseException):
    """SIGTERM: a scheduler or `docker stop` wants the process to end."""


class ProcessNeeds(NamedTuple):
    """What a command needs of the process that runs nothing else.

    Attributes:
        tunables: glibc's, for which the program is started once more (15 ms), unless the user has
            set GLIBC_TUNABLES; None: as it is.
        quick_start: whether to spare what only a long process gains by.
        stops_on_sigterm: whether SIGTERM ends it as Ctrl-C does, with a line and no half file. As
            process 1 of a container it would not be heard otherwise.
        ends_at_once: whether to leave without taking down Python and XLA (40 ms), whose threads
            may still be at work.
        after_stop: what a user who stopped it should know.
    """

    tunables: str | None = None
    quick_start: bool = False
    stops_on_sigterm: bool = False
    ends_at_once: bool = False
    after_stop: str = ""


def apply(needs: ProcessNeeds) -> None:
    """Prepares this process for a command; may start the program once more."""
    # NumPy's OpenBLAS would start a thread a core, which all wait by spinning after each product;
    # those that are worth it XLA makes.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    if needs.tunables:
        _restart_with(needs.tunables)
    if needs.quick_start:
        _start_quickly()
    if needs.stops_on_sigterm:
        signal.signal(signal.SIGTERM, _raise_terminated)


def end(needs: ProcessNeeds, status: int) -> NoReturn:
    """Ends this process with an exit status, all output written."""
    sys.stderr.flush()
    if needs.ends_at_once:
        os._exit(status)
    sys.exit(status)


def _raise_terminated(*_: object) -> NoReturn:
    raise Terminated


def _restart_with(tunables: str) -> None:
    if sys.platform != "linux" or _VARIABLE in os.environ:
        return
    os.environ[_VARIABLE] = tunables
    # A sandbox may refuse exec: the process is then slower, but right.
    with suppress(OSError):
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])


def _start_quickly() -> None:
    """Saves the search for garbage, eighty times during imports without a find (20 ms)."""
    gc.set_threshold(50_000)


def keep_memory() -> None:
    """Lets the process keep the memory of temporaries that come again, on Linux with glibc.

    Otherwise each image's temporaries go back to the kernel and come again emptied, which takes
    5-15 % of an image's time, and in some virtual machines half of it. A process with a single
    image does better without: it would hold 200 MB more.
    """
    if sys.platform != "linux":
        return
    import ctypes

    with suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _KEPT)
        libc.mallopt(_TRIM_THRESHOLD, 2 * _KEPT)


def release_memory() -> None:
    """Gives the kernel what was freed and kept, on Linux with glibc: compiling takes gigabytes."""
    if sys.platform != "linux":
        return
    import ctypes

    with suppress(OSError, AttributeError):  # another C library
        ctypes.CDLL(None).malloc_trim(0)


_left: list[object] = []


def leave_to_the_end(thing: object) -> None:
    """Keeps the last such object until the process ends, which frees it faster than Python does.

    For a model, 25 ms of a cold start.
    """
    _left[:] = [thing]
