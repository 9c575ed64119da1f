"""Kills a training run at random moments and resumes it, until it is done.

    python tests/faults/kill_training.py

A small network is fine-tuned on slices of the demo's cases, with validation, moving averages and a
checkpoint after every step. After every SIGKILL whatever is in the work folder must be whole. In
the end the newest checkpoint (parameters, averages, optimizer, progress), the exported weights and
the validation scores must equal, bit for bit, those of a run that nothing disturbed, and nothing
hidden may be left. Exit status 0: nothing was lost.
"""

import argparse
import json
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPOSITORY))  # the small network is the tests'

STEPS_PER_EPOCH = 20
WORKERS = 0  # of the data: they would only make each start slower
_AT_START = 0.25  # of the kills come while the run starts or resumes
_SLOWEST = 1800.0  # seconds that the last resumption may take


def prepare(folder: Path) -> None:
    """npy slices of the demo's cases, and random weights of the tests' small network."""
    from litemedsam_jax.preparation.training_set import find_training_cases, read_slices
    from litemedsam_jax.weights import safetensors_file
    from tests.training.conftest import random_variables, small_model

    for kind in ("imgs", "gts"):
        (folder / "npy" / kind).mkdir(parents=True)
    for labels, _ in find_training_cases(REPOSITORY / "demo" / "gts"):
        images = REPOSITORY / "demo" / "imgs" / labels.name
        for entry, image, gts in read_slices(images, labels):
            np.save(folder / "npy" / "imgs" / f"{entry.name}.npy", image)
            np.save(folder / "npy" / "gts" / f"{entry.name}.npy", gts)
    safetensors_file.save(
        folder / "small.safetensors", random_variables(small_model()), small_model()
    )


def start(folder: Path, run: Path, epochs: int) -> subprocess.Popen:
    """A run in the background that starts, or continues where there is something to continue."""
    environment = {
        **os.environ,
        "JAX_PLATFORMS": "cpu",
        "JAX_COMPILATION_CACHE_DIR": str(folder / "xla"),
        "JAX_DISABLE_MOST_OPTIMIZATIONS": "1",  # the network is tiny: compiling is what costs
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
        "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1",
    }
    command = ["train.py", "finetune", "-data_root", folder / "npy", "-work_dir", run]
    command += ["-pretrained_checkpoint", folder / "small.safetensors", "--resume", "auto"]
    command += ["-num_epochs", epochs, "--steps-per-epoch", STEPS_PER_EPOCH, "--save-every", 1]
    command += ["-batch_size", 2, "-num_workers", WORKERS, "-lr", 1e-3, "--ema", 0.9]
    command += ["--val-fraction", 0.3, "--val-slices", 2, "--log-every", 1]
    with (folder / f"{run.name}.log").open("a") as log:
        return subprocess.Popen(
            [sys.executable, *map(str, command)],
            cwd=REPOSITORY,
            env=environment,
            stdout=log,
            stderr=log,
        )


def last_step(run: Path) -> int:
    """Of the newest complete checkpoint; -1 without one."""
    found = (run / "checkpoints").glob("[0-9]*")
    return max((int(path.name) for path in found if path.name.isdigit()), default=-1)


def damaged(run: Path) -> list[str]:
    """Names of files of a work folder that are there but not whole."""
    from litemedsam_jax.weights.load import load

    wrong = []
    checks = {
        "*.safetensors": load,
        "config.json": lambda path: json.loads(path.read_text()),
        "*.png": _read_picture,
        "predictions/*.png": _read_picture,
    }
    for pattern, check in checks.items():
        for path in run.glob(pattern):
            if path.name.startswith("."):
                continue
            try:
                check(path)
            except Exception as error:
                wrong.append(f"{path.name} ({error})")
    return wrong


def _read_picture(path: Path) -> None:
    if cv2.imread(str(path)) is None:
        raise ValueError("no picture")


def result(run: Path) -> dict[str, np.ndarray]:
    """All that a finished run has come to, as arrays by name."""
    import orbax.checkpoint as ocp

    from litemedsam_jax.weights.load import load

    newest = run / "checkpoints" / str(last_step(run))
    found = {
        f"checkpoint/{name}": np.asarray(leaf)
        for name, leaf in ocp.StandardCheckpointer().restore((newest / "state").absolute()).items()
    }
    weights = load(run / "model.safetensors").variables
    found |= {f"weights/{name}": leaf.copy() for name, leaf in weights.items()}
    found["progress"] = np.array((newest / "progress" / "metadata").read_text())
    rows = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    found["epochs"] = np.array([json.dumps(row) for row in rows if row["kind"] == "epoch"])
    return found


def disturb(process: subprocess.Popen, moment: float, ready: Callable[[], bool]) -> None:
    """Kills a process `moment` seconds after `ready`; SystemExit if it ends before that."""
    while process.poll() is None and not ready():
        time.sleep(0.005)
    try:
        process.wait(moment)
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return
    raise SystemExit(f"the run ended by itself, with exit status {process.returncode}")


def undisturbed(folder: Path, epochs: int) -> tuple[Path, float, float]:
    """The run to compare with; seconds until its first checkpoint, and from there to its end."""
    run = folder / "undisturbed"
    begun = time.perf_counter()
    process = start(folder, run, epochs)
    while process.poll() is None and last_step(run) < 0:
        time.sleep(0.02)
    began = time.perf_counter() - begun
    if process.wait() != 0:
        raise SystemExit(f"the undisturbed run failed:\n{(folder / 'undisturbed.log').read_text()}")
    return run, began, time.perf_counter() - begun - began


def campaign(folder: Path, kills: int, epochs: int, seed: int) -> int:
    """Both runs and their comparison; the number of faults."""
    rng = np.random.default_rng(seed)
    prepare(folder)
    whole, began, stepping = undisturbed(folder, epochs)
    steps = epochs * STEPS_PER_EPOCH
    print(f"undisturbed: {steps} steps in {began:.0f} + {stepping:.0f} s", flush=True)
    run = folder / "killed"
    faults, steps_at_kills = [], []
    while len(steps_at_kills) < kills:
        process = start(folder, run, epochs)
        if rng.random() < _AT_START:
            disturb(process, float(rng.uniform(0, began)), lambda: True)
        else:  # at any moment of a later step; a third of the run is left after the last kill
            aim = last_step(run) + int(rng.integers(1, max(2, steps // kills)))
            moment = float(rng.uniform(0, 2 * stepping / steps))
            disturb(process, moment, lambda aim=aim: last_step(run) >= aim)
        steps_at_kills.append(last_step(run))
        faults += damaged(run)
        print(f"kill {len(steps_at_kills)}: newest checkpoint {steps_at_kills[-1]}", flush=True)
    if start(folder, run, epochs).wait(_SLOWEST) != 0:
        faults.append(f"the last resumption failed:\n{(folder / 'killed.log').read_text()}")
    else:
        faults += differences(result(whole), result(run))
        faults += [f"left behind: {path}" for path in run.rglob("*") if "tmp" in path.name]
    for fault in faults:
        print(f"FAULT {fault}", flush=True)
    table = dict(sorted(Counter(steps_at_kills).items()))
    print(f"newest checkpoint at the kills (-1: none yet), and how often: {table}")
    print(f"{kills} kills in one run of {steps} steps: {len(faults)} faults")
    return len(faults)


def differences(whole: dict[str, np.ndarray], pieces: dict[str, np.ndarray]) -> list[str]:
    """Names of what differs in a bit."""
    names = sorted(whole.keys() | pieces.keys())
    wrong = [
        f"differs: {name}"
        for name in names
        if name not in whole
        or name not in pieces
        or whole[name].dtype != pieces[name].dtype
        or whole[name].tobytes() != pieces[name].tobytes()
    ]
    print(f"compared {len(names)} arrays, {len(wrong)} differ")
    return wrong


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--epochs", type=int, default=10, help=f"of {STEPS_PER_EPOCH} steps")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--folder", type=Path, help="keep all there (default: a temporary one)")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = arguments.folder or Path(temporary)
        faults = campaign(folder, arguments.kills, arguments.epochs, arguments.seed)
    return 1 if faults else 0


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    sys.exit(main())
