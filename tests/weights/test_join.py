"""An image encoder of one file with the decoder of another."""

import numpy as np
import pytest
import torch

from litemedsam_jax.weights import safetensors_file
from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.join import join


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
    safetensors_file.save(tiny, tiny_variables, tiny_config)
    encoder = {k: v for k, v in tiny_variables.items() if "/image_encoder/" in k}
    safetensors_file.save(alone, encoder, tiny_config)
    with pytest.raises(CheckpointError, match="does not fit"):
        join(tiny, published_pth)
    with pytest.raises(CheckpointError, match="no mask_decoder and no prompt_encoder"):
        join(tiny, alone)
