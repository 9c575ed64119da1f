"""One function over many items in processes: results as they come, none taking down the rest."""

import multiprocessing
import sys
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Executor, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from typing import Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


class Outcome(Generic[Item, Result]):
    """What became of one item: a result, or an error as a sentence."""

    def __init__(self, item: Item, result: Result | None, error: str | None):
        self.item, self.result, self.error = item, result, error


def run_each(
    function: Callable[[Item], Result],
    items: Iterable[Item],
    workers: int,
    what: str = "cases",
) -> Iterator[Outcome[Item, Result]]:
    """Yields an outcome per item, in order of completion, with a progress bar on stderr.

    workers: processes (spawned, so `function` must be importable); 1 works in this one. Any
    exception of `function` becomes that item's error.
    """
    from tqdm import tqdm

    items = list(items)
    outcomes = (
        (_attempt(function, item) for item in items)
        if workers <= 1 or len(items) <= 1
        else _in_processes(function, items, min(workers, len(items)))
    )
    # A bar in a log file is noise: only its last state is of use there.
    interval = 0.1 if sys.stderr.isatty() else float("inf")
    yield from tqdm(outcomes, total=len(items), unit=f" {what}", mininterval=interval)


def _in_processes(function, items, workers: int) -> Iterator[Outcome]:
    context = multiprocessing.get_context("spawn")
    with ProcessPoolExecutor(workers, mp_context=context) as pool:
        yield from _collect(pool, function, items)


def _collect(pool: Executor, function, items) -> Iterator[Outcome]:
    tasks = {pool.submit(_attempt, function, item): item for item in items}
    for task in as_completed(tasks):
        try:
            yield task.result()
        except BrokenProcessPool:
            reason = (
                "not done, a worker process was killed (out of memory?); try a smaller -num_workers"
            )
            yield Outcome(tasks[task], None, reason)


def _attempt(function, item) -> Outcome:
    try:
        return Outcome(item, function(item), None)
    except MemoryError:
        return Outcome(item, None, "not enough memory for it; try a smaller -num_workers")
    except Exception as error:  # whatever a file provokes, the other files go on
        return Outcome(item, None, _sentence(error))


def _sentence(error: Exception) -> str:
    if isinstance(error, ModuleNotFoundError):
        return f"needs the package {error.name}: pip install 'litemedsam-jax[tools]'"
    # Our own errors are ValueError and OSError with a message for people.
    if isinstance(error, ValueError | OSError):
        return str(error)
    return f"{type(error).__name__}: {error}"
