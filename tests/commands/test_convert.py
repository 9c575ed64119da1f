"""`litemedsam convert`: from PyTorch, to PyTorch, extract, join."""

import subprocess
import sys

import numpy as np
import pytest
import torch

from litemedsam_jax import cli
from litemedsam_jax.weights import safetensors_file
from litemedsam_jax.weights.load import load_model
from tests import oracle
from tests.conftest import REPOSITORY


def _convert(*arguments):
    return cli.main([str(argument) for argument in arguments], command="convert")


def _save(state, path):
    torch.save({key: torch.from_numpy(np.array(value)) for key, value in state.items()}, path)


def test_there_and_back(tmp_path, published_pth, capsys):
    """To safetensors and back: PyTorch's own model loads the result strictly, bit for bit."""
    assert _convert(published_pth, tmp_path / "a.safetensors") == 0
    assert "lite_medsam, 408 arrays" in capsys.readouterr().out
    assert _convert("--to-torch", tmp_path / "a.safetensors", tmp_path / "weights.bin") == 0
    expected = torch.load(published_pth, weights_only=True)
    actual = torch.load(tmp_path / "weights.bin", weights_only=True)
    assert actual.keys() == expected.keys()
    assert all(torch.equal(actual[key], expected[key]) for key in expected)
    assert all(actual[key].dtype == expected[key].dtype for key in expected)
    oracle.lite_medsam(tmp_path / "weights.bin")


def test_extract_weights_of_a_trainer(tmp_path, tiny_state):
    """The reference's utils/extract_weights.py, numpy scalars and all, which it stumbles over."""
    state = {key: torch.from_numpy(np.array(value)) for key, value in tiny_state.items()}
    torch.save({"model": state, "loss": np.float64(1), "epoch": 3}, tmp_path / "best.pth")
    assert _convert("-from_pth", tmp_path / "best.pth", "-to_pth", tmp_path / "out.pth") == 0
    extracted = torch.load(tmp_path / "out.pth", weights_only=True)
    assert extracted.keys() == state.keys()
    assert all(torch.equal(extracted[key], state[key]) for key in state)


def test_join_of_encoder_and_decoder(tmp_path, tiny_state, tiny_variables, tiny_config):
    encoder = {
        k.removeprefix("image_encoder."): v for k, v in tiny_state.items() if "_encoder." in k
    }
    encoder = {k: v for k, v in encoder.items() if not k.startswith("prompt_encoder.")}
    _save(encoder, tmp_path / "encoder.pth")
    other = {name: value + 1 for name, value in tiny_variables.items()}
    safetensors_file.save(tmp_path / "other.safetensors", other, tiny_config)
    out = tmp_path / "joined.safetensors"
    files = (
        "--encoder",
        tmp_path / "encoder.pth",
        "--decoder-from",
        tmp_path / "other.safetensors",
    )
    assert _convert(*files, out) == 0
    joined = load_model(out)
    assert joined.config == tiny_config and joined.variables.keys() == tiny_variables.keys()
    for name, value in joined.variables.items():
        source = tiny_variables if "/image_encoder/" in name else other
        np.testing.assert_array_equal(value, source[name])
    assert joined.counters == {k: int(v) for k, v in tiny_state.items() if "num_batches" in k}


@pytest.mark.parametrize(
    "arguments", [[], ["one"], ["a", "b", "c"], ["--encoder", "a", "b"], ["--decoder-from", "a"]]
)
def test_wrong_arguments(arguments, capsys):
    assert _convert(*arguments) == 2
    assert "error: " in capsys.readouterr().err


def test_errors_are_one_message_and_leave_nothing(tmp_path, capsys):
    assert _convert(tmp_path / "missing.pth", tmp_path / "out.safetensors") == 1
    assert f"error: {tmp_path / 'missing.pth'}: cannot be read" in capsys.readouterr().err
    assert not list(tmp_path.iterdir())


def test_help():
    command = [sys.executable, "convert_weights.py", "--help"]
    result = subprocess.run(command, capture_output=True, text=True, check=True, cwd=REPOSITORY)
    assert "--decoder-from" in result.stdout and "file is executed" in result.stdout
