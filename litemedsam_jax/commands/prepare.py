"""`litemedsam prepare volumes | images`: image files and masks to cases and training data."""

import argparse
import sys
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

from litemedsam_jax.commands.arguments import add_seed, add_workers, refuse, tell_failures

if TYPE_CHECKING:
    from litemedsam_jax.preparation.pairs import Sources

DESCRIPTION = """\
Turns image files and their masks into challenge cases (--cases) and training data.

  litemedsam prepare volumes -modality CT -img_path IMAGES -gt_path LABELS -output_path DATA --cases
  litemedsam prepare images -modality US -img_path IMAGES -gt_path MASKS -output_path DATA --cases

Cases go to DATA/imgs and DATA/gts: `infer.py -i DATA/imgs` segments them, `litemedsam evaluate
-g DATA/gts` scores the result. Training npz go to DATA/MedSAM_train and DATA/MedSAM_test.
-img_path and -gt_path are folders whose files are paired by name, or one image and its mask.

Exit status: 0 all done; 1 some failed (each is reported in one line); 2 nothing could start.
"""

_VOLUMES = """\
Volumes: NIfTI, NRRD, MHA/MHD, or a folder with one DICOM series. CT is windowed; other modalities
are clipped to the 0.5 and 99.5 percentiles of their values above zero. A mask may lie on a flipped
or cropped version of the image's grid: it is put in place by the headers.

  litemedsam prepare volumes -modality CT -anatomy Abd -img_path SERIES -gt_path labels.nii.gz \\
      -output_path data --cases
"""

_IMAGES = """\
2D images: PNG, JPEG, TIFF, BMP; 8 or 16 bit, grey, colour or palette. A mask is a label image
(grey or palette numbers; white on black; a colour a label), or with --masks objects one file an
object (MASKS/<case>/*.png, or MASKS/<case>_*.png).

  litemedsam prepare images -modality US -anatomy nerve -img_path IMAGES -gt_path MASKS \\
      -img_name_suffix .png -gt_name_suffix _mask.png -output_path data --cases
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    kinds = parser.add_subparsers(dest="kind", required=True, metavar="volumes|images")
    layout = argparse.RawDescriptionHelpFormatter
    volumes = kinds.add_parser("volumes", description=_VOLUMES, formatter_class=layout)
    images = kinds.add_parser("images", description=_IMAGES, formatter_class=layout)
    for kind, sub in (("volumes", volumes), ("images", images)):
        _add_files(sub, kind)
        _add_outputs(sub)
        _add_masks(sub)
    _add_volume_options(volumes)
    images.add_argument(
        "--masks",
        choices=("label", "objects"),
        default="label",
        help="one label image a case, or one file an object (default: %(default)s)",
    )
    images.add_argument(
        "--fill-outlines", action="store_true", help="masks are drawn contours: fill them"
    )
    images.add_argument(
        "--intensity",
        choices=("keep", "percentile"),
        default="keep",
        help="8-bit values as they are, or clipped to the 0.5 and 99.5 percentiles of those above "
        "zero; 16-bit values are scaled from their extremes by 'keep' (default: %(default)s)",
    )


def _add_files(parser: argparse.ArgumentParser, kind: str) -> None:
    add = parser.add_argument
    image_suffix = "_0000.nii.gz" if kind == "volumes" else ".png"
    mask_suffix = ".nii.gz" if kind == "volumes" else ".png"
    dicom = "; '' for folders with a DICOM series" if kind == "volumes" else ""
    add(
        "-modality",
        default="CT" if kind == "volumes" else "US",
        help="CT, MR, US, ...: part of the names (default: %(default)s)",
    )
    add("-anatomy", default="Abd", help="part of the names (default: %(default)s)")
    add("-img_path", type=Path, required=True, metavar="PATH", help="the images")
    add("-gt_path", type=Path, required=True, metavar="PATH", help="the masks")
    add(
        "-img_name_suffix",
        default=image_suffix,
        metavar="END",
        help=f"an image's name is the case and this{dicom} (default: %(default)s)",
    )
    add(
        "-gt_name_suffix",
        default=mask_suffix,
        metavar="END",
        help="a mask's name is the case and this (default: %(default)s)",
    )
    add(
        "-output_path",
        type=Path,
        default=Path("data/npz"),
        metavar="DIR",
        help="where to write (default: %(default)s)",
    )
    add_workers(parser)


def _add_outputs(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-prefix", metavar="TEXT", help="of the names (default: <modality>_<anatomy>_)")
    add("--cases", action="store_true", help="write challenge cases (imgs, boxes; gts beside them)")
    add(
        "--training",
        action="store_true",
        help="write training npz; the default, needed only to have both",
    )
    add(
        "--train-cases",
        type=int,
        default=40,
        metavar="N",
        help="the first N cases train, the rest test (default: %(default)s)",
    )
    add(
        "--boxes-per",
        choices=("label", "component"),
        default="label",
        help="one tight box a label, or one a connected part (default: %(default)s)",
    )
    add(
        "--jitter",
        type=int,
        default=0,
        metavar="PIXELS",
        help="move each side of a box outward by 0 to this, at random (default: %(default)s)",
    )
    add_seed(parser, 0, "the jitter")


def _add_masks(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add(
        "--min-pixels-2d",
        type=int,
        default=10,
        metavar="N",
        help="drop parts of fewer pixels, of volumes in each slice (default: %(default)s)",
    )
    add(
        "--keep-labels",
        type=int,
        nargs="+",
        default=[],
        metavar="LABEL",
        help="drop all labels but these (default: keep all)",
    )
    add(
        "--remove-labels",
        type=int,
        nargs="+",
        default=[],
        metavar="LABEL",
        help="labels to drop (the reference drops 12, FLARE's duodenum; default: none)",
    )
    add(
        "--split-instances",
        type=int,
        metavar="LABEL",
        help="number this label's connected parts as labels of their own (tumours)",
    )


def _add_volume_options(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    for name, default, what in (("level", 40, "centre"), ("width", 400, "width")):
        add(
            f"-window_{name}",
            type=float,
            default=default,
            metavar="HU",
            help=f"{what} of CT's window (default: %(default)s)",
        )
    add(
        "--intensity",
        choices=("window", "reference"),
        default="window",
        help="'window' maps the limits to 0 and 255; 'reference' maps the clipped volume's own "
        "extremes, truncating (default: %(default)s)",
    )
    add("--fill-nan", type=float, metavar="VALUE", help="stands for NaN and infinities")
    add(
        "--min-voxels-3d",
        type=int,
        default=100,
        metavar="N",
        help="first drop parts of fewer voxels (default: %(default)s)",
    )
    add("--save_nii", action="store_true", help="also write the training volumes as NIfTI")
    add(
        "--slices",
        choices=("range", "labelled", "all"),
        default="range",
        help="of training volumes: first to last labelled slice, labelled slices alone (the "
        "reference, which leaves gaps), or all (default: %(default)s)",
    )
    add(
        "--mask-grid",
        choices=("exact", "resample", "index"),
        default="exact",
        help="how a mask finds its place: by its header, on the same voxels; by its header, nearest"
        " label; by index, headers ignored (default: %(default)s)",
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    from litemedsam_jax.preparation import pair_to_case, pairs

    work = pair_to_case.prepare_volume if args.kind == "volumes" else pair_to_case.prepare_image
    try:
        options = _options(args)
        sources = pairs.find_sources(
            args.img_path,
            args.gt_path,
            args.img_name_suffix,
            args.gt_name_suffix,
            per_object=getattr(args, "masks", "") == "objects",
        )
    except (OSError, ValueError) as error:
        return refuse("prepare", error)
    tasks = [
        pair_to_case.Task(source, "train" if i < args.train_cases else "test")
        for i, source in enumerate(sources.cases)
    ]
    return _report(partial(work, options=options), tasks, sources, args)


def _report(work, tasks: list, sources: "Sources", args: argparse.Namespace) -> int:
    from litemedsam_jax.parallel import run_each

    missing = sources.without_image
    failed, left_out = dict(missing), {}
    for outcome in run_each(work, tasks, args.num_workers):
        if outcome.result is None:
            failed[outcome.item.source.case] = outcome.error or "unknown reason"
            continue
        for note in outcome.result.notes:
            print(f"{outcome.item.source.case}: warning: {note}", file=sys.stderr)
        if outcome.result.left_out is not None:
            left_out[outcome.item.source.case] = outcome.result.left_out
    if alone := sources.without_mask:
        names = ", ".join(alone[:5]) + (", ..." if len(alone) > 5 else "")
        print(f"{len(alone)} images without a mask were left out: {names}", file=sys.stderr)
    for case, reason in sorted(left_out.items()):
        print(f"{case}: {reason}", file=sys.stderr)
    total = len(tasks) + len(missing)
    done = total - len(failed) - len(left_out)
    print(f"{done} of {total} cases prepared; {args.output_path}")
    # A mistyped label leaves every case out: no success either.
    return tell_failures(failed) or (0 if done else 1)


def _options(args: argparse.Namespace):
    from litemedsam_jax.imaging.boxes import Jitter
    from litemedsam_jax.imaging.intensity import IntensityOptions
    from litemedsam_jax.preparation.pair_to_case import PrepareOptions

    common = {
        "output": args.output_path,
        "modality": args.modality,
        "anatomy": args.anatomy,
        "prefix": args.prefix,
        "training": args.training or not args.cases,
        "cases": args.cases,
        "min_pixels": args.min_pixels_2d,
        "keep_labels": tuple(args.keep_labels),
        "remove_labels": tuple(args.remove_labels),
        "split_label": args.split_instances,
        "boxes_per": args.boxes_per,
        "jitter": Jitter(args.jitter, args.seed) if args.jitter else None,
    }
    if args.kind == "images":
        percentile = IntensityOptions("other") if args.intensity == "percentile" else None
        return PrepareOptions(**common, fill_outlines=args.fill_outlines, intensity=percentile)
    intensity = IntensityOptions(
        args.modality, args.window_level, args.window_width, args.intensity, args.fill_nan
    )
    return PrepareOptions(
        **common,
        intensity=intensity,
        min_voxels=args.min_voxels_3d,
        save_nii=args.save_nii,
        slices=args.slices,
        mask_grid=args.mask_grid,
    )
