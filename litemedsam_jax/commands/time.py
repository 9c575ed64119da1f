"""`litemedsam time`: seconds per case of a container image, as the challenge counts them."""

import argparse
import shlex
from pathlib import Path
from statistics import fmean, median
from typing import TYPE_CHECKING

from litemedsam_jax.commands.arguments import npz_files, refuse, tell_failures

if TYPE_CHECKING:
    from litemedsam_jax.evaluation.timing import Container

DESCRIPTION = """\
Times a container image case by case: each case in a fresh container (8 GB of memory, no network),
from its start to its exit.

  litemedsam time --image litemedsam -i demo/imgs -o timed

Writes the masks to OUT and OUT/running_time.csv (CaseName, RunningTime), a row as soon as a case is
done. The image must find a case in /workspace/inputs and write to /workspace/outputs.

Exit status: 0 all cases ran; 1 some failed (each is reported in one line); 2 nothing could start.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("--image", required=True, metavar="NAME", help="the image, name[:tag]")
    add("-i", "--input_dir", type=Path, required=True, metavar="DIR", help="folder of cases (npz)")
    add("-o", "--output_dir", type=Path, required=True, metavar="DIR", help="masks and times")
    add("--load", type=Path, metavar="FILE", help="load the image from this archive (.tar[.gz])")
    add("--engine", metavar="PROGRAM", help="docker or podman (default: the one that is there)")
    add("--memory", default="8g", help="limit of a container (default: %(default)s)")
    add(
        "--command",
        type=_words,
        default="sh predict.sh",
        metavar="WORDS",
        help="what the container runs (default: %(default)s)",
    )
    add(
        "--timeout",
        type=float,
        default=3600,
        metavar="SECONDS",
        help="give a case up after this (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    from litemedsam_jax.evaluation import timing

    try:
        cases = npz_files(args.input_dir, "cases")
        engine = timing.find_engine(args.engine)
        if args.load:
            timing.load_image(engine, args.load)
        container = timing.Container(engine, args.image, args.memory, args.command, args.timeout)
        timing.demand_image(container)
        seconds, failed = _time_all(container, cases, args.output_dir)
    except (OSError, RuntimeError) as error:
        return refuse("time", error)
    if seconds:
        values = list(seconds.values())
        print(f"mean {fmean(values):.2f} s, median {median(values):.2f} s, max {max(values):.2f} s")
    print(f"{len(seconds)} of {len(cases)} cases ran; {args.output_dir / 'running_time.csv'}")
    return tell_failures(failed)


def _words(text: str) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(text))
    except ValueError as error:
        raise argparse.ArgumentTypeError(f"{text!r}: {error}") from None


def _time_all(
    container: "Container", cases: list[Path], folder: Path
) -> tuple[dict[str, float], dict[str, str]]:
    from litemedsam_jax.evaluation import tables, timing
    from litemedsam_jax.progress import ProgressDisplay

    seconds: dict[str, float] = {}
    failed: dict[str, str] = {}
    table = folder / "running_time.csv"
    with ProgressDisplay("cases", len(cases)) as shown:
        for case in cases:
            try:
                seconds[case.name] = timing.time_case(container, case, folder / case.name)
            except (OSError, RuntimeError) as error:
                failed[case.name] = str(error)
            tables.write_csv(table, ("CaseName", "RunningTime"), list(seconds.items()))
            shown.advance()
    return seconds, failed
