"""`infer.py`, `litemedsam segment`: masks for a folder of cases."""

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from litemedsam_jax.inference.batch import BatchOptions, Summary

DESCRIPTION = """\
Segments every case (npz) of a folder inside its boxes.

  python infer.py -i demo/imgs -o demo/segs

A case holds `imgs` and `boxes`: a picture (H, W, 3) or (H, W) with boxes (N, 4) as
x_min, y_min, x_max, y_max, or a volume (D, H, W) with boxes (N, 6) as
x_min, y_min, z_min, x_max, y_max, z_max, all inclusive pixel indices.
The output has the case's name and holds `segs`, in which box k writes the label k.
`efficiency.csv` beside the masks lists the seconds of each case.

Exit status: 0 all cases done; 1 some failed (each is told in one line); 2 nothing could start.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("-i", "--input_dir", type=Path, required=True, metavar="DIR", help="folder of cases")
    add("-o", "--output_dir", type=Path, required=True, metavar="DIR", help="folder for the masks")
    add(
        "-lite_medsam_checkpoint_path",
        "--weights",
        type=Path,
        default=Path("work_dir/LiteMedSAM/lite_medsam.safetensors"),
        metavar="FILE",
        help="weights: .safetensors, or PyTorch's .pth (default: %(default)s)",
    )
    add(
        "--strategy",
        choices=("reference", "clean"),
        default="reference",
        help="3D: 'reference' equals the PyTorch reference, whose propagation depends on a box's "
        "number; 'clean' does not (default: %(default)s)",
    )
    add(
        "--boxes",
        choices=("file", "gt"),
        default="file",
        help="prompts: the case's boxes, or boxes around each label of its `gts`, slice by slice; "
        "the output then holds segs, gts and spacing (default: %(default)s)",
    )
    add(
        "--bbox-shift",
        type=int,
        default=5,
        metavar="PIXELS",
        help="with --boxes gt: widen boxes by this, in the 256x256 frame (default: %(default)s)",
    )
    existing = parser.add_mutually_exclusive_group()
    existing.add_argument("--overwrite", action="store_true", help="segment all cases (default)")
    existing.add_argument(
        "--skip-existing", action="store_true", help="leave cases whose output exists"
    )
    add("--overlay", type=Path, metavar="DIR", help="also write a picture (PNG) of every result")
    add("--save_overlay", action="store_true", help="the reference's way to ask for pictures")
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
    add("-device", default="cpu", help="cpu, gpu or tpu (default: %(default)s)")


def run(args: argparse.Namespace) -> int:
    device = {"cuda": "gpu"}.get(args.device.split(":")[0], args.device)  # torch's spelling too
    if device == "cpu":
        os.environ.setdefault("JAX_PLATFORMS", "cpu")  # spares JAX the search for accelerators

    from litemedsam_jax.inference.batch import BatchOptions, segment_folder
    from litemedsam_jax.inference.cases import CaseError
    from litemedsam_jax.weights.errors import CheckpointError

    options = BatchOptions(
        inputs=args.input_dir,
        outputs=args.output_dir,
        weights=args.weights,
        prompts="gt" if args.boxes == "gt" else "boxes",
        box_shift=args.bbox_shift,
        strategy=args.strategy,
        skip_existing=args.skip_existing,
        overlays=args.overlay or (args.png_save_dir if args.save_overlay else None),
        device=device,
        workers=args.num_workers,
    )
    try:
        summary = segment_folder(options)
    except (CaseError, CheckpointError, OSError) as error:
        print(f"litemedsam segment: {error}", file=sys.stderr)
        return 2
    _report(summary, options)
    return 1 if summary.failed else 0


def _report(summary: "Summary", options: "BatchOptions") -> None:
    skipped = f", {len(summary.skipped)} skipped" if summary.skipped else ""
    print(f"{len(summary.done)} segmented{skipped}, {len(summary.failed)} failed")
    print(f"masks: {options.outputs}")
    if options.overlays is not None and summary.done:
        print(f"overlays: {options.overlays}")
    for name, reason in sorted(summary.failed.items()):
        print(f"failed: {name}: {reason}", file=sys.stderr)
