"""`infer.py`, `litemedsam segment`: masks for a folder of cases."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from litemedsam_jax import progress
from litemedsam_jax.commands import argument_types
from litemedsam_jax.commands.arguments import add_postprocess, mask_steps
from litemedsam_jax.weights import default_weights

if TYPE_CHECKING:
    from litemedsam_jax.batch.folder import BatchOptions, Summary
    from litemedsam_jax.imaging.image_case import FileOptions

DESCRIPTION = """\
Segments every case (npz) of a folder inside its boxes.

  python infer.py -i demo/imgs -o demo/segs

A case holds `imgs` and `boxes`: a 2D image (H, W, 3) or (H, W) with boxes (N, 4) as
x_min, y_min, x_max, y_max, or a volume (D, H, W) with boxes (N, 6) as
x_min, y_min, z_min, x_max, y_max, z_max, all inclusive pixel indices.
The output has the case's name and holds `segs`, in which box k writes the label k.
`efficiency.csv` beside the masks lists the seconds of each case.

Image files (NIfTI, NRRD, MHA, a folder with a DICOM series, PNG, JPEG, TIFF) are segmented too,
alone or in a folder; --boxes says where their boxes are:

  python infer.py -i ct.nii.gz -o out --boxes boxes.json
  python infer.py -i series/ -o out --boxes labels.nii.gz --overlay out

a JSON of 3D boxes ([[x_min, y_min, z_min, x_max, y_max, z_max], ...], or {"units": "mm", "boxes":
[...]}) or of boxes on single slices ([{"z": 40, "box": [x_min, y_min, x_max, y_max]}], see
docs/prompts.md), a CSV with such columns (and case, units), a mask whose labels are boxed, or a
folder of these named as the images. The output has the input's name, kind and grid; a mask's
labels are kept.

Exit status: 0 all cases done; 1 some failed (each is reported in one line); 2 nothing could start.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    add = parser.add_argument
    add("-i", "--input_dir", type=Path, required=True, metavar="DIR", help="folder of cases")
    add("-o", "--output_dir", type=Path, required=True, metavar="DIR", help="folder for the masks")
    add(
        "-lite_medsam_checkpoint_path",
        "--weights",
        type=Path,
        metavar="FILE",
        help=f"weights: .safetensors, or PyTorch's .pth (default: {default_weights.DESCRIPTION})",
    )
    add(
        "--strategy",
        type=argument_types.strategy,
        default="reference",
        metavar="NAME",
        help="'reference': the masks of the PyTorch reference, whose 3D propagation depends on a "
        "box's number; 'clean': its own without that; 'best': better masks at up to twice the "
        "cost; 'thorough': at up to five times; or parts joined by '+', see docs/accuracy.md "
        "(default: %(default)s)",
    )
    add(
        "--boxes",
        default="file",
        metavar="file|gt|PATH",
        help="'file': the npz's own boxes; 'gt': around each label of its `gts`, slice by slice "
        "(the output then holds segs, gts and spacing); a PATH: for image files, see below "
        "(default: %(default)s)",
    )
    add(
        "--bbox-shift",
        type=int,
        default=5,
        metavar="PIXELS",
        help="with --boxes gt: widen boxes by this, in the 256x256 frame (default: %(default)s)",
    )
    add_postprocess(parser)
    add(
        "--measure",
        action="store_true",
        help="also write measurements.csv and .json beside the masks: volumes, diameters, "
        "intensities, see `litemedsam measure`",
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="segment all cases (default)")
    existing.add_argument(
        "--skip-existing", action="store_true", help="leave cases whose output exists"
    )
    add("--overlay", type=Path, metavar="DIR", help="also write an overlay (PNG) of every result")
    add(
        "--overlay-format",
        choices=("png", "gif", "mp4"),
        default="png",
        help="gif and mp4 scroll through a volume's slices (default: %(default)s)",
    )
    add("--save_overlay", action="store_true", help="the reference's way to ask for overlays")
    add(
        "-png_save_dir",
        type=Path,
        default=Path("overlay"),
        metavar="DIR",
        help="where --save_overlay writes (default: %(default)s)",
    )
    add(
        "-num_workers",
        "--num-workers",
        type=int,
        default=1,
        metavar="N",
        help="processes, each with its own model; one uses all cores (default: %(default)s)",
    )
    add(
        "--threads",
        type=argument_types.number(int, 1),
        metavar="N",
        help="cores that each process uses (default: those it may use, shared out among "
        "--num-workers)",
    )
    add(
        "--shard",
        type=argument_types.shard,
        metavar="I/N",
        help="do every Nth case only, counted from I = 0 to N-1: one job of a SLURM array or a "
        "Kubernetes indexed job; its times go to efficiency_I_of_N.csv",
    )
    add(
        "--progress",
        choices=progress.STYLES,
        default="auto",
        help="slices done and time left of a volume under way, on stderr: 'bar'; 'lines', one a "
        "minute; 'auto': a bar on a terminal, else lines (default: %(default)s)",
    )
    _add_image_files(parser.add_argument_group("image files"))
    add(
        "--precision",
        choices=("float32", "bfloat16", "auto"),
        default="float32",
        help="of the network's large products; 'bfloat16': faster on processors with AMX or "
        "AVX-512 BF16, masks close to float32's, in volumes not always, see docs/speed.md; "
        "'auto': bfloat16 on such processors (default: %(default)s)",
    )
    add("-device", default="cpu", help="cpu, gpu or tpu (default: %(default)s)")


def _add_image_files(group: argparse._ArgumentGroup) -> None:
    add = group.add_argument
    add(
        "--box-units",
        choices=("voxel", "mm", "mm-ras"),
        help="of boxes whose file does not say: indices from 0, or millimetres as DICOM (LPS) or "
        "as NIfTI and 3D Slicer (RAS) count them (default: voxel)",
    )
    add(
        "--modality",
        metavar="CT|MR|...",
        help="of volumes: CT is windowed, others clipped to percentiles (default: as "
        "DICOM says, else by the values)",
    )
    add("-window_level", type=float, default=40, metavar="HU", help="CT (default: %(default)s)")
    add("-window_width", type=float, default=400, metavar="HU", help="CT (default: %(default)s)")
    add("--fill-nan", type=float, metavar="VALUE", help="stands for NaN and infinities")
    add(
        "--mask-grid",
        choices=("exact", "resample", "index"),
        default="exact",
        help="how a mask with boxes finds its place: by its header, on the same voxels; by its "
        "header, nearest label; by index, headers ignored (default: %(default)s)",
    )
    add(
        "--boxes-per",
        choices=("label", "component"),
        default="label",
        help="of a mask: one box a label, or one a connected part (default: %(default)s)",
    )
    add(
        "--labels",
        type=int,
        nargs="+",
        default=[],
        metavar="LABEL",
        help="of a mask: the labels to box (default: all)",
    )
    add(
        "--dicom-seg",
        action="store_true",
        help="also a DICOM SEG object (.dcm) of each DICOM input",
    )


def _file_options(args: argparse.Namespace) -> "FileOptions | None":
    """How image files are read; None where no boxes were given for them."""
    if args.boxes in ("file", "gt"):
        return None
    from litemedsam_jax.imaging.image_case import FileOptions
    from litemedsam_jax.imaging.intensity import IntensityOptions

    intensity = IntensityOptions(
        args.modality or "auto", args.window_level, args.window_width, fill_nan=args.fill_nan
    )
    boxes = Path(args.boxes)
    if not boxes.exists():
        raise FileNotFoundError(f"--boxes {boxes}: there is no such file or folder")
    return FileOptions(
        boxes,
        args.box_units,
        args.mask_grid,
        args.boxes_per,
        tuple(args.labels),
        intensity,
        args.dicom_seg,
    )


def run(args: argparse.Namespace) -> int:
    """Runs the command; returns its exit status."""
    device = {"cuda": "gpu"}.get(args.device.split(":")[0], args.device)  # torch's spelling too
    if device == "cpu":
        os.environ.setdefault("JAX_PLATFORMS", "cpu")  # spares JAX the search for accelerators

    from litemedsam_jax.batch.folder import BatchOptions, segment_folder
    from litemedsam_jax.weights.errors import CheckpointError

    if args.threads or args.num_workers > 1:
        from litemedsam_jax.engine import cores

        cores.limit(args.threads or -(-cores.available() // args.num_workers))
    steps = mask_steps(args)
    precision = _precision(args.precision, device)
    try:
        options = BatchOptions(
            inputs=args.input_dir,
            outputs=args.output_dir,
            weights=args.weights,
            prompts="gt" if args.boxes == "gt" else "boxes",
            box_shift=args.bbox_shift,
            strategy=args.strategy,
            skip_existing=args.skip_existing,
            overlays=args.overlay or (args.png_save_dir if args.save_overlay else None),
            overlay_format=args.overlay_format,
            device=device,
            precision=precision,
            workers=args.num_workers,
            shard=args.shard,
            postprocess=steps,
            files=_file_options(args),
            ends_process=True,
        )
        shown = progress.ProgressDisplay("slices", style=args.progress)
        summary = segment_folder(options, progress=shown)
    except BrokenPipeError:
        raise  # `infer.py ... | head`: nobody reads what is printed
    except OSError as error:
        named = error.filename is not None and error.strerror is not None
        message = f"{error.filename}: {error.strerror}" if named else error.strerror or str(error)
        print(f"litemedsam segment: {message}", file=sys.stderr)
        return 2
    except (ValueError, CheckpointError) as error:
        print(f"litemedsam segment: {error}", file=sys.stderr)
        return 2
    _report(summary, options)
    status = 1 if summary.failed else 0
    return max(status, _measure(summary, options)) if args.measure else status


def _precision(asked: str, device: str) -> str:
    """What `auto` means here, and a line on it (or on a processor without bfloat16)."""
    if asked == "float32":
        return asked
    from litemedsam_jax.engine.precision import choose

    choice = choose(asked, device)
    if choice.note:
        print(choice.note)
    return choice.precision


def _measure(summary: "Summary", options: "BatchOptions") -> int:
    """Measures the masks of the cases that are done; returns the exit status of that."""
    from litemedsam_jax.batch.folder import list_cases
    from litemedsam_jax.batch.one_case import masks_name
    from litemedsam_jax.commands.measure import measure_files

    part = "" if options.shard is None else "_{}_of_{}".format(*options.shard)
    outputs = [options.outputs / f"measurements{part}{suffix}" for suffix in (".csv", ".json")]
    done = {*summary.done, *summary.skipped}
    cases = [path for path in list_cases(options.inputs) if path.name in done]
    return measure_files([(options.outputs / masks_name(path), path) for path in cases], outputs)


def _report(summary: "Summary", options: "BatchOptions") -> None:
    from litemedsam_jax.files import one_line

    skipped = f", {len(summary.skipped)} skipped" if summary.skipped else ""
    print(f"{len(summary.done)} segmented{skipped}, {len(summary.failed)} failed")
    print(f"masks: {one_line(str(options.outputs))}")
    if options.overlays is not None and summary.done:
        print(f"overlays: {one_line(str(options.overlays))}")
    for name, reason in sorted(summary.failed.items()):
        print(f"failed: {one_line(name)}: {reason}", file=sys.stderr)
