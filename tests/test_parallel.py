"""Items in processes: each answered once, whatever becomes of the others."""

import os
import signal
import subprocess
import sys
import time

import pytest

from litemedsam_jax.parallel import ItemOutcome, outcomes, run_each
from litemedsam_jax.progress import ProgressDisplay
from tests.conftest import REPOSITORY


class Refused(Exception):
    """An error after which nothing else is worth trying."""


class Counting:
    """Counts the items that its process has had; fails as the item says."""

    def __init__(self):
        self.seen = 0

    def work(self, item: str) -> tuple[int, int]:
        self.seen += 1
        if item == "die":
            os._exit(9)  # as the kernel does when memory runs out
        if item == "refused":
            raise Refused("no")
        if item == "memory":
            raise MemoryError
        if item == "value":
            raise ValueError("bad.npz: is empty")
        if item == "slow":
            time.sleep(30)
        if item == "slow in a callback":
            # An exception in a destructor goes nowhere, as in a callback of C.
            type("Waiting", (), {"__del__": lambda _: time.sleep(30)})()
        return os.getpid(), self.seen


def _errors(results) -> dict[str, str | None]:
    return {outcome.item: outcome.error for outcome in results}


@pytest.mark.parametrize("workers", [1, 2])
def test_an_error_is_its_own_item_s(workers):
    errors = _errors(outcomes(Counting().work, ["a", "value", "memory", "b"], workers))
    assert errors["a"] is errors["b"] is None
    assert errors["value"] == "bad.npz: is empty"
    assert "not enough memory" in errors["memory"]


def test_an_object_keeps_what_it_holds_within_its_process():
    results = [outcome.result for outcome in outcomes(Counting().work, list("abcdef"), 2)]
    for process in {pid for pid, _ in results}:
        assert process != os.getpid()
        counts = sorted(seen for pid, seen in results if pid == process)
        assert counts == list(range(1, len(counts) + 1))


def test_a_process_that_dies_is_reported():
    errors = _errors(outcomes(Counting().work, ["a", "die", "b"], 2))
    assert sorted(errors) == ["a", "b", "die"]
    assert "a worker process was killed" in errors["die"]


@pytest.mark.parametrize("workers", [1, 2])
def test_a_fatal_error_ends_all(workers):
    with pytest.raises(Refused, match="no"):
        list(outcomes(Counting().work, ["refused", "a", "b"], workers, fatal=(Refused,)))


def test_the_caller_is_woken_while_processes_work():
    woken = []
    list(outcomes(time.sleep, [1.2, 0], 2, on_wait=lambda: woken.append(1)))
    assert woken


def test_every_item_is_counted(capsys):
    shown = ProgressDisplay("cases", style="none")
    results = list(run_each(len, ["a", "bb", "ccc"], 1, progress=shown))
    assert results == [
        ItemOutcome("a", 1, None),
        ItemOutcome("bb", 2, None),
        ItemOutcome("ccc", 3, None),
    ]
    assert (shown.done, shown.total) == (3, 3)
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(sys.platform == "win32", reason="other signals")
@pytest.mark.parametrize("slow", ["slow", "slow in a callback"])
def test_ctrl_c_ends_all_processes_without_a_traceback_of_theirs(slow):
    code = f"""
from litemedsam_jax.parallel import outcomes
from tests.test_parallel import Counting
import signal
signal.signal(signal.SIGINT, signal.default_int_handler)
try:
    for outcome in outcomes(Counting().work, ["a", "{slow}", "{slow}"], 2):
        print(outcome.item, flush=True)
except KeyboardInterrupt:
    print("interrupted")
"""
    run = subprocess.Popen(
        [sys.executable, "-c", code],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        start_new_session=True,
    )  # fmt: skip
    assert run.stdout is not None and run.stdout.readline() == "a\n"
    time.sleep(1.5)  # both processes have begun the next item
    os.killpg(run.pid, signal.SIGINT)  # as a terminal does
    output, errors = run.communicate(timeout=25)  # before "slow" would be done
    assert (output, errors) == ("interrupted\n", "")
