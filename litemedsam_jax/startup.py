"""What must be settled before anything else is imported."""

import gc
import os
import sys

_VARIABLE = "GLIBC_TUNABLES"


def with_huge_pages() -> None:
    """Starts this program again with huge pages for large arrays, unless the user has decided.

    The encoder's temporaries (300 MB) come fresh from the kernel for every image; in huge pages
    they fault 500 times less often, which takes 15 % off an image. A restart costs 15 ms.
    """
    if sys.platform != "linux" or _VARIABLE in os.environ:
        return
    os.environ[_VARIABLE] = "glibc.malloc.hugetlb=1"
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
