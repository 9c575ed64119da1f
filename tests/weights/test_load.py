"""One reader for every kind of weights file, and one contract."""

import subprocess
import sys

import numpy as np
import pytest
import torch
from safetensors.numpy import load_file, save_file

from litemedsam_jax.weights import safetensors_file
from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.load import load, load_model, open_model

MISSING = "params/mask_decoder/iou_token/embedding"
MEAN = "batch_stats/image_encoder/patch_embed/seq_0/bn/mean"
NARROW = "params/image_encoder/layers_1/blocks_0/mlp/fc1/kernel"
SQUARE = "params/mask_decoder/transformer/layers_0/self_attn/q_proj/kernel"
OTHER_TYPE = "params/prompt_encoder/no_mask_embed/embedding"


@pytest.fixture
def tiny(tmp_path, tiny_variables, tiny_config):
    """A good file."""
    path = tmp_path / "tiny.safetensors"
    safetensors_file.save(path, tiny_variables, tiny_config, {"a.num_batches_tracked": 3})
    return path


def _rewrite(path, change, keep=()):
    """Another program changes the arrays, and keeps all metadata or some."""
    arrays, metadata = load_file(path), safetensors_file.read_metadata(path)
    change(arrays)
    kept = {key: text for key, text in metadata.items() if not keep or key in keep}
    arrays = {name: np.ascontiguousarray(array) for name, array in arrays.items()}
    save_file(arrays, path, kept)


def test_the_content_tells_the_kind(tmp_path, tiny, tiny_state, tiny_variables, tiny_config):
    tensors = {key: torch.from_numpy(np.array(value)) for key, value in tiny_state.items()}
    torch.save(tensors, tmp_path / "a.safetensors")
    tiny.rename(tmp_path / "b.pth")
    for name in ("a.safetensors", "b.pth"):
        weights = load_model(tmp_path / name)
        assert weights.config == tiny_config
        assert weights.variables.keys() == tiny_variables.keys()


def test_an_image_encoder_alone_is_no_model(tmp_path, tiny_variables, tiny_config):
    encoder = {k: v for k, v in tiny_variables.items() if "/image_encoder/" in k}
    safetensors_file.save(tmp_path / "encoder.safetensors", encoder, tiny_config)
    assert load(tmp_path / "encoder.safetensors").parts == ("image_encoder",)
    with pytest.raises(CheckpointError, match="an image encoder alone"):
        load_model(tmp_path / "encoder.safetensors")


def test_parts(tiny, tiny_variables):
    weights = load(tiny, ["mask_decoder"])
    assert weights.variables.keys() == {n for n in tiny_variables if "/mask_decoder/" in n}


def test_every_mismatch_of_safetensors_is_listed_at_once(tiny):
    def spoil(arrays):
        del arrays[MISSING], arrays[MEAN]
        arrays[NARROW] = arrays[NARROW].T
        arrays[OTHER_TYPE] = arrays[OTHER_TYPE].astype(np.float16)
        arrays["params/stranger"] = np.zeros(3, np.float32)
        arrays["x"] = np.zeros(3)

    _rewrite(tiny, spoil)
    with pytest.raises(CheckpointError) as error:
        load(tiny)
    lines = str(error.value).splitlines()
    assert lines[0] == f"{tiny}: does not match tiny_for_tests, 6 mismatches:"
    assert sorted(line.strip() for line in lines[1:]) == sorted(
        [
            f"missing: {MISSING} (1, 32)",
            f"missing: {MEAN} (4,)",
            f"shape: {NARROW} (64, 16), (16, 64) was expected",
            f"dtype: {OTHER_TYPE} float16, float32 was expected",
            "surplus: params/stranger (3,)",
            "surplus: x (3,)",
        ]
    )


def _transpose_square(arrays):
    arrays[SQUARE] = arrays[SQUARE].T


def test_a_square_kernel_stored_transposed_is_seen_by_the_digest(tiny):
    _rewrite(tiny, _transpose_square)
    with pytest.raises(CheckpointError, match="its values are not those that were written"):
        load_model(tiny)
    _, check = open_model(tiny)
    with pytest.raises(CheckpointError, match="its values are not"):
        check()
    with pytest.raises(CheckpointError, match="its values are not"):
        load(tiny, need_digest=False)


def test_a_file_that_another_program_wrote_anew_is_as_good(tiny, tiny_variables):
    """It sorts arrays otherwise; the digest is of names and values."""
    _rewrite(tiny, lambda arrays: None)
    assert load_model(tiny).variables.keys() == tiny_variables.keys()


def test_without_a_digest_only_published_values_are_taken(
    tmp_path, tiny, published_weights, tiny_variables
):
    kept = ("format", "config")
    _rewrite(tiny, _transpose_square, kept)
    with pytest.raises(CheckpointError, match=r"without a digest.*litemedsam convert"):
        load_model(tiny)
    assert load(tiny, need_digest=False).variables.keys() == tiny_variables.keys()
    published = tmp_path / "published.safetensors"
    safetensors_file.save(published, published_weights.variables, published_weights.config)
    _rewrite(published, lambda arrays: None, kept)
    assert load_model(published).config == published_weights.config


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_values_that_are_not_finite(value, tmp_path, tiny_variables, tiny_config):
    """As of a training that diverged, or a variance beyond what float16 holds."""
    changed = {**tiny_variables, MEAN: tiny_variables[MEAN].copy()}
    changed[MEAN][1] = value
    path = tmp_path / "a.safetensors"
    safetensors_file.save(path, changed, tiny_config)
    with pytest.raises(CheckpointError, match=f"NaN or infinity in 1 variables, such as {MEAN}"):
        load(path)


def test_a_configuration_that_was_lost_is_said_to_be(tiny):
    _rewrite(tiny, lambda arrays: None, ("format",))
    with pytest.raises(CheckpointError, match="the model configuration is missing"):
        load(tiny)


@pytest.mark.parametrize("kind", ["float32", "float16", "bfloat16"])
def test_safetensors_with_the_keys_of_pytorch(kind, tmp_path, tiny_state, tiny_config):
    import safetensors.torch

    tensors = {key: torch.from_numpy(np.array(value)) for key, value in tiny_state.items()}
    if kind != "float32":
        tensors = {
            key: tensor.to(getattr(torch, kind)) if tensor.is_floating_point() else tensor
            for key, tensor in tensors.items()
        }
    path = tmp_path / "a.safetensors"
    safetensors.torch.save_file(tensors, path)
    weights = load_model(path)
    assert weights.config == tiny_config and len(weights.counters) > 0
    key = "mask_decoder.transformer.layers.0.self_attn.q_proj.weight"
    expected = tensors[key].to(torch.float32).numpy().T
    assert weights.variables[SQUARE].dtype == np.float32
    np.testing.assert_array_equal(weights.variables[SQUARE], expected)


def test_reading_imports_neither_jax_nor_what_pytorch_files_need(tiny):
    code = (
        "import sys; from litemedsam_jax.weights.load import load; load(sys.argv[1]);"
        "print(sorted({'jax', 'flax', 'torch', 'zipfile', 'pickletools'} & sys.modules.keys()))"
    )
    result = subprocess.run(
        [sys.executable, "-c", code, str(tiny)], capture_output=True, text=True, check=True
    )
    assert result.stdout.strip() == "[]"
