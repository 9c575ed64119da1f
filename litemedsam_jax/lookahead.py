"""Results in order, of which the next ones are already worked on by threads."""

from collections import deque
from collections.abc import Callable, Generator, Iterable
from concurrent.futures import Future, ThreadPoolExecutor
from typing import TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")


def ahead(
    function: Callable[[Item], Result], items: Iterable[Item], count: int
) -> Generator[Result, None, None]:
    """Yields function(item) of every item, in order.

    Args:
        function: Threads call it, several at a time.
        items: Taken when their turn comes.
        count: How many items are worked on beyond the one that is waited for or in use; 0: none,
            and no thread is started.

    Yields:
        The results; an exception is raised when its item's turn comes. Close the iterator to stop:
        it waits for what was begun.
    """
    if not count:
        yield from map(function, items)
        return
    waiting: deque[Future[Result]] = deque()
    with ThreadPoolExecutor(count) as pool:
        try:
            for item in items:
                waiting.append(pool.submit(function, item))
                if len(waiting) > count:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()
        finally:
            pool.shutdown(wait=False, cancel_futures=True)
