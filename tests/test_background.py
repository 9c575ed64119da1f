"""A process ends as it should while threads still work."""

import subprocess
import sys

THREAD = """
import time
from litemedsam_jax import background

def work():
    for step in range(1000):
        if background.ending.is_set():
            break
        time.sleep(0.05)
    print("ended at a step", step < 999)

background.start(work)
raise SystemExit(3)
"""
MODEL = """
import sys
from litemedsam_jax import LiteMedSAM

LiteMedSAM.from_pretrained(sys.argv[1], device="cpu")
raise ValueError("the user's own")
"""


def _run(code: str, *arguments: object) -> subprocess.CompletedProcess:
    command = [sys.executable, "-c", code, *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True)


def test_threads_end_before_the_interpreter():
    run = _run(THREAD)
    assert run.returncode == 3 and run.stdout == "ended at a step True\n"


def test_a_script_that_fails_while_programs_load_says_why_and_no_more(weights_file):
    run = _run(MODEL, weights_file)
    assert run.returncode == 1 and run.stderr.endswith("ValueError: the user's own\n")
