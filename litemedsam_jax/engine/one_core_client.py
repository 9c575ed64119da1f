"""XLA on one core."""

from typing import Any

from litemedsam_jax.engine import cores


def one_core_client() -> Any:
    """A CPU client that computes in the thread that calls it.

    What it compiles is not cut for several threads either.
    """
    import jaxlib.xla_client as xla

    with cores.one_thread():
        return xla.make_cpu_client(asynchronous=False)
