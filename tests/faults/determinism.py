"""The same cases, run again, on fewer cores, and with older instructions: are the masks the same?

    python -m tests.faults.determinism [FOLDER of cases]

XLA takes as many threads as the process may use cores, so that `taskset` limits them. Again and on
fewer cores the masks must be the same to the last pixel. Machine code for other instruction sets
rounds otherwise: there each label's DSC must be within the parity bound. Exit status 0: so it is.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

from tests.faults.kill_infer import REPOSITORY, infer

LOWEST_DSC = 0.9995


def compiled(folder: Path, isa: str) -> dict[str, str]:
    """The environment in which programs for an instruction set are found."""
    environment = {**os.environ, "LITEMEDSAM_PROGRAMS": str(folder / isa)}
    command = [sys.executable, "-m", "litemedsam_jax", "compile", "--isa", isa]
    subprocess.run(command, cwd=REPOSITORY, check=True, env=environment, capture_output=True)
    return environment


def compare(first: Path, second: Path) -> tuple[int, int, float]:
    """Pixels, how many of them differ, and the lowest DSC of a label."""
    pixels, differing, lowest = 0, 0, 1.0
    for path in sorted(first.glob("*.npz")):
        with np.load(path) as a, np.load(second / path.name) as b:
            one, other = a["segs"], b["segs"]
        pixels += one.size
        differing += int((one != other).sum())
        for label in np.unique(one[one > 0]):
            sizes = int((one == label).sum()) + int((other == label).sum())
            lowest = min(lowest, 2 * int(((one == label) & (other == label)).sum()) / sizes)
    return pixels, differing, lowest


def main() -> int:
    cases = Path(sys.argv[1] if len(sys.argv) > 1 else REPOSITORY / "demo" / "imgs").resolve()
    cores = sorted(os.sched_getaffinity(0))
    faults = 0
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        native, old = compiled(folder, "native"), compiled(folder, "avx2")

        def run(what: str, environment: dict[str, str], count: int) -> Path:
            os.sched_setaffinity(0, cores[:count])  # the process inherits it
            masks = folder / what.replace(" ", "_")
            command = infer(cases, masks)
            subprocess.run(
                command, cwd=REPOSITORY, check=True, env=environment, capture_output=True
            )
            return masks

        first = run("first", native, len(cores))
        for what, environment, count, exact in (
            ("again", native, len(cores), True),
            ("on one core", native, 1, True),
            ("AVX2 programs", old, len(cores), False),
            ("AVX2 programs on one core", old, 1, False),
        ):
            pixels, differing, lowest = compare(first, run(what, environment, count))
            well = differing == 0 if exact else lowest >= LOWEST_DSC
            faults += not well
            told = f"{differing} of {pixels} pixels differ, lowest DSC of a label {lowest:.6f}"
            print(f"{what}: {told}{'' if well else ': FAULT'}", flush=True)
    return 1 if faults else 0


if __name__ == "__main__":
    sys.exit(main())
