"""One reader for every kind of weights file."""

import pytest

from litemedsam_jax.weights import safetensors_file
from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.load import load_model


def test_the_content_tells_the_kind(
    tmp_path, published_pth, published_weights, tiny_variables, tiny_config
):
    renamed = tmp_path / "weights.safetensors"
    renamed.symlink_to(published_pth)
    weights = load_model(renamed)
    assert weights.config == published_weights.config
    assert weights.variables.keys() == published_weights.variables.keys()
    tiny = tmp_path / "tiny.pth"
    safetensors_file.save(tiny, tiny_variables, tiny_config)
    assert load_model(tiny).config == tiny_config


def test_an_image_encoder_alone_is_no_model(tmp_path, tiny_variables, tiny_config):
    encoder = {k: v for k, v in tiny_variables.items() if "/image_encoder/" in k}
    safetensors_file.save(tmp_path / "encoder.safetensors", encoder, tiny_config)
    with pytest.raises(CheckpointError, match="an image encoder alone"):
        load_model(tmp_path / "encoder.safetensors")
