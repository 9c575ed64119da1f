"""Segments a folder of cases: `python infer.py -i IMGS -o SEGS`; --help tells the rest."""

from litemedsam_jax.cli import run_process

if __name__ == "__main__":
    run_process("segment")
