"""`litemedsam split`: cases for training, validation and testing."""

import argparse
import re
import shutil
from pathlib import Path

from litemedsam_jax.commands.arguments import add_seed, refuse

DESCRIPTION = """\
Divides the cases of a folder at random, the same way for the same seed. Nothing is ever moved.

  litemedsam split DATA -o OUT                          lists: OUT/training.txt, ...
  litemedsam split DATA -o OUT --copy                   copies: OUT/training/..., ...
  litemedsam split DATA -o OUT --patient '(P[0-9]+)_'   cases of one patient stay together

All files of a case (image, mask; `_0000` left out) go together, in whatever sub-folder they are.

Exit status: 0 done; 2 not done.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("folder", type=Path, metavar="DATA", help="folder of cases")
    add("-o", "--output_dir", type=Path, required=True, metavar="OUT", help="lists or copies")
    for part in ("validation", "testing"):
        add(
            f"--{part}",
            type=float,
            default=0.1,
            metavar="SHARE",
            help=f"of the cases (or patients) for {part} (default: %(default)s)",
        )
    add_seed(parser, 2023, "the order in which cases are drawn")
    add(
        "--patient",
        metavar="REGEX",
        help="finds the patient in a case's name (its first group, else all of the match)",
    )
    add("--copy", action="store_true", help="copy the files, sub-folders kept")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    from litemedsam_jax.files import replacing
    from litemedsam_jax.preparation.split import divide, files_by_case

    try:
        if not args.folder.is_dir():
            raise FileNotFoundError(f"{args.folder}: there is no such folder")
        if args.copy and args.output_dir.resolve().is_relative_to(args.folder.resolve()):
            raise ValueError(f"{args.output_dir}: lies inside {args.folder}; copy to elsewhere")
        files = files_by_case(args.folder)
        parts = divide(list(files), args.validation, args.testing, args.seed, args.patient)
        for part, cases in parts.items():
            with replacing(args.output_dir / f"{part}.txt") as beside:
                beside.write_text("".join(f"{case}\n" for case in cases), encoding="utf-8")
            for file in (f for case in cases for f in files[case] if args.copy):
                with replacing(args.output_dir / part / file.relative_to(args.folder)) as beside:
                    shutil.copyfile(file, beside)
    except (OSError, ValueError, re.error) as error:
        return refuse("split", error)
    print(", ".join(f"{part} {len(cases)}" for part, cases in parts.items()) + " cases")
    return 0
