"""Runs that survive: killed, terminated; on any number of devices and hosts."""

import json
import signal
import socket
import time
from pathlib import Path

import numpy as np
import pytest

from tests.training.conftest import arrays_of, assert_same, finish

PACE = ("--steps-per-epoch", "2", "--save-every", "1", "--log-every", "1")
STEPS = ("-num_epochs", "5", "-batch_size", "2", *PACE)


@pytest.fixture(scope="module")
def module_folder(tmp_path_factory) -> Path:
    return tmp_path_factory.mktemp("uninterrupted")


@pytest.fixture
def uninterrupted(module_folder, train_command) -> Path:
    """The work folder of a run of ten steps that nothing disturbed."""
    folder = module_folder / "run"
    if not folder.exists():
        finish(train_command(folder, *STEPS))
    return folder


def steps_in(folder: Path) -> list[int]:
    found = (folder / "checkpoints").glob("[0-9]*")
    return sorted(int(path.name) for path in found if path.name.isdigit())


def wait_for_step(process, folder: Path, step: int) -> None:
    """Returns when the checkpoint of `step` is complete."""
    until = time.monotonic() + 400
    while process.poll() is None and time.monotonic() < until:
        if (folder / "checkpoints").is_dir() and max(steps_in(folder), default=-1) >= step:
            return
        time.sleep(0.01)
    process.kill()
    pytest.fail(f"no checkpoint of step {step}: {process.communicate()[0]}")


def epochs_of(folder: Path) -> list[tuple]:
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [(row["step"], row["loss"]) for row in rows if row["kind"] == "epoch"]


def losses_of(folder: Path) -> list[float]:
    """Of the epochs; Adam blows the weights' last bits up, the loss hardly moves."""
    return [loss for _, loss in epochs_of(folder)[1:]]


def assert_same_first_step(folder: Path, other: Path) -> None:
    """The loss, and the norm of the gradient over the global batch, before Adam hides scales."""
    firsts = []
    for run in (folder, other):
        rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
        firsts.append(next(row for row in rows if row["kind"] == "step"))
    for name in ("loss", "dice", "bce", "iou", "gradient_norm"):
        assert firsts[0][name] == pytest.approx(firsts[1][name], rel=1e-4), name


def test_a_killed_and_a_terminated_run_resume_bit_for_bit(uninterrupted, train_command, tmp_path):
    folder = tmp_path / "run"
    process = train_command(folder, *STEPS)
    wait_for_step(process, folder, 1)  # in the middle of an epoch
    process.send_signal(signal.SIGKILL)
    process.communicate()
    # Without --save-every: a checkpoint in the middle of an epoch is the signal's.
    rarely = ("-num_epochs", "5", "-batch_size", "2", "--steps-per-epoch", "2", "--resume")
    process = train_command(folder, *rarely)
    output = process.stdout.readline()
    while "resumed at step" not in output:
        assert process.poll() is None, output
        output += process.stdout.readline()
    process.send_signal(signal.SIGTERM)
    assert "continue with --resume" in finish(process, expected=143)
    assert steps_in(folder)[-1] < 10
    finish(train_command(folder, *STEPS, "--resume"))
    whole, pieces = (arrays_of(run / "model.safetensors") for run in (uninterrupted, folder))
    assert_same(whole, pieces)
    assert epochs_of(uninterrupted) == epochs_of(folder)


def test_two_devices_equal_one_and_one_resumes_their_run(uninterrupted, train_command, tmp_path):
    folder = tmp_path / "run"
    finish(train_command(folder, "-num_epochs", "5", "-batch_size", "1", *PACE, devices=2))
    assert_same_first_step(folder, uninterrupted)
    np.testing.assert_allclose(losses_of(folder), losses_of(uninterrupted), rtol=1e-3)
    output = finish(train_command(folder, *STEPS, "--resume"))
    assert "resumed at step 10" in output and "data.batch_size was 1 and is 2 now" in output


def test_two_processes_equal_one(uninterrupted, train_command, tmp_path):
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    folder = tmp_path / "run"
    shared = ("-num_epochs", "5", "-batch_size", "1", "-world_size", "2", *PACE)
    address = ("-init_method", f"tcp://127.0.0.1:{port}")
    processes = [
        train_command(folder, *shared, *address, "-node_rank", str(rank)) for rank in (0, 1)
    ]
    try:
        for process in processes:
            finish(process)
    finally:
        for process in processes:
            process.kill()
            process.communicate()
    assert_same_first_step(folder, uninterrupted)
    np.testing.assert_allclose(losses_of(folder), losses_of(uninterrupted), rtol=1e-3)
