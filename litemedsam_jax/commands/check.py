"""`litemedsam check`: what is wrong with a folder of cases."""

import argparse
from functools import partial
from pathlib import Path

from litemedsam_jax.commands.arguments import add_workers, npz_files, refuse

DESCRIPTION = """\
Reads every case (npz) of a folder and says what is wrong with which file.

  litemedsam check data/imgs -g data/gts

Exit status: 0 nothing is wrong; 1 something is; 2 there is nothing to read.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="folder of cases; sub-folders are read too")
    add("-g", "--gt_dir", type=Path, metavar="DIR", help="ground truth, to check beside the cases")
    add_workers(parser)


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    from litemedsam_jax.parallel import run_each

    try:
        files = npz_files(args.folder, "cases", below=True)
    except FileNotFoundError as error:
        return refuse("check", error)
    outcomes = run_each(partial(_check, gts=args.gt_dir), files, args.num_workers)
    faults = {o.item: [o.error] if o.error else o.result or [] for o in outcomes}
    bad = {path: reasons for path, reasons in sorted(faults.items()) if reasons}
    for path, reasons in bad.items():
        for fault in reasons:
            print(f"{path}: {fault}")
    print(f"{len(files) - len(bad)} of {len(files)} cases are fine")
    return 1 if bad else 0


def _check(path: Path, gts: Path | None) -> list[str]:
    from litemedsam_jax.preparation.check import faults_of_case

    return faults_of_case(path, None if gts is None else gts / path.name)
