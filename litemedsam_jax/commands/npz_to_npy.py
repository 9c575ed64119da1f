"""`litemedsam npz-to-npy`: training npz to npy slices."""

import argparse
import sys
from functools import partial
from pathlib import Path

DESCRIPTION = """\
Writes training npz (imgs, gts) as npy slices: NPY/imgs/<case>-<slice>.npy and NPY/gts/....

  litemedsam npz-to-npy -npz_dir data/npz/MedSAM_train -npy_dir data/npy

Sub-folders are searched too. uint8 takes a 24th of the reference's float64 and trains the same.

Exit status: 0 all done; 1 some failed (each is told in one line); 2 nothing to do.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "-npz_dir",
        type=Path,
        default=Path("data/npz/MedSAM_train"),
        metavar="DIR",
        help="training npz (default: %(default)s)",
    )
    add(
        "-npy_dir",
        type=Path,
        default=Path("data/npy"),
        metavar="DIR",
        help="where to write (default: %(default)s)",
    )
    add(
        "--dtype",
        choices=("uint8", "float64"),
        default="uint8",
        help="compact, or as the reference writes it (default: %(default)s)",
    )
    add("--skip-empty", action="store_true", help="leave out slices without labels")
    add(
        "-num_workers",
        "--num-workers",
        type=int,
        default=2,
        metavar="N",
        help="processes (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    from litemedsam_jax.parallel import run_each
    from litemedsam_jax.preparation.npy import npz_to_npy

    files = sorted(args.npz_dir.rglob("*.npz"))
    names = [file.name for file in files]
    doubles = sorted({name for name in names if names.count(name) > 1})
    if not files or doubles:
        fault = f"two files are called {doubles[0]}" if doubles else "holds no npz"
        print(f"litemedsam npz-to-npy: {args.npz_dir}: {fault}", file=sys.stderr)
        return 2
    work = partial(npz_to_npy, folder=args.npy_dir, dtype=args.dtype, skip_empty=args.skip_empty)
    outcomes = list(run_each(work, files, args.num_workers))
    failed = [outcome for outcome in outcomes if outcome.error is not None]
    for outcome in failed:
        print(f"{outcome.item.name}: FAILED: {outcome.error}", file=sys.stderr)
    slices = sum(outcome.result or 0 for outcome in outcomes)
    print(f"{slices} slices of {len(files) - len(failed)} of {len(files)} cases; {args.npy_dir}")
    return 1 if failed else 0
