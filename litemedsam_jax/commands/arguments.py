"""What several commands share: arguments, the files of a folder, how faults are reported."""

import argparse
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from litemedsam_jax.commands import argument_types

if TYPE_CHECKING:
    from litemedsam_jax.imaging.postprocess import Step


def add_workers(parser: argparse.ArgumentParser, what: str = "cases") -> None:
    """`-num_workers`, in the reference's spelling and in the usual one."""
    parser.add_argument(
        "-num_workers",
        "--num-workers",
        type=int,
        default=2,
        metavar="N",
        help=f"{what} at a time, each in a process of its own (default: %(default)s)",
    )


def add_seed(parser: argparse.ArgumentParser, default: int, of: str) -> None:
    """`--seed`."""
    parser.add_argument(
        "--seed", type=int, default=default, metavar="N", help=f"of {of} (default: %(default)s)"
    )


def npz_files(folder: Path, what: str, *, below: bool = False) -> list[Path]:
    """The npz of a folder (below: of its sub-folders too), sorted. Raises FileNotFoundError.

    what: the folder should hold, for the message.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"{folder}: there is no such folder")
    entries = folder.rglob("*") if below else folder.iterdir()
    files = sorted(
        path for path in entries if path.suffix.lower() == ".npz" and not path.name.startswith(".")
    )
    if not files:
        raise FileNotFoundError(f"{folder}: holds no {what} (.npz)")
    return files


def os_message(error: OSError) -> str:
    """Which file or port failed and why, without the system's number of it."""
    return f"{error.filename}: {error.strerror}" if error.filename else str(error)


def refuse(command: str, error: Exception) -> int:
    """Says why a command cannot start; returns its exit status."""
    print(f"litemedsam {command}: {error}", file=sys.stderr)
    return 2


def add_postprocess(parser: argparse.ArgumentParser) -> None:
    """`--postprocess`; None where it is not given."""
    parser.add_argument(
        "--postprocess",
        type=argument_types.postprocess,
        metavar="STEPS",
        help="clean the masks by steps joined by commas: fill-holes, hull (of each slice), "
        "largest-part, min-ml=ML (drop smaller parts), smooth; none (default: none, but with "
        "weights of `litemedsam adapt` the step that it chose, if --strategy is the one it was "
        "chosen with)",
    )


def mask_steps(args: argparse.Namespace, by_slice: bool = False) -> "tuple[Step, ...]":
    """Steps for the masks of `--weights`; prints a line on weights that `litemedsam adapt` wrote.

    args: with `weights`, `strategy` and `postprocess`; by_slice and errors: see `steps_for`.
    """
    if args.weights is None and args.postprocess is None:
        return ()  # and nothing is imported
    from litemedsam_jax.weights.adapted_steps import steps_for

    chosen = steps_for(args.weights, args.strategy.name, args.postprocess, by_slice)
    if chosen.line:
        print(chosen.line, flush=True)
    return chosen.steps


def tell_failures(failed: Mapping[str, str]) -> int:
    """A line for each case that failed, and why; returns the exit status."""
    for case, reason in sorted(failed.items()):
        print(f"{case}: FAILED: {reason}", file=sys.stderr)
    return 1 if failed else 0
