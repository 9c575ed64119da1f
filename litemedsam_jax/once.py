"""Results that are computed once, by whoever asks first or in a thread of their own."""

from collections.abc import Callable
from contextlib import suppress
from threading import Lock
from typing import Generic, TypeVar

from litemedsam_jax import background

Result = TypeVar("Result")


class Once(Generic[Result]):
    """A result, or an error, that whoever asks first computes; the others wait for it."""

    def __init__(self, compute: Callable[[], Result]):
        self._compute: Callable[[], Result] | None = compute
        self._lock = Lock()
        self._result: list[Result] = []
        self._error: Exception | None = None

    def __call__(self) -> Result:
        """The result, computed at the first call; raises what computing it raised."""
        with self._lock:
            if self._compute is not None:
                try:
                    self._result.append(self._compute())
                except Exception as error:
                    self._error = error
                self._compute = None  # and with it what it holds
            if self._error is not None:
                raise self._error
            return self._result[0]


def in_background(compute: Callable[[], Result]) -> Once[Result]:
    """Starts to compute a result in a thread, which ends with it; calling waits for it."""
    once = Once(compute)
    background.start(lambda: _try(once))
    return once


def _try(once: Once) -> None:
    with suppress(Exception):  # raised again for whoever asks
        once()
