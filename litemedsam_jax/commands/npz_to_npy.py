"""`litemedsam npz-to-npy`: training npz to npy slices."""

import argparse
from collections import Counter
from functools import partial
from pathlib import Path

from litemedsam_jax.commands.arguments import add_workers, npz_files, refuse, tell_failures

DESCRIPTION = """\
Writes training npz (imgs, gts) as npy slices: NPY/imgs/<case>-<slice>.npy and NPY/gts/....

  litemedsam npz-to-npy -npz_dir data/npz/MedSAM_train -npy_dir data/npy

Sub-folders are searched too. uint8 takes a 24th of the reference's float64 and trains the same.

Exit status: 0 all done; 1 some failed (each is reported in one line); 2 nothing to do.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
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
    add_workers(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    from litemedsam_jax.parallel import run_each
    from litemedsam_jax.preparation.npy import npz_to_npy

    try:
        files = npz_files(args.npz_dir, "training cases", below=True)
        twice = [
            name for name, count in Counter(f.name.casefold() for f in files).items() if count > 1
        ]
        if twice:
            raise ValueError(f"{args.npz_dir}: two files are called {twice[0]}; rename one")
    except (OSError, ValueError) as error:
        return refuse("npz-to-npy", error)
    work = partial(npz_to_npy, folder=args.npy_dir, dtype=args.dtype, skip_empty=args.skip_empty)
    outcomes = list(run_each(work, files, args.num_workers))
    failed = {o.item.name: o.error for o in outcomes if o.error is not None}
    slices = sum(outcome.result or 0 for outcome in outcomes)
    print(f"{slices} slices of {len(files) - len(failed)} of {len(files)} cases; {args.npy_dir}")
    return tell_failures(failed)
