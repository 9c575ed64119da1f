"""Lanes: threads that run the encoder's tiles, or decode boxes, side by side, a core for each.

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

    def __init__(self, executables: Sequence[StoredExecutables], name: str):
        """Starts no thread yet.

        Args:
            executables: of each lane.
            name: of the threads: tasks of another name do not wait for these.
        """
        self._executables, self._name = executables, name
        self._pool, self._thread = _threads(len(executables), name)

    @property
    def submit(self) -> Callable[..., Future[Any]]:
        """As an executor's; the thread that calls is the lane where there is only one."""
        return self._pool.submit if len(self._executables) > 1 else call_now

    @property
    def number(self) -> int:
        """The lane of the thread that asks; 0 in threads of others."""
        return getattr(self._thread, "number", 0)

    @property
    def executables(self) -> StoredExecutables:
        """Those of the lane of the thread that asks."""
        return self._executables[self.number]

    def for_other_weights(self) -> "Lanes":
        """The same threads; see `StoredExecutables.for_other_weights`."""
        return Lanes([one.for_other_weights() for one in self._executables], self._name)

    def prefetch(self, *names: str) -> None:
        """See `StoredExecutables.prefetch`."""
        for name in names:
            for executables in self._executables:
                executables.prefetch(name)


def call_now(function: Callable[..., Any], *arguments: Any) -> Future[Any]:
    """Calls a function as an executor's `submit` does, but in this thread."""
    done: Future[Any] = Future()
    done.set_result(function(*arguments))
    return done


@cache
def _threads(count: int, name: str) -> tuple[ThreadPoolExecutor, local]:
    """A pool whose threads know their number; each starts when it is needed."""
    thread, numbers = local(), iter(range(count))

    def initialise() -> None:
        thread.number = next(numbers)

    return ThreadPoolExecutor(count, name, initialise), thread
