"""What is shown of long work: a bar on a terminal, a line a minute elsewhere, or nothing."""

import io
import multiprocessing

import pytest

from litemedsam_jax.progress import ProgressDisplay, SharedCounter


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def _work(progress: ProgressDisplay, clock: Clock, steps: int, seconds: float) -> None:
    for _ in range(steps):
        clock.now += seconds
        progress.advance()


def test_a_log_file_gets_a_line_a_minute(clock):
    stream = io.StringIO()
    with ProgressDisplay("slices", stream=stream, clock=clock) as progress:
        progress.begin(200, "ct.nii.gz")
        _work(progress, clock, 200, 1.0)
    assert stream.getvalue().splitlines() == [
        "ct.nii.gz: 60/200 slices, 2:20 left",
        "ct.nii.gz: 120/200 slices, 1:20 left",
        "ct.nii.gz: 180/200 slices, 0:20 left",
    ]


def test_short_work_leaves_no_line(clock):
    stream = io.StringIO()
    with ProgressDisplay("cases", 5, stream=stream, clock=clock) as progress:
        _work(progress, clock, 5, 10.0)
    assert stream.getvalue() == ""


def test_a_terminal_gets_a_bar_that_goes_away(clock):
    stream = Terminal()
    with ProgressDisplay("slices", 4, stream=stream, clock=clock) as progress:
        _work(progress, clock, 2, 1.0)
        shown = stream.getvalue()
        assert "\n" not in shown
        last = shown.split("\r")[-1]
        assert last == "[############............] 2/4 slices, 0:02 left"
    assert stream.getvalue().endswith("\r" + " " * len(last) + "\r")


def test_a_bar_is_drawn_ten_times_a_second_at_most(clock):
    stream = Terminal()
    progress = ProgressDisplay("slices", 1000, stream=stream, clock=clock)
    _work(progress, clock, 1000, 0.001)
    assert 5 <= stream.getvalue().count("\r") <= 11


def test_lines_printed_between_count_as_signs_of_life(clock):
    stream = io.StringIO()
    progress = ProgressDisplay("slices", 100, stream=stream, clock=clock)
    for _ in range(3):
        _work(progress, clock, 1, 50.0)
        progress.clear()
    assert stream.getvalue() == ""


def test_the_time_left_is_that_of_the_work_begun_last(clock):
    stream = Terminal()
    progress = ProgressDisplay("slices", stream=stream, clock=clock)
    progress.begin(10, "a")
    _work(progress, clock, 10, 60.0)
    progress.begin(3600, "b")
    _work(progress, clock, 1, 1.0)
    assert stream.getvalue().endswith("b: [........................] 1/3600 slices, 59:59 left")


@pytest.mark.parametrize("style", ["none", "auto"])
def test_nothing_is_shown_on_request_or_without_a_stream(clock, style):
    stream = Terminal()
    if style == "auto":
        stream.close()
    progress = ProgressDisplay("slices", 10, stream=stream, clock=clock, style=style)
    _work(progress, clock, 10, 100.0)
    progress.clear()
    assert stream.closed or stream.getvalue() == ""


def test_a_reader_that_went_away_does_not_stop_the_work(clock):
    class Closed(Terminal):
        def write(self, _: str) -> int:
            raise BrokenPipeError

    progress = ProgressDisplay("slices", 10, stream=Closed(), clock=clock)
    _work(progress, clock, 10, 100.0)
    progress.clear()
    assert progress.done == 10


def test_a_shared_counter_adds_up_what_processes_do():
    counter = SharedCounter(multiprocessing.get_context("spawn"))
    counter.begin(5, "a")
    counter.advance()
    counter.advance()
    assert counter.read() == (2, 5)
    counter.begin(7, "b")  # "a" has failed: what it had left will not come
    assert counter.read() == (5, 12)
