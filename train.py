"""Trains: `python train.py finetune ...` or `python train.py distill ...`; --help tells the rest.

Without a stage it fine-tunes, with the flags of the reference's train_one_gpu.py.
"""

import sys

from litemedsam_jax.cli import run_process

if __name__ == "__main__":
    stages = ("finetune", "distill")
    named = len(sys.argv) > 1 and sys.argv[1] in stages
    run_process(sys.argv[1] if named else "finetune", sys.argv[2 if named else 1 :])
