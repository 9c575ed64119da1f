"""Segments a folder of cases: `python infer.py -i IMGS -o SEGS`; --help tells the rest."""

import os
import sys

from litemedsam_jax.cli import main

if __name__ == "__main__":
    status = main(command="segment")
    sys.stderr.flush()
    os._exit(status)  # all is written; taking Python and XLA down would take 40 ms more
