"""`litemedsam export`: masks of cases as label files for a viewer."""

import argparse
from pathlib import Path

from litemedsam_jax.commands.arguments import npz_files, refuse, tell_failures

DESCRIPTION = """\
Writes masks (npz with `segs` or `gts`) as label files: volumes as NIfTI, NRRD or MHA on the grid of
the image that the case was prepared from, 2D images as PNG.

  litemedsam export segs -i data/imgs -o labels

Cases that `litemedsam prepare` wrote carry origin, direction, spacing and each box's label; from
others the volume starts at 0, with the case's spacing, and mask k is label k.

Exit status: 0 all done; 1 some failed (each is reported in one line); 2 nothing to do.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("segs", type=Path, metavar="SEGS", help="folder of masks (npz)")
    add("-i", "--input_dir", type=Path, metavar="DIR", help="their cases, for geometry and labels")
    add("-o", "--output_dir", type=Path, required=True, metavar="DIR", help="where to write")
    add(
        "--format",
        choices=("nii.gz", "nrrd", "mha"),
        default="nii.gz",
        help="of volumes (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    from litemedsam_jax.parallel import run_each
    from litemedsam_jax.preparation.export import export_case

    try:
        files = npz_files(args.segs, "masks")
    except FileNotFoundError as error:
        return refuse("export", error)

    def work(path: Path) -> Path:
        case = args.input_dir / path.name if args.input_dir else None
        return export_case(path, case, args.output_dir, args.format)

    failed = {o.item.name: o.error for o in run_each(work, files, workers=1) if o.error}
    print(f"{len(files) - len(failed)} of {len(files)} masks written; {args.output_dir}")
    return tell_failures(failed)
