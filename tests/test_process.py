"""What commands need of their process: applied by scripts, in one place."""

import os
import subprocess
import sys

import pytest

from litemedsam_jax import cli, process
from tests.conftest import REPOSITORY

SHOW = """
import gc, os, signal, sys
from litemedsam_jax import cli
from litemedsam_jax.commands import COMMAND

def run(_):
    heard = signal.getsignal(signal.SIGTERM) is not signal.SIG_DFL
    print(os.environ.get("GLIBC_TUNABLES"), gc.get_threshold()[0] > 700, heard, flush=True)
    return 7

COMMAND.run = run
COMMAND.add_arguments = lambda parser: parser.add_argument("rest", nargs="*")
"""


def show(command: str, call: str, **environment: str) -> str:
    """What the process of a command looks like from within, and its exit status."""
    code = SHOW.replace("COMMAND", command) + call
    inherited = {key: value for key, value in os.environ.items() if key != "GLIBC_TUNABLES"}
    run = subprocess.run(
        [sys.executable, "-c", code, command],
        cwd=REPOSITORY, capture_output=True, text=True, env=inherited | environment,
    )  # fmt: skip
    assert run.stderr == ""
    return f"{run.stdout.strip()} {run.returncode}"


@pytest.mark.skipif(sys.platform != "linux", reason="glibc is Linux's")
@pytest.mark.parametrize("call", ["cli.run_process()", "cli.run_process(sys.argv.pop(1))"])
def test_a_script_gets_what_its_command_declares(call):
    assert show("segment", call) == f"{process.HUGE_PAGES} True True 7"
    assert show("finetune", call) == f"{process.TRAINING_PAGES} False False 7"
    assert show("evaluate", call) == "None False False 7"


def test_the_users_tunables_are_left():
    tunables = "glibc.malloc.arena_max=2"
    assert show("segment", "cli.run_process()", GLIBC_TUNABLES=tunables).startswith(tunables)


def test_a_command_within_a_process_leaves_it_as_it_is():
    call = "print('still here', cli.main(sys.argv[1:]))"
    assert show("segment", call) == "None False False\nstill here 7 0"


def test_predict_sh_sets_what_segment_declares():
    script = (REPOSITORY / "predict.sh").read_text(encoding="utf-8")
    assert cli.COMMANDS["segment"].needs.tunables in script
