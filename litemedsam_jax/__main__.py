"""`python -m litemedsam_jax`, for `litemedsam`."""

from litemedsam_jax.cli import run_process

run_process()
