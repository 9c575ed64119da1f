"""`litemedsam evaluate`: masks against ground truth."""

import argparse
import sys
from pathlib import Path

from litemedsam_jax.commands.argument_types import yes_or_no
from litemedsam_jax.commands.arguments import add_workers, refuse, tell_failures

DESCRIPTION = """\
Scores masks against ground truth: DSC and NSD per case, HD95 on request.

  litemedsam evaluate -s SEGS -g GTS -csv_dir metrics.csv -num_workers 4

SEGS and GTS are folders with files of the same names (or two files): npz with `segs` and `gts`
(and `spacing`), or label files (NIfTI, NRRD, MHA, PNG, ...).

The scores are those of the CVPR 2024 challenge, so that they compare with published ones. Their
definitions have known faults (2D NSD counts area, 3D NSD uses the spacing in the wrong order, NSD
is 0 below a DSC of 0.2, a gap in the labels loses the case); --corrected mends them.

Exit status: 0 all cases scored; 1 some could not be (each is reported in one line);
2 nothing to do.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("-s", "--seg_dir", type=Path, required=True, metavar="DIR", help="the masks")
    add("-g", "--gt_dir", type=Path, required=True, metavar="DIR", help="the ground truth")
    add(
        "-csv_dir",
        "--csv",
        type=Path,
        default=Path("metrics.csv"),
        metavar="FILE",
        help="table to write, a row per case (default: %(default)s)",
    )
    add_workers(parser)
    add(
        "-nsd",
        type=yes_or_no,
        default=True,
        metavar="yes|no",
        help="whether to compute NSD (default: yes)",
    )
    add("--corrected", action="store_true", help="the definitions without their faults")
    add("--hd95", action="store_true", help="also the 95th percentile Hausdorff distance")
    add(
        "--tolerance",
        type=float,
        default=2.0,
        metavar="MM",
        help="of NSD: mm in 3D, pixels in 2D (default: %(default)s)",
    )
    add("--per-label", type=Path, metavar="FILE", help="also a CSV with a row per case and label")
    add("--summary", type=Path, metavar="FILE", help="also the summary by modality as CSV")
    add("--plot", type=Path, metavar="FILE", help="also the summary as an image (.png, .svg, .pdf)")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    from litemedsam_jax.evaluation import tables
    from litemedsam_jax.evaluation.folders import ScoreOptions, find_pairs, score_pairs

    options = ScoreOptions(args.corrected, args.nsd, args.hd95, args.tolerance)
    columns = ["dsc"] + ["nsd"] * args.nsd + ["hd95"] * args.hd95
    try:
        pairs, missing = find_pairs(args.seg_dir, args.gt_dir)
        scores = score_pairs(pairs, options, args.num_workers)
        failed = missing | scores.failed
        _write(args, scores.cases, columns)
    except (OSError, ValueError) as error:
        return refuse("evaluate", error)
    for case, score in scores.cases.items():
        for note in score.notes:
            print(f"{case}: {note}", file=sys.stderr)
    status = tell_failures(failed)
    if scores.cases:
        rows = tables.summary_rows(scores.cases, columns)
        print(tables.as_text(tables.summary_header(columns), rows))
    total = len(scores.cases) + len(failed)
    print(f"{len(scores.cases)} of {total} cases scored; table: {args.csv}")
    return status


def _write(args: argparse.Namespace, cases, columns: list[str]) -> None:
    from litemedsam_jax.evaluation import plots, tables

    tables.write_csv(args.csv, ["case", *columns], tables.case_rows(cases, columns))
    if args.per_label:
        rows = tables.label_rows(cases, columns)
        tables.write_csv(args.per_label, ["case", "label", *columns], rows)
    if args.summary:
        rows = tables.summary_rows(cases, columns)
        tables.write_csv(args.summary, tables.summary_header(columns), rows)
    if args.plot and cases:
        plots.write_plot(args.plot, cases, columns)
