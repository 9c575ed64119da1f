"""Converts checkpoints: `python convert_weights.py lite_medsam.pth OUT.safetensors`."""

import sys

from litemedsam_jax.cli import main

if __name__ == "__main__":
    sys.exit(main(command="convert"))
