import sys

from litemedsam_jax.cli import main

sys.exit(main())
