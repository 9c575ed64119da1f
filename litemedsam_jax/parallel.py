"""One function over many items in processes: results as they come, none taking down the rest."""

import os
import signal
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, Generic, TypeVar

from litemedsam_jax.progress import ProgressDisplay

Item = TypeVar("Item")
Result = TypeVar("Result")

_INTERRUPTED = 130  # the exit status after Ctrl-C, by custom
_KILLED = (
    "not done: a worker process was killed (out of memory?); run again with a smaller -num_workers"
)
_POLL_SECONDS = 0.5


@dataclass(frozen=True)
class ItemOutcome(Generic[Item, Result]):
    """What became of one item: a result, or an error as a sentence."""

    item: Item
    result: Result | None
    error: str | None


def run_each(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    what: str = "cases",
    progress: ProgressDisplay | None = None,
) -> Iterator[ItemOutcome[Item, Result]]:
    """Yields an outcome per item, in order of completion, and shows how many are done.

    Args:
        function: Any exception of it becomes that item's error. See `outcomes`.
        items: What it is called with.
        workers: Processes; 1 works in this one.
        what: The items are, in the plural.
        progress: Where it is shown; by default on standard error.

    Yields:
        What became of each item.
    """
    items = list(items)
    with progress or ProgressDisplay(what) as shown:
        shown.begin(len(items))
        for outcome in outcomes(function, items, workers):
            shown.advance()
            yield outcome


def outcomes(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    *,
    fatal: tuple[type[Exception], ...] = (),
    on_wait: Callable[[], object] = lambda: None,
) -> Iterator[ItemOutcome[Item, Result]]:
    """Yields an outcome per item, in order of completion.

    A process that dies fails the items that it and its pool have not finished; Ctrl-C and `fatal`
    errors end all processes first.

    Args:
        function: Sent to each process once, so it must be importable or an importable object's
            method; what the object holds from one item to the next stays in its process.
        items: What it is called with; sent to the processes.
        workers: Processes; 1, or a single item, works in this one.
        fatal: Exceptions that every other item would meet too: raised. Any other one becomes the
            item's error.
        on_wait: Called about twice a second while other processes work.

    Yields:
        What became of each item.
    """
    items = list(items)
    attempt = partial(_attempt, function, fatal)
    if workers <= 1 or len(items) <= 1:
        yield from map(attempt, items)
        return
    yield from _in_processes(attempt, items, min(workers, len(items)), on_wait)


def _in_processes(
    attempt: Callable[[Any], ItemOutcome], items: list, workers: int, on_wait: Callable[[], object]
) -> Iterator[ItemOutcome]:
    from concurrent.futures import BrokenExecutor, Future, ProcessPoolExecutor
    from multiprocessing import get_context
    from queue import Empty, SimpleQueue

    finished: SimpleQueue[Future] = SimpleQueue()
    # Spawned, not forked: XLA's threads do not survive a fork.
    pool = ProcessPoolExecutor(workers, get_context("spawn"), _start, (attempt,))
    try:
        with _interrupts_held_back():  # by the processes too, until they can answer
            tasks = {pool.submit(_work, item): item for item in items}
        for task in tasks:
            task.add_done_callback(finished.put)
        left = len(tasks)
        while left:
            try:
                task = finished.get(timeout=_POLL_SECONDS)
            except Empty:
                on_wait()
                continue
            left -= 1
            try:
                yield task.result()
            except BrokenExecutor:
                yield ItemOutcome(tasks[task], None, _KILLED)
    finally:
        pool.shutdown(cancel_futures=True)


def _attempt(function, fatal: tuple[type[Exception], ...], item) -> ItemOutcome:
    try:
        return ItemOutcome(item, function(item), None)
    except fatal:
        raise
    except MemoryError:
        return ItemOutcome(item, None, "not enough memory for it; try a smaller -num_workers")
    except Exception as error:  # whatever a file provokes, the other files go on
        return ItemOutcome(item, None, _sentence(error))


def _sentence(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"needs the package {error.name}: pip install 'litemedsam-jax[tools]'"
    # Our own errors are ValueError and OSError with a message for people.
    if isinstance(error, ValueError | OSError):
        return str(error)
    return f"{type(error).__name__}: {error}"


@contextmanager
def _interrupts_held_back() -> Iterator[None]:
    if sys.platform == "win32":
        yield
        return
    before = signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGINT})
    try:
        yield
    finally:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)


# Of a worker process.
_worker_attempt: Callable[[Any], ItemOutcome]
_busy = False


def _start(attempt: Callable[[Any], ItemOutcome]) -> None:
    global _worker_attempt
    signal.signal(signal.SIGINT, _interrupt)
    sys.unraisablehook = _unraisable
    if sys.platform != "win32":
        signal.pthread_sigmask(signal.SIG_UNBLOCK, {signal.SIGINT})
    _worker_attempt = attempt


def _interrupt(*_: Any) -> None:
    """Ctrl-C reaches every process of a terminal. The first one reports it, these just end."""
    if _busy:
        raise KeyboardInterrupt  # so that no half file stays
    os._exit(_INTERRUPTED)


def _unraisable(unraisable: Any) -> None:
    """An interrupt that comes within a callback (JAX's of the garbage collector) counts too."""
    if unraisable.exc_type is KeyboardInterrupt:
        os._exit(_INTERRUPTED)
    sys.__unraisablehook__(unraisable)


def _work(item: Any) -> ItemOutcome:
    global _busy
    _busy = True
    try:
        return _worker_attempt(item)
    except KeyboardInterrupt:
        os._exit(_INTERRUPTED)  # at once: XLA's threads do not survive an orderly exit
    finally:
        _busy = False
