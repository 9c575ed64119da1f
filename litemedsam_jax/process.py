"""What must be settled before anything else is imported."""

import gc
import os
import sys
from contextlib import suppress

_VARIABLE = "GLIBC_TUNABLES"
# One arena: XLA's threads would else keep memory apart, and of small pages.
TUNABLES = "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1"  # predict.sh sets the same
# A training step's temporaries are one block of gigabytes: from the kernel each time, so that it
# leaves no gaps; all else is kept.
TRAINING = f"{TUNABLES}:glibc.malloc.mmap_threshold={1 << 30}:glibc.malloc.trim_threshold={1 << 40}"
_TRIM_THRESHOLD, _MMAP_THRESHOLD = -1, -3  # of malloc.h
_KEPT = 256 << 20  # bytes; larger arrays still go back


def with_huge_pages(tunables: str = TUNABLES) -> None:
    """Starts this program again with huge pages for large arrays, unless the user has decided.

    Temporaries come fresh from the kernel; in huge pages they fault 500 times less often, which
    takes 15 % off an image. A restart costs 15 ms.
    """
    if sys.platform != "linux" or _VARIABLE in os.environ:
        return
    os.environ[_VARIABLE] = tunables
    try:
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
    except OSError:  # a sandbox without exec: slower, but right
        return


def lightly() -> None:
    """Spares a short process what only a long one gains by.

    Python looks for garbage eighty times while modules are imported, in vain (20 ms), and NumPy's
    OpenBLAS would start a thread a core, for products that XLA makes here.
    """
    gc.set_threshold(50_000)
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")


def keep_memory() -> None:
    """Lets the process keep the memory of temporaries that come again, on Linux with glibc.

    Otherwise each image's temporaries go back to the kernel and come again emptied, which takes
    5-15 % of an image's time, and in some virtual machines half of it. A process with a single
    image does better without: it would hold 200 MB more.
    """
    if not sys.platform.startswith("linux"):
        return
    import ctypes

    with suppress(OSError, AttributeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(_MMAP_THRESHOLD, _KEPT)
        libc.mallopt(_TRIM_THRESHOLD, 2 * _KEPT)
