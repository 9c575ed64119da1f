"""Tests of inference count what an engine is asked for, on machines with any number of cores."""

import pytest

from litemedsam_jax.engine import cores


@pytest.fixture(autouse=True)
def _few_cores(monkeypatch):
    """As on one core: nothing is encoded ahead, unless a test asks for more."""
    monkeypatch.setenv(cores.THREADS, "1")
