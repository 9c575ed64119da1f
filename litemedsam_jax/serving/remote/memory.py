"""A bound on the memory that clients make the server take."""

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class OutOfMemory(Exception):
    """What other sessions hold leaves too little; the message is for the client."""


class Memory:
    """Bytes that are lent out, up to a limit; any thread may use it."""

    def __init__(self, limit: int):
        self.limit, self.taken = limit, 0
        self._lock = threading.Lock()

    def take(self, count: int) -> None:
        """Lends out bytes; raises `OutOfMemory`."""
        with self._lock:
            if self.taken + count > self.limit:
                raise OutOfMemory(
                    f"{count >> 20} MiB more do not fit beside the {self.taken >> 20} MiB in use "
                    f"(of {self.limit >> 20}); other sessions hold images"
                )
            self.taken += count

    def give(self, count: int) -> None:
        """Takes bytes back."""
        with self._lock:
            self.taken -= count

    @contextmanager
    def lent(self, count: int) -> Iterator[None]:
        """Lends out bytes for a while; raises `OutOfMemory`."""
        self.take(count)
        try:
            yield
        finally:
            self.give(count)
