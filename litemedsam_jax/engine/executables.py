"""Executables from disk, loaded by the first runtime that can: jaxlib alone, then JAX.

Loading goes on outside of Python's lock for the most part, so a thread of its own does it, one
executable after the other, while the main one imports, reads a case or encodes.
"""

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from copy import copy
from functools import cache
from threading import Lock
from typing import Any, Protocol

import numpy as np

from litemedsam_jax import background
from litemedsam_jax.engine.program_store import ProgramError, ProgramStore
from litemedsam_jax.engine.programs import Program
from litemedsam_jax.engine.stored_executable import StoredExecutable
from litemedsam_jax.files import one_line
from litemedsam_jax.once import Once


class LoadedExecutable(Protocol):
    """An executable, ready to run: (parameters, from its runtime's `put`, *inputs) -> outputs."""

    runtime: Any

    def __call__(self, parameters: list, *inputs: np.ndarray) -> list[np.ndarray]:
        """Runs it."""


class Runtime(Protocol):
    """What loads and runs stored executables."""

    def put(self, array: np.ndarray) -> Any:
        """An array where executables take it."""

    def load(self, stored: StoredExecutable, program: Program) -> LoadedExecutable:
        """Makes a stored executable ready to run; raises whatever it likes."""


def _jaxlib_alone() -> Runtime:
    from litemedsam_jax.engine.jaxlib_runtime import JaxlibRuntime

    return JaxlibRuntime()


def _jaxlib_on_one_core() -> Runtime:
    from litemedsam_jax.engine.jaxlib_runtime import JaxlibRuntime

    return JaxlibRuntime(one_core=True)


def _jax() -> Runtime:
    from litemedsam_jax.engine.jax_runtime import JaxRuntime

    return JaxRuntime()


# The cheapest first. One of each a process, however many models there are.
RUNTIMES: tuple[Callable[[], Runtime], ...] = (Once(_jaxlib_alone), Once(_jax))


@cache
def lane_runtimes(lane: int) -> tuple[Callable[[], Runtime], ...]:
    """As `RUNTIMES`, for one lane of an encoder: each has a client on a core of its own."""
    return Once(_jaxlib_on_one_core), RUNTIMES[1]


class StoredExecutables:
    """The stored executables of a model. An instance that goes away takes its buffers along."""

    def __init__(
        self,
        programs: Mapping[str, Program],
        store: ProgramStore,
        report: Callable[[str], None],
        loader: "Loader",
        runtimes: Sequence[Callable[[], Runtime]] = RUNTIMES,
    ):
        """Loads nothing yet.

        Args:
            programs: of the model, by name.
            store: where executables lie.
            report: takes the sentence that says why an executable is not used.
            loader: loads beforehand; others may use it too, and end with it.
            runtimes: that are tried in turn; each is started when it is needed.
        """
        self._programs = programs
        self._pending = {
            name: PendingExecutable(program, store, runtimes, report)
            for name, program in programs.items()
        }
        # By runtime, and where in the network they are: decoders share theirs.
        self._parameters: dict[tuple[int, str, tuple[str, ...]], list] = {}
        self._loader = loader

    def __del__(self) -> None:
        self._loader.clear()  # a load that has begun ends, and with it the thread

    def for_other_weights(self) -> "StoredExecutables":
        """The same executables, loaded once, for other parameters, which go away with it."""
        other = copy(self)
        other._parameters, other._loader = {}, Loader()
        return other

    def prefetch(self, *names: str) -> None:
        """Has executables loaded, after those that were asked for before."""
        self._loader.add(self._pending[name] for name in names)

    def bind(
        self, name: str, folded: dict[str, np.ndarray], scope: str
    ) -> Callable[..., list[np.ndarray]] | None:
        """An executable with its parameters; None: there is none that can be used.

        Args:
            name: of the program.
            folded: the folded weights.
            scope: how its parameters' names begin.
        """
        pending, program = self._pending[name], self._programs[name]
        while (loaded := pending.get()) is not None:
            runtime = loaded.runtime
            key = id(runtime), scope, program.parameters
            try:
                if key not in self._parameters:
                    arrays = program.arguments(folded, scope)
                    self._parameters[key] = [runtime.put(array) for array in arrays]
                return _Bound(loaded, self._parameters[key])
            except Exception as error:  # jaxlib's internal API may raise any kind
                pending.reject(error)
        return None

    def look_again(self, name: str) -> None:
        """An executable that was not there may have been stored since."""
        self._pending[name].look_again()

    def reject(self, name: str, error: Exception) -> None:
        """Takes note that an executable does not run; `bind` then gives the next runtime's."""
        self._pending[name].reject(error)


class _Bound:
    """An executable with its parameters."""

    def __init__(self, loaded: LoadedExecutable, parameters: list):
        self._loaded, self._parameters = loaded, parameters

    def __call__(self, *inputs: np.ndarray) -> list[np.ndarray]:
        return self._loaded(self._parameters, *inputs)


class PendingExecutable:
    """One executable, loaded by the first runtime that can."""

    def __init__(
        self,
        program: Program,
        store: ProgramStore,
        runtimes: Sequence[Callable[[], Runtime]],
        report: Callable[[str], None],
    ):
        self._program, self._store, self._report = program, store, report
        self._runtimes, self._untried = runtimes, deque(runtimes)
        self._absent = False
        self._stored: StoredExecutable | None = None
        self._loaded: LoadedExecutable | None = None
        self._lock = Lock()

    @property
    def name(self) -> str:
        """Of its program."""
        return self._program.name

    def get(self) -> LoadedExecutable | None:
        """The executable, loaded now if it was not.

        Returns:
            None: there is none, or no runtime can run it (which is reported).
        """
        with self._lock:
            if self._stored is None and self._untried:
                self._stored = self._read()
            while self._loaded is None and self._stored is not None and self._untried:
                try:
                    self._loaded = self._untried[0]().load(self._stored, self._program)
                except Exception as error:
                    self._drop_runtime(error)
            return self._loaded

    def reject(self, error: Exception) -> None:
        """What was loaded does not run: the next runtime's turn."""
        with self._lock:
            if self._loaded is not None:
                self._drop_runtime(error)

    def look_again(self) -> None:
        """Where there was no file, there may be one now."""
        with self._lock:
            if self._absent:
                self._untried.extend(self._runtimes)

    def _read(self) -> StoredExecutable | None:
        try:
            data = self._store.read(self.name)
            self._absent = data is None
            if data is None:
                self._untried.clear()
                return None
            return StoredExecutable.from_bytes(data)
        except (ProgramError, ValueError) as error:
            self._untried.clear()
            self._report(
                f"the stored executable '{self.name}' is not used, but compiled anew: {error}"
            )
            return None

    def _drop_runtime(self, error: Exception) -> None:
        self._loaded = None
        self._untried.popleft()
        instead = "JAX loads them" if self._untried else "they are compiled anew"
        reason = one_line(f"{type(error).__name__}: {str(error).strip() or 'no reason'}", 150)
        self._report(
            f"stored executables cannot be used as usual ('{self.name}': {reason}); "
            f"{instead}, which takes longer"
        )


class Loader:
    """Loads in a thread of its own, in the order asked for; the thread ends with its work."""

    def __init__(self) -> None:
        """Starts no thread yet."""
        self._waiting: deque[PendingExecutable] = deque()
        self._lock = Lock()
        self._running = False

    def add(self, loads: Iterable[PendingExecutable]) -> None:
        """Has executables loaded."""
        with self._lock:
            self._waiting.extend(loads)
            if self._waiting and not self._running:
                self._running = True
                background.start(self._work)

    def clear(self) -> None:
        """Forgets what was not begun."""
        with self._lock:
            self._waiting.clear()

    def _work(self) -> None:
        while True:
            with self._lock:
                if not self._waiting or background.ending.is_set():
                    self._running = False
                    return
                load = self._waiting.popleft()
            load.get()
