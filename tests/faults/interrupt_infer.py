"""Ctrl-C at random moments of `infer.py`, with one process and with two.

    python -m tests.faults.interrupt_infer

Each time: exit status 130, one line on stderr and no traceback, no half file, no process left.
Exit status 0: so it was.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np

from tests.faults.kill_infer import REPOSITORY, arrays_of, make_cases


def interrupt(cases: Path, masks: Path, workers: int, moment: float) -> tuple[list[str], bool]:
    """What was wrong after Ctrl-C at `moment` seconds; whether the run had not ended before."""
    command = [sys.executable, "infer.py", "-i", cases, "-o", masks, "-num_workers", workers]
    process = subprocess.Popen(
        [*map(str, command)],
        cwd=REPOSITORY,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,  # a group of its own, as a terminal gives
    )
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGINT)
    begun = time.perf_counter()
    _, told = process.communicate(timeout=600)
    took = time.perf_counter() - begun
    if process.returncode == 0:
        return [], False
    wrong = []
    lines = [line for line in told.splitlines() if ": compiling " not in line]
    if process.returncode != 130 or len(lines) != 1 or "interrupted" not in lines[0]:
        wrong.append(f"status {process.returncode}, stderr {told[-1500:]!r}")
    if took > 30:
        wrong.append(f"took {took:.1f} s to end")
    if not ends(process.pid):
        wrong.append("processes are left")
    for path in masks.glob("*") if masks.exists() else []:
        if path.name.startswith("."):
            wrong.append(f"half a file: {path.name}")
        elif path.suffix == ".npz":
            arrays_of(path)
    return wrong, True


def ends(group: int, seconds: float = 5) -> bool:
    """Whether a group of processes ends by itself."""
    end = time.perf_counter() + seconds
    while time.perf_counter() < end:
        try:
            os.killpg(group, 0)
        except ProcessLookupError:
            return True
        time.sleep(0.05)
    return False


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--times", type=int, default=20)
    parser.add_argument("--within", type=float, default=8, help="seconds after the start")
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    signal.signal(signal.SIGINT, signal.default_int_handler)  # not ignored, if it was before
    rng = np.random.default_rng(arguments.seed)
    faults, interrupted = 0, 0
    with tempfile.TemporaryDirectory() as folder:
        cases = Path(folder) / "imgs"
        make_cases(cases, 12, rng)
        while interrupted < arguments.times:
            workers = 1 + interrupted % 2
            # Python itself answers in the first tenth of a second, before our code runs.
            moment = float(rng.uniform(0.3, arguments.within))
            masks = Path(folder) / f"masks_{interrupted}"
            wrong, counts = interrupt(cases, masks, workers, moment)
            interrupted += counts
            faults += len(wrong)
            print(f"{workers} processes, {moment:.2f} s: {wrong or 'well'}", flush=True)
    print(f"{interrupted} interruptions: {faults} faults")
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
