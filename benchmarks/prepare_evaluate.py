"""What preparing and evaluating cost beside reading and writing the same files.

    python benchmarks/prepare_evaluate.py [--depth 600] [--size 512] [--labels 8] [--runs 3]

Makes a CT-like volume with large organs, then times each step in a fresh process: seconds and
processor seconds (medians of the runs), peak memory, and the ratio of processor seconds to the step
that only decompresses (and, for preparing, compresses) the same arrays. RESULTS_prepare_evaluate.md
holds what was seen.
"""

import argparse
import json
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np


def make_files(folder: Path, depth: int, size: int, count: int) -> None:
    """A NIfTI volume of noise and organs, its labels, and npz of truth and shifted masks."""
    import SimpleITK as sitk

    rng = np.random.default_rng(0)
    plane = rng.normal(40, 25, (size, size))
    image = np.empty((depth, size, size), np.int16)
    for z in range(depth):
        image[z] = np.roll(plane, z, axis=1)
    labels = np.zeros(image.shape, np.uint8)
    z, y, x = np.ogrid[:depth, :size, :size]
    for label in range(1, count + 1):
        centre = rng.uniform(0.3, 0.7, 3) * image.shape
        radius = rng.uniform(0.05, 0.25, 3) * image.shape
        axes = zip((z, y, x), centre, radius, strict=True)
        labels[sum(((a - c) / r) ** 2 for a, c, r in axes) < 1] = label
    image[labels > 0] += 60
    for name, array in (("a_0000", image), ("a", labels)):
        volume = sitk.GetImageFromArray(array)
        volume.SetSpacing((0.8, 0.8, 2.0))
        sitk.WriteImage(volume, str(folder / f"{name}.nii.gz"), useCompression=True)
    spacing = np.array((0.8, 0.8, 2.0))
    np.savez_compressed(folder / "gts.npz", gts=labels, spacing=spacing)
    np.savez_compressed(folder / "segs.npz", segs=np.roll(labels, 3, 2))


def read_masks(folder: Path) -> None:
    for name, key in (("gts", "gts"), ("segs", "segs")):
        np.load(folder / f"{name}.npz")[key]


def evaluate(folder: Path, **options) -> None:
    from litemedsam_jax.evaluation.folders import Pair, ScoreOptions, score_pair

    score_pair(Pair("a", folder / "segs.npz", folder / "gts.npz"), ScoreOptions(**options))


def read_and_write_volumes(folder: Path) -> None:
    """The least that preparing can do: both volumes in, both arrays out."""
    import SimpleITK as sitk

    image, labels = (
        sitk.GetArrayFromImage(sitk.ReadImage(str(folder / f"{name}.nii.gz")))
        for name in ("a_0000", "a")
    )
    np.savez_compressed(folder / "least.npz", imgs=image.astype(np.uint8), gts=labels)


def prepare(folder: Path) -> None:
    from litemedsam_jax.preparation.pair_to_case import PrepareOptions, Task, prepare_volume
    from litemedsam_jax.preparation.pairs import Source

    source = Source("a", folder / "a_0000.nii.gz", (folder / "a.nii.gz",))
    prepare_volume(Task(source, "train"), PrepareOptions(folder / "out", slices="all"))


STEPS = {
    "masks: decompress two npz": (read_masks, {}),
    "evaluate: DSC": (evaluate, {"nsd": False}),
    "evaluate: DSC, NSD": (evaluate, {}),
    "evaluate: DSC, NSD, HD95, corrected": (evaluate, {"corrected": True, "hd95": True}),
    "volumes: decompress NIfTI, compress npz": (read_and_write_volumes, {}),
    "prepare volumes": (prepare, {}),
}


def peak_megabytes() -> float:
    """Of this process alone: getrusage's figure starts at the parent's."""
    lines = Path("/proc/self/status").read_text(encoding="utf-8").splitlines()
    return int(next(line for line in lines if line.startswith("VmHWM")).split()[1]) / 1024


def measure(step: str, folder: Path) -> tuple[float, float, float]:
    """Seconds, processor seconds and peak MB of one step in a process of its own."""
    command = [sys.executable, __file__, "--step", step, "--folder", str(folder)]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    seconds, processor, megabytes = json.loads(done.stdout.splitlines()[-1])
    return seconds, processor, megabytes


def run_step(step: str, folder: Path) -> None:
    """Runs one step and prints what `measure` reads."""
    function, options = STEPS[step]
    start, processor = time.perf_counter(), time.process_time()
    function(folder, **options)
    seconds = time.perf_counter() - start, time.process_time() - processor
    print(json.dumps([*seconds, peak_megabytes()]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.split("\n\n")[0])
    for name, default, what in (
        ("--depth", 600, "slices"),
        ("--size", 512, "pixels a side"),
        ("--labels", 8, "organs"),
        ("--runs", 3, "of each step"),
    ):
        parser.add_argument(name, type=int, default=default, help=f"{what} (default: %(default)s)")
    parser.add_argument("--step", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.step:
        run_step(args.step, args.folder)
        return
    with tempfile.TemporaryDirectory() as folder:
        make_files(Path(folder), args.depth, args.size, args.labels)
        print(f"{args.depth}x{args.size}x{args.size}, {args.labels} labels\n")
        print("| step | s | processor s | of its floor | peak MB |\n|---|---|---|---|---|")
        floor = 0.0
        for step in STEPS:
            results = [measure(step, Path(folder)) for _ in range(args.runs)]
            seconds, processor = (median(r[i] for r in results) for i in (0, 1))
            floor = processor if "compress" in step else floor
            peak = max(r[2] for r in results)
            row = f"{seconds:.2f} | {processor:.2f} | {processor / floor:.2f} | {peak:.0f}"
            print(f"| {step} | {row} |", flush=True)


if __name__ == "__main__":
    main()
