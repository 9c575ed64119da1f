import os
import subprocess
import sys

import jax
import pytest

from litemedsam_jax.training import compiled_steps
from tests.conftest import REPOSITORY

PROGRAM = """
import jax
from litemedsam_jax.training import compiled_steps, devices
devices.launch(devices.Hosts(), "cpu")
jax.config.update("jax_persistent_cache_min_compile_time_secs", 0)
hits = []
jax.monitoring.register_event_listener(lambda name, **_: hits.append(name))
function = devices.DeviceFunction(lambda a, b: a + jax.lax.sin(b).sum(), mapped_output=True)
print(function(1.0, jax.numpy.ones((1, 3))), sum("cache_hits" in name for name in hits))
"""


@pytest.fixture
def folder(tmp_path, monkeypatch, compilation_cache):
    """Of compiled programs; JAX's own settings are as a user has them."""
    seconds = jax.config.jax_persistent_cache_min_compile_time_secs
    jax.config.update("jax_compilation_cache_dir", None)
    monkeypatch.setenv("LITEMEDSAM_PROGRAMS", str(tmp_path / "programs"))
    yield tmp_path / "programs"
    jax.config.update("jax_compilation_cache_dir", compilation_cache)
    jax.config.update("jax_persistent_cache_min_compile_time_secs", seconds)


def run(folder):
    kept = {name: value for name, value in os.environ.items() if not name.startswith("JAX_")}
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        cwd=REPOSITORY,
        env=kept | {"LITEMEDSAM_PROGRAMS": str(folder)},
        capture_output=True,
        text=True,
        check=True,
    )
    value, hits = done.stdout.rsplit(maxsplit=1)
    return value, int(hits)


def test_the_second_run_does_not_compile(tmp_path):
    first, hits = run(tmp_path)
    assert hits == 0
    again, hits = run(tmp_path)
    assert hits >= 1 and again == first


@pytest.mark.skipif(sys.platform == "win32", reason="folders are the user's there")
def test_a_folder_that_others_may_write_to_is_not_used(folder):
    used = compiled_steps.keep()
    assert used is not None and folder in used.parents
    jax.config.update("jax_compilation_cache_dir", None)
    used.chmod(0o777)
    assert compiled_steps.keep() is None
    assert not jax.config.jax_compilation_cache_dir


def test_a_folder_that_the_user_named_stays(folder, tmp_path):
    jax.config.update("jax_compilation_cache_dir", str(tmp_path / "mine"))
    assert compiled_steps.keep() is None
    assert jax.config.jax_compilation_cache_dir == str(tmp_path / "mine")


def test_the_oldest_programs_are_removed(folder, monkeypatch):
    used = compiled_steps.keep()
    for age in range(4):
        path = used / f"program-{age}"
        path.write_bytes(bytes(10))
        os.utime(path, (1000 - age, 1000 - age))
    monkeypatch.setattr(compiled_steps, "LIMIT", 25)
    jax.config.update("jax_compilation_cache_dir", None)
    compiled_steps.keep()
    assert sorted(path.name for path in used.iterdir()) == ["program-0", "program-1"]
