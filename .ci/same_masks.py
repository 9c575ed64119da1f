"""Compares every npz of the second folder with its namesake in the first: `same_masks.py A B`.

Machine code for other instruction sets rounds otherwise, so a pixel on a boundary may flip; the
bound is the one that parity with the reference has.
"""

import sys
from pathlib import Path

import numpy as np

LOWEST_DSC = 0.9995


def main(first: Path, second: Path) -> int:
    paths = sorted(second.glob("*.npz"))
    differing, lowest = 0, 1.0
    for path in paths:
        with np.load(first / path.name) as a, np.load(path) as b:
            one, other = a["segs"], b["segs"]
        if one.shape != other.shape or one.dtype != other.dtype:
            print(f"{path.name}: {other.shape} {other.dtype}, not {one.shape} {one.dtype}")
            return 1
        differing += int((one != other).sum())
        for label in range(1, int(max(one.max(), other.max())) + 1):
            sizes = int((one == label).sum()) + int((other == label).sum())
            common = int(((one == label) & (other == label)).sum())
            lowest = min(lowest, 2 * common / sizes if sizes else 1.0)
    print(f"{len(paths)} cases: {differing} pixels differ, lowest DSC of a label {lowest:.6f}")
    return 0 if paths and lowest >= LOWEST_DSC else 1


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1]), Path(sys.argv[2])))
