"""`litemedsam measure`: volumes, diameters and intensities of masks."""

import argparse
import sys
from pathlib import Path

from litemedsam_jax.commands.arguments import refuse, tell_failures

DESCRIPTION = """\
Measures every label of masks: volume (ml), longest axial diameter and its perpendicular (RECIST
1.1), largest 3D diameter, bounding box, centroid, intensities of the image, number of parts.

  litemedsam measure out/ct.nii.gz --images ct.nii.gz -o ct.csv
  litemedsam measure SEGS --images IMGS -o measurements.csv -o measurements.json --overlay DIR

Masks are label files or npz with `segs`; images are what they were drawn on, of any kind that
`segment` takes, with their own values (HU, ...). Without --images, label volumes are measured by
their own grid and there are no intensities. Diameters run along voxel faces; the axial plane is
the patient's where the file says how it lies, else that of the slices. Lengths are mm, or pixels
(see the column `unit`) where there is no spacing.

Exit status: 0 all measured; 1 some could not be; 2 nothing to do.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("masks", type=Path, metavar="SEGS", help="a label file or npz, or a folder of them")
    add("-i", "--images", type=Path, metavar="IMGS", help="the image, or a folder of images")
    add(
        "-o",
        "--output",
        type=Path,
        action="append",
        metavar="FILE",
        help="CSV or JSON by its suffix; may be given twice (default: a table is printed)",
    )
    add("--overlay", type=Path, metavar="DIR", help="draw the diameters, an image a case")


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    from litemedsam_jax.imaging import file_kinds

    try:
        masks = file_kinds.cases_in(args.masks)
        if not masks:
            raise ValueError(f"{args.masks}: holds no masks")
        files = [(mask, args.images) for mask in masks]
        return measure_files(files, args.output or [], args.overlay)
    except (OSError, ValueError) as error:
        return refuse("measure", error)


def measure_files(
    files: list[tuple[Path, Path | None]], outputs: list[Path], overlays: Path | None = None
) -> int:
    """Measures files and writes or prints what was found.

    Args:
        files: of each case the masks and their image, the folder of images, or None.
        outputs: CSV and JSON files to write; none: a short table is printed.
        overlays: a folder for images of the diameters.

    Returns:
        The command's exit status.
    """
    from litemedsam_jax.measuring import cases

    failed: dict[str, str] = {}
    records = []
    for mask, images in files:
        try:
            image = None if images is None else cases.find_image(mask, images)
            case = cases.measure_case(mask, image)
            for note in case.notes:
                print(f"{case.name}: {note}", file=sys.stderr)
            records += [cases.as_record(case, one) for one in case.measurements]
            if overlays is not None:
                from litemedsam_jax.measuring.pictures import write_diameters

                write_diameters(overlays / f"{case.name}.png", case)
        except (OSError, ValueError, ModuleNotFoundError) as error:
            failed[mask.name] = str(error)
    for path in outputs:
        cases.write_records(path, records)
        print(f"{len(records)} labels: {path}")
    if not outputs:
        _print(records)
    return tell_failures(failed)


def _print(records: list[dict]) -> None:
    names = ("case", "label", "volume_ml", "longest_axial", "perpendicular_axial", "largest_3d",
             "mean", "sd")  # fmt: skip
    print("  ".join(names))
    for record in records:
        cells = (record[name] for name in names)
        print("  ".join(f"{c:.2f}" if isinstance(c, float) else str(c or "-") for c in cells))
