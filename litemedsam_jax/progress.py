"""How far long work is: a bar on a terminal, a line a minute elsewhere, on standard error.

Printed here rather than by tqdm, because `infer.py` runs without the packages of [tools] and a cold
case has no time to import them, and because a log file wants lines, not carriage returns.
"""

import os
import sys
import time
from collections.abc import Callable
from typing import Literal, Protocol, TextIO

Style = Literal["auto", "bar", "lines", "none"]
STYLES: tuple[Style, ...] = ("auto", "bar", "lines", "none")

_BAR_SECONDS, _LINE_SECONDS = 0.1, 60.0  # between two states shown
_BAR_WIDTH = 24


class Counter(Protocol):
    """What work reports to."""

    def begin(self, total: int, label: str = "") -> None:
        """A piece of work of so many units starts; what was left of the one before is over."""

    def advance(self, count: int = 1) -> None:
        """So many units more are done."""


class ProgressDisplay:
    """Shows how many units of work are done, of how many, and the time left.

    Args:
        unit: what is counted, in the plural: "slices".
        total: of the work that starts now; 0 where `begin` will say it.
        style: "bar"; "lines", one a minute; "none"; or "auto", a bar on a terminal and else lines.
        stream: where it is shown; by default standard error.
        clock: seconds, from anywhere.
    """

    def __init__(
        self,
        unit: str,
        total: int = 0,
        *,
        style: Style = "auto",
        stream: TextIO | None = None,
        clock: Callable[[], float] = time.monotonic,
    ):
        self._unit, self._clock = unit, clock
        self._stream = sys.stderr if stream is None else stream
        self._style = _style_of(self._stream) if style == "auto" else style
        self._drawn = 0  # characters of the bar that stands on the terminal
        self._shown_at = clock()
        self.begin(total)

    def begin(self, total: int, label: str = "") -> None:
        """Starts to count a piece of work of so many units, whose name precedes the count."""
        self._begun, self._label = self._clock(), label
        self.done, self.total = 0, total

    def advance(self, count: int = 1) -> None:
        """Counts units that are done, and shows the state if it is time to."""
        self.show(self.done + count, self.total)

    def show(self, done: int, total: int) -> None:
        """Sets the count and shows it if it is time to."""
        self.done, self.total = done, total
        now = self._clock()
        pause = _BAR_SECONDS if self._style == "bar" else _LINE_SECONDS
        if self._style == "none" or not total or now - self._shown_at < pause:
            return
        self._shown_at = now
        text = self._text(now - self._begun)
        if self._style == "bar":
            # The last column stays free: some terminals would begin a new line.
            text = text[: _columns(self._stream) - 1]
            self._write("\r" + text.ljust(self._drawn))
            self._drawn = len(text)
        else:
            self._write(text + "\n")

    def clear(self) -> None:
        """Takes the bar off the terminal, for other lines to be printed or at the end.

        To call before a line is printed elsewhere, which also counts as a sign of life.
        """
        self._shown_at = self._clock()
        if self._drawn:
            self._write("\r" + " " * self._drawn + "\r")
            self._drawn = 0

    def _write(self, text: str) -> None:
        if self._style == "none":
            return
        try:
            print(text, end="", file=self._stream, flush=True)
        except (OSError, ValueError):  # nobody reads it any more: the work goes on
            self._style = "none"

    def __enter__(self) -> "ProgressDisplay":
        return self

    def __exit__(self, *_: object) -> None:
        self.clear()

    def _text(self, seconds: float) -> str:
        done, total = min(self.done, self.total), self.total
        left = f", {_duration(seconds * (total - done) / done)} left" if done else ""
        counted = f"{done}/{total} {self._unit}{left}"
        if self._style == "bar":
            filled = _BAR_WIDTH * done // total
            counted = f"[{'#' * filled}{'.' * (_BAR_WIDTH - filled)}] {counted}"
        return f"{self._label}: {counted}" if self._label else counted


class SharedCounter:
    """Counts the work of several processes; given to them as they start, read by the first.

    Args:
        context: of multiprocessing, which starts the processes.
    """

    def __init__(self, context):
        self._counts = context.Array("q", 2)  # done, total
        self._left = 0  # of the work that this process has begun

    def begin(self, total: int, label: str = "") -> None:
        """Adds a piece of work; what this process had left of another one counts as done."""
        self.advance(self._left)
        self._left = total
        with self._counts.get_lock():
            self._counts[1] += total

    def advance(self, count: int = 1) -> None:
        """Counts units that are done."""
        self._left -= count
        with self._counts.get_lock():
            self._counts[0] += count

    def read(self) -> tuple[int, int]:
        """Units done by all processes, and units begun."""
        with self._counts.get_lock():
            return self._counts[0], self._counts[1]


def _style_of(stream: TextIO) -> Style:
    try:
        terminal = stream.isatty() and os.environ.get("TERM") != "dumb"
    except (AttributeError, ValueError):  # no stream at all (pythonw), or a closed one
        return "none"
    return "bar" if terminal else "lines"


def _columns(stream: TextIO) -> int:
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return 80


def _duration(seconds: float) -> str:
    """Hours, minutes and seconds: 1:02:03, or 2:03."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{rest:02d}" if hours else f"{minutes}:{rest:02d}"
