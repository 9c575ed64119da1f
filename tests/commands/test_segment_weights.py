"""`infer.py` with weights as they are met: read and right, or refused before any case is run."""

import shutil
from pathlib import Path

import numpy as np
import pytest
import safetensors.torch
import torch
from safetensors.numpy import load_file, save_file

from litemedsam_jax import cli
from litemedsam_jax.weights import safetensors_file
from tests.conftest import REPOSITORY

NAME = "2DBox_Microscope_dsb2018_crop256.npz"
QUERIES = [  # of self-attention: square, so that no shape tells which way round they are
    f"params/mask_decoder/transformer/layers_{layer}/self_attn/q_proj/kernel" for layer in (0, 1)
]


@pytest.fixture(scope="module")
def state(published_pth) -> dict[str, torch.Tensor]:
    return torch.load(published_pth, weights_only=True)


@pytest.fixture
def segment(tmp_path, capsys):
    """Segments the microscopy demo; exit status, masks (None: none were written), messages."""
    (tmp_path / "imgs").mkdir()
    shutil.copy(REPOSITORY / "demo" / "imgs" / NAME, tmp_path / "imgs")

    def run(weights: Path) -> tuple[int, np.ndarray | None, str]:
        arguments = ["-i", tmp_path / "imgs", "-o", tmp_path / "segs", "--weights", weights]
        status = cli.main([str(argument) for argument in arguments], command="segment")
        path = tmp_path / "segs" / NAME
        segs = np.load(path)["segs"] if path.exists() else None
        return status, segs, capsys.readouterr().err

    return run


@pytest.fixture(scope="module")
def reference() -> np.ndarray:
    with np.load(REPOSITORY / "tests" / "data" / "reference_segs" / NAME) as masks:
        return masks["segs"]


def _compiled(state, path):
    torch.save({"model": {f"_orig_mod.{k}": v for k, v in state.items()}, "epoch": 3}, path)


def _lightning(state, path):
    wrapped = {f"model.{key}": value for key, value in state.items()}
    torch.save({"state_dict": wrapped, "pytorch-lightning_version": "2.5.0"}, path)


def _scribble(state, path):
    torch.save(state, path)  # LiteMedSAMScribble's is bare


def _torch_keys(state, path):
    safetensors.torch.save_file(state, path)


def _half(state, path):
    torch.save({k: v.half() if v.is_floating_point() else v for k, v in state.items()}, path)


def _bfloat16(state, path):
    halved = {k: v.bfloat16() if v.is_floating_point() else v for k, v in state.items()}
    safetensors.torch.save_file(halved, path)


@pytest.mark.parametrize("write", [_compiled, _lightning, _scribble, _torch_keys])
def test_every_wrapping_gives_the_masks_of_the_reference(
    write, state, segment, reference, tmp_path
):
    write(state, tmp_path / "weights")
    status, segs, _ = segment(tmp_path / "weights")
    assert status == 0
    np.testing.assert_array_equal(segs, reference)


@pytest.mark.parametrize(("write", "bound"), [(_half, 0.998), (_bfloat16, 0.97)])
def test_half_precision_gives_almost_the_same_masks(
    write, bound, state, segment, reference, tmp_path
):
    write(state, tmp_path / "weights")
    status, segs, _ = segment(tmp_path / "weights")
    assert status == 0
    assert np.mean(segs == reference) > bound


def _transpose_queries(arrays):
    for name in QUERIES:
        arrays[name] = np.ascontiguousarray(arrays[name].T)


def _lose_a_key(arrays):
    del arrays["params/mask_decoder/iou_token/embedding"]


def _lose_a_mean(arrays):
    del arrays["batch_stats/image_encoder/patch_embed/seq_0/bn/mean"]


def _cast_one(arrays):
    arrays[QUERIES[0]] = arrays[QUERIES[0]].astype(np.float16)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_transpose_queries, "its values are not those that were written"),
        (_lose_a_key, "missing: params/mask_decoder/iou_token/embedding (1, 256)"),
        (_lose_a_mean, "missing: batch_stats/image_encoder/patch_embed/seq_0/bn/mean (32,)"),
        (_cast_one, f"dtype: {QUERIES[0]} float16, float32 was expected"),
    ],
)
def test_changed_safetensors_are_refused_before_any_case(
    change, words, weights_file, segment, tmp_path
):
    path = tmp_path / "changed.safetensors"
    arrays = load_file(weights_file)
    change(arrays)
    save_file(arrays, path, safetensors_file.read_metadata(weights_file))
    status, segs, messages = segment(path)
    assert status == 2 and segs is None
    assert str(path) in messages and words in messages
    assert "a bug to report" not in messages and "Traceback" not in messages
