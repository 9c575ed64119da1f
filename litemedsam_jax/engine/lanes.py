"""Lanes: threads that run the encoder's tiles side by side, each on a core of its own.

A client of XLA's that has several cores cuts every loop and product for its threads and waits for
all of them a hundred times a tile. Tiles that are computed by one core each wait a few times an
image. Every lane has a client of its own, for clients of one thread share that thread.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import cache
from threading import local
from typing import Any

from litemedsam_jax.engine.executables import StoredExecutables


class Lanes:
    """As many threads as there are sets of executables; the first tasks begin first.

    The threads are shared by all models of a process.
    """

    def __init__(self, executables: Sequence[StoredExecutables]):
        """Starts no thread yet.

        Args:
            executables: of each lane.
        """
        self._executables = executables
        self._pool, self._thread = _threads(len(executables))

    @property
    def submit(self) -> Callable[..., Future[Any]] | None:
        """As an executor's; None: there is one lane, which is the thread that calls."""
        return self._pool.submit if len(self._executables) > 1 else None

    @property
    def number(self) -> int:
        """The lane of the thread that asks; 0 in threads of others."""
        return getattr(self._thread, "number", 0)

    @property
    def executables(self) -> StoredExecutables:
        """Those of the lane of the thread that asks."""
        return self._executables[self.number]

    def prefetch(self, *names: str) -> None:
        """See `StoredExecutables.prefetch`."""
        for name in names:
            for executables in self._executables:
                executables.prefetch(name)


@cache
def _threads(count: int) -> tuple[ThreadPoolExecutor, local]:
    """A pool whose threads know their number; each starts when it is needed."""
    thread, numbers = local(), iter(range(count))

    def initialise() -> None:
        thread.number = next(numbers)

    return ThreadPoolExecutor(count, "lane", initialise), thread
