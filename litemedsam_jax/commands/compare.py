"""`litemedsam compare`: two sets of masks of the same cases."""

import argparse
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

from litemedsam_jax.commands.arguments import add_workers, refuse, tell_failures

if TYPE_CHECKING:
    from litemedsam_jax.evaluation.comparison import Paired
    from litemedsam_jax.evaluation.folders import FolderScores, Pair

DESCRIPTION = """\
Compares two sets of masks of the same cases: DSC, NSD and time side by side.

  litemedsam compare SEGS_A SEGS_B -g GTS --images IMGS --pictures DIR

Without -g, A itself stands for the truth: the table then says how far B departs from A. Times come
from the `efficiency.csv` beside the masks. --pictures draws the cases where B is worst and best
against A (all of: image with A, with B, with the truth).

Exit status: 0 all cases compared; 1 some could not be; 2 nothing to do.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("a", type=Path, metavar="SEGS_A", help="folder of masks")
    add("b", type=Path, metavar="SEGS_B", help="folder of masks with the same names")
    add("-g", "--gt_dir", type=Path, metavar="DIR", help="ground truth (default: SEGS_A)")
    add("-csv_dir", "--csv", type=Path, metavar="FILE", help="also write the table as CSV")
    add_workers(parser)
    add("--corrected", action="store_true", help="definitions without faults (see `evaluate`)")
    add(
        "--images",
        type=Path,
        metavar="DIR",
        help="the cases' images (npz or image files), for --pictures",
    )
    add("--pictures", type=Path, metavar="DIR", help="draw the worst and best cases here")
    add(
        "--extremes",
        type=int,
        default=3,
        metavar="N",
        help="draw the N worst and N best (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    if args.pictures and not args.images:
        return refuse("compare", ValueError("--pictures needs --images DIR"))
    from litemedsam_jax.evaluation import comparison, tables

    try:
        (pairs_a, scores_a), (pairs_b, scores_b) = (_score(args, f) for f in (args.a, args.b))
        times = (comparison.read_times(folder) for folder in (args.a, args.b))
        paired = comparison.pair_up(scores_a.cases, scores_b.cases, *times)
        if not paired:
            raise ValueError(f"no case could be scored in both {args.a} and {args.b}")
        rows = [*comparison.rows_of(paired), comparison.mean_row(paired)]
        if args.csv:
            tables.write_csv(args.csv, comparison.HEADER, rows)
    except (OSError, ValueError) as error:
        return refuse("compare", error)
    print(tables.as_text(comparison.HEADER, rows))
    print(comparison.verdict(paired))
    failed = {f"A {k}": v for k, v in scores_a.failed.items()}
    failed |= {f"B {k}": v for k, v in scores_b.failed.items()}
    if args.pictures:
        failed |= _draw(args, paired, pairs_a, pairs_b)
    return tell_failures(failed)


def _score(args: argparse.Namespace, folder: Path) -> "tuple[dict[str, Pair], FolderScores]":
    from litemedsam_jax.evaluation.folders import (
        FolderScores,
        ScoreOptions,
        find_pairs,
        score_pairs,
    )

    truth = args.gt_dir or args.a
    pairs, missing = find_pairs(folder, truth, truth_key=None if args.gt_dir else "segs")
    scores = score_pairs(pairs, ScoreOptions(corrected=args.corrected), args.num_workers)
    return {p.case: p for p in pairs}, FolderScores(scores.cases, missing | scores.failed)


def _draw(
    args: argparse.Namespace,
    paired: "Sequence[Paired]",
    pairs_a: "dict[str, Pair]",
    pairs_b: "dict[str, Pair]",
) -> dict[str, str]:
    """Images named by rank; returns what could not be drawn."""
    ranked = sorted((p for p in paired if p.gain == p.gain), key=lambda p: p.gain)
    count = min(args.extremes, len(ranked))
    chosen = {f"worst{i + 1}": ranked[i] for i in range(count)}
    chosen |= {f"best{i + 1}": ranked[-1 - i] for i in range(min(count, len(ranked) - count))}
    failed = {}
    for rank, pair in chosen.items():
        try:
            path = _draw_case(args, rank, pair, pairs_a[pair.case], pairs_b[pair.case])
            print(f"{rank}: {pair.case} ({pair.gain:+.4f}): {path}")
        except (OSError, ValueError) as error:
            failed[pair.case] = f"not drawn: {error}"
    return failed


def _draw_case(args: argparse.Namespace, rank: str, paired: "Paired", a: "Pair", b: "Pair") -> Path:
    import numpy as np

    from litemedsam_jax.drawing.overlay import write_image
    from litemedsam_jax.evaluation import comparison, folders
    from litemedsam_jax.imaging import file_kinds
    from litemedsam_jax.imaging.opened_image import open_image
    from litemedsam_jax.measuring.cases import find_image

    name = file_kinds.stem_of(paired.case)
    image = open_image(find_image(a.seg, args.images))
    values = image.network_image()
    read = folders.read_pair(a)
    masks = {
        f"A, DSC {paired.dsc[0]:.3f}": read.segs,
        f"B, DSC {paired.dsc[1]:.3f}": folders.read_pair(b).segs,
    }
    if args.gt_dir:
        masks["ground truth"] = read.gts
    values = values[0] if image.flat and read.segs.ndim == 2 else values
    spacing, direction = (
        None if one is None else np.array(one) for one in (image.spacing, image.direction)
    )
    drawn = comparison.panels_of_case(values, image.boxes, spacing, masks, direction)
    path = args.pictures / f"{rank}_{name}.png"
    write_image(path, drawn)
    return path
