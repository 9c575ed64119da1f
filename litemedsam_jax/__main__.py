"""`python -m litemedsam_jax`: the same as `litemedsam`."""

import sys

from litemedsam_jax.cli import main

sys.exit(main())
