"""Kills `infer.py` at random moments and runs it again with --skip-existing, until all is done.

    python -m tests.faults.kill_infer

After every kill each mask file must be whole and equal to that of an undisturbed run; so must all
of them in the end, and the table of times must be readable. What a kill left of a file being
written, hidden, must be gone after the next run. Rounds follow one another, each on an empty
folder, until the number of kills is reached. Exit status 0: nothing was lost. With
--without-network an engine that fills boxes stands in, and more of the kills meet files.
"""

import argparse
import os
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[2]


def make_cases(folder: Path, count: int, rng: np.random.Generator) -> None:
    """Small cases cut from the demo's pictures, and two short volumes."""
    folder.mkdir()
    with np.load(REPOSITORY / "demo" / "imgs" / "2DBox_Microscope_dsb2018_crop256.npz") as case:
        image, boxes = case["imgs"], case["boxes"]
    for index in range(count):
        chosen = boxes[rng.choice(len(boxes), 2, replace=False)]
        shifted = np.roll(image, index, axis=-1) if index % 2 else image
        np.savez_compressed(folder / f"2D_{index:02}.npz", imgs=shifted, boxes=chosen)
    with np.load(REPOSITORY / "demo" / "imgs" / "3DBox_MR_breast1_tumor.npz") as case:
        volume, boxes = case["imgs"][8:11], case["boxes"] - np.array([0, 0, 8, 0, 0, 8])
    for index in range(2):
        np.savez_compressed(folder / f"3D_{index}.npz", imgs=volume, boxes=boxes)


def infer(cases: Path, masks: Path, *options: str, network: bool = True) -> list[str]:
    """The command that segments a folder, from the repository's."""
    program = ["infer.py"] if network else ["-m", "tests.faults.infer_without_network"]
    return [sys.executable, *program, "-i", str(cases), "-o", str(masks), *options]


def start(cases: Path, masks: Path, network: bool) -> subprocess.Popen:
    command = infer(cases, masks, "--skip-existing", network=network)
    return subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.DEVNULL)


def arrays_of(path: Path) -> dict[str, np.ndarray]:
    with np.load(path) as file:
        return {name: file[name] for name in file.files}


def damaged(masks: Path, undisturbed: Path) -> list[str]:
    """Names of masks that are not whole or not those of the undisturbed run."""
    wrong = []
    for path in masks.glob("[!.]*.npz"):
        try:
            ours, theirs = arrays_of(path), arrays_of(undisturbed / path.name)
            same = ours.keys() == theirs.keys()
            if not same or any(not np.array_equal(ours[key], theirs[key]) for key in ours):
                wrong.append(path.name)
        except Exception as error:
            wrong.append(f"{path.name} ({error})")
    table = masks / "efficiency.csv"
    rows = table.read_text().splitlines() if table.exists() else []
    if any(len(row.split(",")) != 2 for row in rows) or rows[:1] not in ([], ["case,time"]):
        wrong.append("efficiency.csv")
    return wrong


def disturb(process: subprocess.Popen, moment: float) -> bool:
    """Kills a process after `moment` seconds; whether it was still running."""
    try:
        process.wait(moment)
        return False
    except subprocess.TimeoutExpired:
        process.send_signal(signal.SIGKILL)
        process.wait()
        return True


def campaign(arguments: argparse.Namespace, folder: Path) -> int:
    rng = np.random.default_rng(arguments.seed)
    cases, undisturbed = folder / "imgs", folder / "undisturbed"
    make_cases(cases, arguments.cases, rng)
    for masks in (folder / "compiled", undisturbed):  # the first one may have to compile
        begun = time.perf_counter()
        if start(cases, masks, not arguments.without_network).wait() != 0:
            raise SystemExit("the undisturbed run failed")
    longest = time.perf_counter() - begun
    total = len(list(cases.iterdir()))
    print(f"undisturbed: {total} cases in {longest:.1f} s", flush=True)
    kills, rounds, faults, hidden = 0, 0, 0, 0
    counts: Counter[int] = Counter()
    while kills < arguments.kills:
        rounds += 1
        masks = folder / f"round_{rounds}"
        while True:
            process = start(cases, masks, not arguments.without_network)
            moment = float(rng.uniform(0, longest)) if kills < arguments.kills else 600
            killed = disturb(process, moment)
            kills += killed
            wrong = damaged(masks, undisturbed) if masks.exists() else []
            faults += len(wrong)
            done = len(list(masks.glob("[!.]*.npz"))) if masks.exists() else 0
            counts[done] += killed
            hidden += len(list(masks.glob(".*")))
            if wrong or (not killed and process.returncode):
                print(f"FAULT after {moment:.2f} s: {wrong}, exit {process.returncode}", flush=True)
            if not killed:
                break
        faults += done != total or process.returncode != 0
        left = len(list(masks.glob(".*")))
        faults += left
        print(f"round {rounds}: {kills} kills, {done}/{total} masks, {left} hidden", flush=True)
    print(f"masks there at the kills: {dict(sorted(counts.items()))}")
    print(f"half-written hidden files seen after kills, and gone after the next run: {hidden}")
    print(f"{kills} kills in {rounds} rounds: {faults} faults")
    return 1 if faults else 0


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--without-network", action="store_true")
    parser.add_argument("--kills", type=int, default=50)
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        return campaign(arguments, Path(folder))


if __name__ == "__main__":
    os.environ.setdefault("JAX_PLATFORMS", "cpu")
    sys.exit(main())
