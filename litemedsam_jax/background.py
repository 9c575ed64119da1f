"""Threads that work beside the main one, and end before the interpreter does.

At its end Python stops the threads that are left wherever they are. Inside of XLA that aborts the
process, with a message of C++ where a user's own error was.
"""

import atexit
from collections.abc import Callable
from threading import Event, Thread
from weakref import WeakSet

ending = Event()  # set when the interpreter ends: begin nothing more
_threads: WeakSet[Thread] = WeakSet()


def start(work: Callable[[], None]) -> None:
    """Starts a thread. Where it has several things to do, it asks `ending` before each."""
    thread = Thread(target=work, daemon=True)
    _threads.add(thread)
    thread.start()


@atexit.register
def _end() -> None:
    ending.set()
    for thread in list(_threads):
        thread.join()
