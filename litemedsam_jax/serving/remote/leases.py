"""Who holds a session: leases by token, given back, or taken back from the idle and the dead."""

import secrets
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Generic, TypeVar

Session = TypeVar("Session")


class Full(Exception):
    """All sessions are taken."""


class Gone(Exception):
    """There is no such lease, or no longer."""


@dataclass
class Lease(Generic[Session]):
    """A session and its clocks, in seconds.

    Attributes:
        number: Of the session since the server started, for the log.
        active: When the user last did something.
        seen: When the client was last heard of, be it by a heartbeat.
        busy: Requests of it that are being worked on; it is neither idle nor dead meanwhile.
    """

    number: int
    session: Session
    active: float
    seen: float
    busy: int = 0


class Leases(Generic[Session]):
    """All leases of a server; any thread may use it."""

    def __init__(
        self,
        begin: Callable[[int], Session],
        end: Callable[[int, Session, str], None],
        most: int,
        idle_seconds: float,
        liveness_seconds: float,
        clock: Callable[[], float] = time.monotonic,
    ):
        """Takes what makes and ends a session.

        Args:
            begin: Makes a session, from its number.
            end: Is called with a session that is over, and why: "released", "idle", "silent".
            most: Sessions at a time.
            idle_seconds: After which a session without the user's doing is over.
            liveness_seconds: After which a session without any request is over.
            clock: Seconds.
        """
        self.most, self.idle_seconds, self.liveness_seconds = most, idle_seconds, liveness_seconds
        self._begin, self._end, self._clock = begin, end, clock
        self._leases: dict[str, Lease[Session]] = {}
        self._count = 0
        self._lock = threading.Lock()

    def __len__(self) -> int:
        """How many there are."""
        return len(self._leases)

    def claim(self) -> str:
        """Begins a session; returns its token. Raises `Full`."""
        self.sweep()
        with self._lock:
            if len(self._leases) >= self.most:
                raise Full
            self._count += 1
            token, now = secrets.token_hex(16), self._clock()
            self._leases[token] = Lease(self._count, self._begin(self._count), now, now)
            return token

    def get(self, token: str | None, seen: bool = True) -> Lease[Session]:
        """A lease by its token; `seen`: the client is alive. Raises `Gone`."""
        self.sweep()
        with self._lock:
            lease = self._leases.get(token or "")
            if lease is None:
                raise Gone
            if seen:
                lease.seen = self._clock()
            return lease

    @contextmanager
    def using(self, lease: Lease[Session]) -> Iterator[None]:
        """While the user's request is worked on."""
        lease.busy += 1
        try:
            yield
        finally:
            lease.busy -= 1
            lease.active = lease.seen = self._clock()

    def remaining(self, lease: Lease[Session]) -> float:
        """Seconds until the session counts as idle."""
        return max(0.0, self.idle_seconds - (self._clock() - lease.active))

    def release(self, token: str | None) -> None:
        """Ends a session; one that is over already may be released again."""
        with self._lock:
            lease = self._leases.pop(token or "", None)
        if lease is not None:
            self._end(lease.number, lease.session, "released")

    def sweep(self) -> None:
        """Ends the sessions whose user is idle or whose client is not heard of."""
        now, over = self._clock(), []
        with self._lock:
            for token, lease in list(self._leases.items()):
                silent = now - lease.seen > self.liveness_seconds
                if not lease.busy and (silent or now - lease.active > self.idle_seconds):
                    del self._leases[token]
                    over.append((lease, "silent" if silent else "idle"))
        for lease, why in over:
            self._end(lease.number, lease.session, why)

    def close(self) -> None:
        """Ends all."""
        for token in list(self._leases):
            self.release(token)
