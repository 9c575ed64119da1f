"""How many cores this process may use, and what is done at a time on so many.

Counted are the cores of the process's affinity (taskset, SLURM), bounded by the time that a cgroup
grants (`docker run --cpus`, Kubernetes) and by `limit` (`--threads`). XLA by itself knows the
affinity alone.
"""

import math
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from threading import RLock

THREADS = "PJRT_NPROC"  # XLA's own name; processes started from here have it too
_CGROUP = Path("/sys/fs/cgroup")

_MOST_LANES, _MOST_SLICES = 8, 8
_MANY = 4  # on fewer cores, lanes are busy with one slice, and a second takes 200 MB
_environment = RLock()


def limit(count: int) -> None:
    """Bounds `available`, here and in processes started from here, before a model is loaded."""
    with _environment:
        os.environ[THREADS] = str(count)


def available(cgroup: Path = _CGROUP) -> int:
    """The cores to use, at least 1.

    Args:
        cgroup: the folder in which the system shows this process's cgroup.
    """
    affinity = getattr(os, "sched_getaffinity", None)
    counts = [len(affinity(0)) if affinity else os.cpu_count() or 1]
    if quota := _quota(cgroup):
        counts.append(math.ceil(quota))
    with _environment, suppress(ValueError):
        counts.append(int(os.environ.get(THREADS, "")))
    return max(1, min(counts))


def _quota(cgroup: Path) -> float | None:
    """The cores' worth of time that a cgroup grants; None: no bound is known."""
    with suppress(OSError, ValueError):
        quota, period = (cgroup / "cpu.max").read_text(encoding="ascii").split()
        return int(quota) / int(period)
    with suppress(OSError, ValueError):  # version 1
        names = ("cfs_quota_us", "cfs_period_us")
        files = [cgroup / "cpu" / f"cpu.{name}" for name in names]
        quota_us, period_us = (int(file.read_text(encoding="ascii")) for file in files)
        return quota_us / period_us if quota_us > 0 else None
    return None


def give_to_xla() -> None:
    """Has XLA's clients start as many threads; to be called before they start."""
    limit(available())


@contextmanager
def one_thread() -> Iterator[None]:
    """Within it, a client of XLA's starts a single thread."""
    with _environment:
        before = os.environ.get(THREADS)
        os.environ[THREADS] = "1"
        try:
            yield
        finally:
            if before is None:
                del os.environ[THREADS]
            else:
                os.environ[THREADS] = before


def lanes() -> int:
    """Row tiles that an encoder runs side by side (docs/speed.md, Lanes)."""
    return min(available(), _MOST_LANES)


def slices_ahead() -> int:
    """Slices of a volume that are encoded while the one before is decoded."""
    count = available()
    return min(count // 2, _MOST_SLICES) if count >= _MANY else 0
