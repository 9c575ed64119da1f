"""Compares the masks of all shared cases with the PyTorch reference's: `.ci/parity.py [SEGS]`.

Segments ../shared/cases as a user does, with infer.py, into the folder SEGS (default: a temporary
one), and compares every label with ../shared/reference/segs. Says so and passes where there is no
../shared.
"""

import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

REPOSITORY = Path(__file__).resolve().parents[1]
SHARED = REPOSITORY.parent / "shared"
MEAN_DSC, LOWEST_DSC = 0.9995, 0.995


def compare(ours: Path, reference: Path) -> tuple[int, list[float]]:
    """Pixels that differ, and the DSC of each label that either has."""
    with np.load(ours) as a, np.load(reference) as b:
        one, other = a["segs"], b["segs"]
    if one.shape != other.shape or one.dtype != other.dtype:
        sys.exit(f"{ours.name}: {one.shape} {one.dtype}, not {other.shape} {other.dtype}")
    scores = []
    for label in np.union1d(np.unique(one), np.unique(other)):
        if label:
            a, b = one == label, other == label
            scores.append(2 * float((a & b).sum()) / float(a.sum() + b.sum()))
    return int((one != other).sum()), scores


def main(segs: Path) -> int:
    """Segments, compares, prints a line for each case that differs; the exit status."""
    cases = SHARED / "cases" / "imgs"
    if not cases.is_dir():
        print(f"\n!!! Parity of masks was NOT checked: there is no {cases}.")
        return 0
    command = [sys.executable, "infer.py", "-i", str(cases), "-o", str(segs), "--skip-existing"]
    subprocess.run(command, cwd=REPOSITORY, check=True)
    every, differing, pixels = [], 0, 0
    paths = sorted(cases.glob("*.npz"))
    for path in paths:
        count, scores = compare(segs / path.name, SHARED / "reference" / "segs" / path.name)
        every += scores
        differing += count > 0
        with np.load(segs / path.name) as ours:
            pixels += ours["segs"].size
        if count:
            print(f"{path.name}: {count} pixels differ, lowest DSC {min(scores):.6f}")
    mean, lowest = float(np.mean(every)), min(every)
    print(
        f"{len(paths)} cases ({pixels} pixels), {len(every)} labels: {differing} cases differ, "
        f"mean DSC {mean:.6f} (at least {MEAN_DSC}), lowest {lowest:.6f} (at least {LOWEST_DSC})"
    )
    return 0 if mean >= MEAN_DSC and lowest >= LOWEST_DSC else 1


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(main(Path(sys.argv[1])))
    with tempfile.TemporaryDirectory() as folder:
        sys.exit(main(Path(folder)))
