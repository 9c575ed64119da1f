"""Converts checkpoints: `python convert_weights.py lite_medsam.pth OUT.safetensors`."""

from litemedsam_jax.cli import run_process

if __name__ == "__main__":
    run_process("convert")
