"""Server-sent events: what happens to a case reaches every page that shows it."""

import asyncio
import json
from collections.abc import AsyncIterator
from typing import Any

_WAITING = 100  # events that a page may fall behind by; then it reads the whole state again
_PING_SECONDS = 15.0


class Events:
    """Sends events to the pages that listen to a case. `publish` may be called by any thread."""

    def __init__(self) -> None:
        self._listeners: dict[int, set[asyncio.Queue[dict[str, Any]]]] = {}
        self._loop: asyncio.AbstractEventLoop | None = None
        self._closed = False

    def publish(self, case: int | None, event: dict[str, Any]) -> None:
        """Sends an event to the pages of a case; None: to all."""
        if self._loop is not None:
            self._loop.call_soon_threadsafe(self._put, case, event)

    def close(self) -> None:
        """Ends all streams."""
        self._closed = True
        self.publish(None, {})

    async def stream(self, case: int, first: dict[str, Any]) -> AsyncIterator[str]:
        """Yields `first`, then every event of a case, in the format of an event stream."""
        self._loop = asyncio.get_running_loop()
        queue: asyncio.Queue[dict[str, Any]] = asyncio.Queue(_WAITING)
        self._listeners.setdefault(case, set()).add(queue)
        try:
            yield _format(first)
            while not self._closed:
                try:
                    event = await asyncio.wait_for(queue.get(), _PING_SECONDS)
                except TimeoutError:
                    yield ": still here\n\n"
                    continue
                if event:
                    yield _format(event)
        finally:
            self._listeners[case].discard(queue)

    def _put(self, case: int | None, event: dict[str, Any]) -> None:
        chosen = self._listeners if case is None else [case]
        for number in chosen:
            for queue in self._listeners.get(number, ()):
                if queue.full():
                    queue.get_nowait()
                    event = {"missed": True}
                queue.put_nowait(event)


def _format(event: dict[str, Any]) -> str:
    return f"data: {json.dumps(event, separators=(',', ':'))}\n\n"
