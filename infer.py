"""Segments a folder of cases: `python infer.py -i IMGS -o SEGS`; --help tells the rest."""

import sys

from litemedsam_jax.cli import main

if __name__ == "__main__":
    sys.exit(main(command="segment"))
