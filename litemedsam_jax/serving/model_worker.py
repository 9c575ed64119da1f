"""The one thread that owns the model: jobs by urgency, of a client's like jobs the latest only."""

import itertools
import queue
import sys
import threading
from collections.abc import Callable, Hashable
from concurrent.futures import Future, InvalidStateError
from contextlib import suppress
from typing import Any, TypeVar

from litemedsam_jax.inference.predictor import LiteMedSAM

Result = TypeVar("Result")
# What somebody waits for at the mouse comes first, then propagation, then what may be of use.
PROMPT, PROPAGATION, AHEAD = 0, 1, 2


class Superseded(Exception):
    """A newer request has taken this one's place."""


class ModelUnavailable(RuntimeError):
    """There is no model; the message says why and what to do."""


class _Job:
    """A queued call; `take` is true for the first who asks: to run it, or to drop it."""

    def __init__(self, run: Callable[[LiteMedSAM], Any], latest_of: Hashable = None):
        self.run, self.latest_of = run, latest_of
        self.future, self._taken = Future[Any](), False

    def take(self) -> bool:
        first, self._taken = not self._taken, True
        return first


class ModelWorker:
    """Loads the model and runs jobs on it, one at a time.

    Attributes:
        state: "loading", "ready" or "missing".
        message: What a user should know of it.
    """

    def __init__(
        self,
        load: Callable[[], LiteMedSAM],
        on_change: Callable[[], None],
        command: str = "litemedsam annotate",
    ):
        """Takes what loads the model, and whom to tell when that has ended; `command`: in messages.

        Nothing runs before `start`.
        """
        self._command = command
        self.state, self.message = "loading", "loading the model"
        self._load, self._on_change = load, on_change
        self._jobs: queue.PriorityQueue[tuple[int, int, Any]] = queue.PriorityQueue()
        self._order = itertools.count()
        self._latest: dict[Hashable, _Job] = {}
        self._current: _Job | None = None
        self._lock = threading.Lock()
        self._model: LiteMedSAM | None = None
        self._thread = threading.Thread(target=self._run, name="model", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread after the job it is at; nobody waits for that one or those queued."""
        with self._lock:
            waiting = [self._current] if self._current else []
            while not self._jobs.empty():
                waiting.append(self._jobs.get_nowait()[2])
        for work in waiting:
            if work is not None:
                with suppress(InvalidStateError):
                    work.future.set_exception(Superseded())
        self._jobs.put((-1, next(self._order), None))

    def submit(
        self,
        job: Callable[[LiteMedSAM], Result],
        urgency: int = PROMPT,
        latest_of: Hashable = None,
    ) -> "Future[Result]":
        """Queues a job.

        Args:
            job: Called with the model, on its thread.
            urgency: `PROMPT`, `PROPAGATION` or `AHEAD`.
            latest_of: Of the jobs with this key that still wait, only the newest is run; the
                others' futures raise `Superseded`.
        """
        work = _Job(job, latest_of)
        with self._lock:
            if latest_of is not None:
                older = self._latest.get(latest_of)
                if older is not None and older.take():
                    older.future.set_exception(Superseded())
                self._latest[latest_of] = work
        self._jobs.put((urgency, next(self._order), work))
        return work.future

    def replace(self, load: Callable[[], LiteMedSAM]) -> "Future[None]":
        """Gives the thread another model, between two jobs; where loading fails it keeps its own.

        The other model's encoder must be the same: embeddings are kept.
        """

        def swap(_: LiteMedSAM) -> None:
            self._model = load()

        return self.submit(swap)

    def _run(self) -> None:
        self._open()
        while True:
            _, _, work = self._jobs.get()
            if work is None:
                return
            self._do(work)
            del work  # what it refers to, such as an image, may be long gone elsewhere

    def _do(self, work: _Job) -> None:
        with self._lock:
            if self._latest.get(work.latest_of) is work:
                del self._latest[work.latest_of]
            if not work.take():
                return  # superseded, and its waiter knows
            self._current = work
        with suppress(InvalidStateError):  # nobody waits any more
            try:
                if self._model is None:
                    raise ModelUnavailable(self.message)
                work.future.set_result(work.run(self._model))
            except InvalidStateError:
                raise
            except Exception as error:  # the waiter's to report; the thread goes on
                work.future.set_exception(error)
        self._current = None

    def _open(self) -> None:
        try:
            self._model = self._load()
            self.state, self.message = "ready", "model ready"
        except Exception as error:  # whatever it is, images can be looked at and painted
            self.state, self.message = "missing", str(error)
            print(f"{self._command}: without a model: {error}", file=sys.stderr)
        self._on_change()
