"""`litemedsam doctor`: works whatever is missing, and says nothing personal."""

import os
import subprocess
import sys

import pytest

from litemedsam_jax import __version__
from litemedsam_jax.engine import program_store
from tests.conftest import REPOSITORY


def doctor(tmp_path, *flags: str, code: str = "", **environment: str):
    """Runs it in an empty folder and home; its exit status and lines by topic."""
    home = tmp_path / "jane.doe"
    home.mkdir(exist_ok=True)
    variables = {
        **os.environ,
        "HOME": str(home),
        "USERPROFILE": str(home),
        "LOCALAPPDATA": str(home),
        "PYTHONPATH": str(REPOSITORY),
        **environment,
    }
    for name in ("XDG_CACHE_HOME", "XDG_DATA_HOME", program_store.VARIABLE):
        if name not in environment:
            variables.pop(name, None)
    script = f"{code}\nfrom litemedsam_jax.cli import run_process\nrun_process('doctor')"
    run = subprocess.run(
        [sys.executable, *flags, "-c", script],
        cwd=tmp_path, env=variables, capture_output=True, text=True,
    )  # fmt: skip
    assert run.stderr == ""
    lines = dict(line.split(":", 1) for line in run.stdout.splitlines())
    return run.returncode, lines


def test_without_weights_it_says_how_to_get_them(tmp_path):
    status, lines = doctor(tmp_path)
    assert status == 1
    assert __version__ in lines["litemedsam"] and "Python 3" in lines["litemedsam"]
    assert "jaxlib 0." in lines["packages"]
    assert "cores" in lines["processor"]
    assert "MISSING" in lines["weights"] and "litemedsam weights" in lines["weights"]
    assert "none yet in ~" in lines["executables"]


def test_with_weights_all_is_well_and_nothing_personal_is_said(tmp_path, weights_file):
    folder = tmp_path / "work_dir" / "LiteMedSAM"
    folder.mkdir(parents=True)
    (folder / "lite_medsam.safetensors").write_bytes(weights_file.read_bytes())
    status, lines = doctor(tmp_path)
    assert status == 0
    assert "MiB" in lines["weights"]
    assert "jane.doe" not in str(lines)


WITHOUT = """
import importlib.metadata as metadata, sys
version = metadata.version
def only_base(name):
    if name in {absent!r}:
        raise metadata.PackageNotFoundError(name)
    return version(name)
metadata.version = only_base
for name in {modules!r}:
    sys.modules[name] = None
"""


@pytest.mark.parametrize("absent", [("SimpleITK", "scipy"), ("starlette",), ("optax", "grain")])
def test_it_works_without_extras(absent, tmp_path):
    _, lines = doctor(tmp_path, code=WITHOUT.format(absent=absent, modules=absent))
    assert all(any(name in line for line in lines.values()) for name in absent)
    assert "not installed: " in str(lines)


def test_it_imports_neither_jax_nor_what_extras_bring(tmp_path):
    code = """
import atexit, sys
def show():
    print("imported:", sorted({"jax", "flax", "SimpleITK", "scipy", "torch"} & set(sys.modules)))
atexit.register(show)
"""
    _, lines = doctor(tmp_path, code=code)
    assert lines["imported"] == " []"
