"""Where no accelerator can be, none is looked for, and JAX is not imported."""

import os
import subprocess
import sys

import pytest

from tests.conftest import REPOSITORY

PROBE = """
import sys
from litemedsam_jax.engine.devices import accelerator_packages, choose_device
print(choose_device(), accelerator_packages(), "jax" in sys.modules)
"""


def probe(path: str = "", **environment: str) -> str:
    variables = {key: value for key, value in os.environ.items() if key != "JAX_PLATFORMS"}
    variables |= environment | {"PYTHONPATH": f"{REPOSITORY}{os.pathsep}{path}"}
    done = subprocess.run(
        [sys.executable, "-c", PROBE], capture_output=True, text=True, check=True, env=variables
    )
    return done.stdout.strip()


@pytest.fixture
def plugin(tmp_path) -> str:
    """A folder with a package by which JAX would look for an accelerator, and find none."""
    package = tmp_path / "jax_plugins" / "some_vendor"
    package.mkdir(parents=True)
    (package / "__init__.py").write_text("def initialize(): raise RuntimeError('no hardware')")
    return str(tmp_path)


def test_without_a_plugin_it_is_the_cpu():
    result = probe()
    if "[]" not in result:
        pytest.skip(f"this host has plugins: {result}")
    assert result == "cpu [] False"


def test_a_plugin_without_hardware_is_asked_and_it_is_the_cpu(plugin):
    assert probe(plugin) == "cpu ['some_vendor'] True"


def test_the_users_choice_of_the_cpu_needs_no_look(plugin):
    assert probe(plugin, JAX_PLATFORMS="cpu") == "cpu ['some_vendor'] False"
