"""The image's list of packages. The image itself is checked by .ci/container."""

import re
import subprocess
import sys

import pytest

from litemedsam_jax.weights import published
from tests.conftest import REPOSITORY

REQUIREMENTS = REPOSITORY / "requirements"


def _pinned(name: str) -> dict[str, str]:
    """Package -> version, of lines `package==version` with a hash or without."""
    text = (REPOSITORY / name).read_text(encoding="utf-8")
    return dict(re.findall(r"^([\w.-]+)==([\w.]+)", text, re.MULTILINE))


def test_the_image_runs_the_versions_that_the_tests_run():
    tested = _pinned("constraints.txt")
    in_image = _pinned("requirements/container.txt")
    assert in_image and in_image == {name: tested[name] for name in in_image}, (
        "run requirements/lock.py"
    )


def test_every_package_has_a_hash():
    for path in REQUIREMENTS.glob("*.txt"):
        text = path.read_text(encoding="utf-8")
        hashes = re.findall(r"^    --hash=sha256:[0-9a-f]{64}$", text, re.MULTILINE)
        assert len(hashes) == len(_pinned(f"requirements/{path.name}")), path


def test_the_weights_are_the_published_ones():
    assert [
        f"{name}=={version}" for name, version in _pinned("requirements/weights.txt").items()
    ] == [published.REQUIREMENT]


def test_what_the_image_leaves_out_is_not_needed_to_compile():
    # JAX and Flax declare these; should a version import them, they have to go into the image.
    code = """
import sys
sys.modules.update(dict.fromkeys(["scipy", "optax", "orbax", "tensorstore", "treescope"]))
import litemedsam_jax.models.lite_medsam, litemedsam_jax.engine.folding, jax
import litemedsam_jax.batch.folder
jax.jit(lambda x: x + 1).lower(1.0).compile()
"""
    environment = {"JAX_PLATFORMS": "cpu", "PYTHONPATH": str(REPOSITORY), "PATH": ""}
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, check=False
    )
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", ["Dockerfile", "train.Dockerfile"])
def test_whatever_is_copied_is_in_the_build_context(name):
    sources = []
    for line in (REPOSITORY / name).read_text(encoding="utf-8").splitlines():
        if line.startswith("COPY ") and "--from" not in line:
            sources += line.split()[1:-1]
    allowed = (REPOSITORY / ".dockerignore").read_text(encoding="utf-8").split()
    for source in sources:
        assert (REPOSITORY / source).exists(), source
        pattern = "requirements/*.txt" if source.startswith("requirements/") else source
        assert f"!{pattern.removeprefix('./')}" in allowed, source
