"""Each block of LiteMedSAM, every tensor random, on the oracle's own input, at a block's bound."""

import jax
import numpy as np
import pytest
import torch
from torch import nn

from litemedsam_jax.config import Execution, lite_medsam
from litemedsam_jax.engine.folding import fold
from litemedsam_jax.models import inference_attention, tiny_vit, tiny_vit_inference
from litemedsam_jax.models.layers import Conv, LayerNorm
from litemedsam_jax.models.mask_decoder import TwoWayBlock, TwoWayTransformer
from litemedsam_jax.models.tiny_vit import MBConv, PatchEmbed, PatchMerging, TinyViTBlock
from tests.parity import (
    BLOCK,
    OPERATION,
    exact,
    mean_error,
    nhwc,
    part,
    record_inputs,
    relative_error,
)

CONFIG = lite_medsam()
STAGES = CONFIG.image_encoder.stages
FIRST = ["patch_embed", "layers.0.blocks.0", "layers.0.blocks.1", "layers.0.downsample"]
LATER = [f"layers.1.blocks.{i}" for i in range(2)] + ["layers.1.downsample"]
LATER += [f"layers.2.blocks.{i}" for i in range(6)] + ["layers.2.downsample"]
LATER += [f"layers.3.blocks.{i}" for i in range(2)]


@pytest.fixture(scope="module")
def given(random_oracle):
    """What each module of the random encoder is given for a random image."""
    image = torch.rand(1, 3, 256, 256, generator=torch.Generator().manual_seed(3))
    encoder = random_oracle.image_encoder
    return record_inputs(encoder, lambda: encoder(image))


@pytest.fixture(scope="module")
def folded_variables(random_weights):
    return fold(random_weights.variables)


def _ours(name: str, execution: Execution):
    encoder = CONFIG.image_encoder
    if name == "patch_embed":
        return PatchEmbed(encoder, execution)
    stage = STAGES[int(name.split(".")[1])]
    if name.endswith("downsample"):
        width = STAGES[int(name.split(".")[1]) + 1].dim
        return PatchMerging(width, stage.downsample_stride, execution)
    if name.startswith("layers.0"):
        return MBConv(encoder.expansion, execution)
    return TinyViTBlock(stage, encoder.mlp_ratio, execution)


def _image(tensor: np.ndarray) -> np.ndarray:
    """Torch's images (B, C, H, W), or tokens (B, H·W, C) of a square grid, as (B, H, W, C)."""
    if tensor.ndim == 4:
        return nhwc(tensor)
    side = round(tensor.shape[1] ** 0.5)
    return np.asarray(tensor).reshape(tensor.shape[0], side, side, -1)


def _path(name: str) -> str:
    """Torch's name of a module of the encoder -> ours."""
    for theirs, ours in ((".blocks.", "/blocks_"), (".downsample", "/downsample")):
        name = name.replace(theirs, ours)
    return "image_encoder/" + name.replace("layers.", "layers_")


@pytest.mark.parametrize("name", FIRST + LATER)
def test_encoder_block(name, given, random_oracle, random_weights):
    (x,) = given[name]
    expected = _image(exact(random_oracle.image_encoder.get_submodule(name), x))
    ours = _ours(name, Execution())
    apply = jax.jit(lambda variables, x: ours.apply(variables, x, False))
    result = apply(part(random_weights.variables, _path(name)), _image(x))
    assert relative_error(result, expected) < BLOCK


def test_neck(given, random_oracle, random_weights):
    (x,) = given["neck"]
    expected = nhwc(exact(random_oracle.image_encoder.neck, x))
    result = nhwc(x)
    layers = tiny_vit.make_neck(256, Execution())
    assert [type(layer) for layer in layers] == [Conv, LayerNorm, Conv, LayerNorm]
    for index, layer in enumerate(layers):
        variables = part(random_weights.variables, f"image_encoder/neck_{index}")
        result = jax.jit(layer.apply)(variables, result)
    assert relative_error(result, expected) < BLOCK


# ---- as inference runs them: folded, the whole as one strip


def _around(x: np.ndarray, above: int, below: int) -> tuple[np.ndarray, np.ndarray]:
    """A strip with rows beyond the image's edges, and which of its rows are inside."""
    inside = np.pad(np.ones((1, x.shape[1]), np.float32), ((0, 0), (above, below)))
    return np.pad(x, ((0, 0), (above, below), (0, 0), (0, 0))), inside


def _folded(name: str, params: dict, x: np.ndarray) -> np.ndarray:
    stage = STAGES[int(name.split(".")[1])]
    if name.endswith("downsample"):
        strip = _around(x, 1, 1)
        return tiny_vit_inference.merge(params, *strip, stage.downsample_stride)
    strip, _ = _around(x, 0, -x.shape[1] % stage.window)
    y = inference_attention.attend(params, strip, stage.window)
    y = _around(np.asarray(y)[:, : x.shape[1]], 1, 1)[0]
    return tiny_vit_inference.transform(params, y)


@pytest.mark.parametrize("name", LATER)
def test_folded_block(name, given, random_oracle, folded_variables):
    (x,) = given[name]
    expected = _image(exact(random_oracle.image_encoder.get_submodule(name), x))
    params = part(folded_variables, _path(name))["params"]
    assert relative_error(_folded(name, params, _image(x)), expected) < BLOCK


def test_folded_first_stage(given, random_oracle, folded_variables):
    """Stem, two blocks and a merging: each may err as a block does."""
    (image,) = given["patch_embed"]
    theirs = random_oracle.image_encoder
    expected = _image(exact(nn.Sequential(theirs.patch_embed, theirs.layers[0]), image))
    params = part(folded_variables, "image_encoder")["params"]
    reach = STAGES[0].depth + 1
    strip = _around(nhwc(image), reach, reach)
    result = tiny_vit_inference.first_stage(params, CONFIG.image_encoder, *strip)
    assert relative_error(result, expected) < 3 * BLOCK


def test_folded_neck(given, random_oracle, folded_variables):
    (x,) = given["neck"]
    expected = nhwc(exact(random_oracle.image_encoder.neck, x))
    params = part(folded_variables, "image_encoder")["params"]
    result = tiny_vit_inference.neck(params, *_around(nhwc(x), 1, 1))
    assert relative_error(result, expected) < BLOCK


def test_folded_gelu_is_exact():
    x = np.linspace(-12, 12, 100001, dtype=np.float32)
    expected = exact(nn.functional.gelu, torch.from_numpy(x))
    assert mean_error(jax.jit(tiny_vit_inference.gelu)(x), expected) < OPERATION
    kept = np.asarray(tiny_vit_inference.gelu(x, x > 3))
    assert not kept[x <= 3].any()
    np.testing.assert_allclose(kept[x > 3], expected[x > 3], rtol=1e-6)
    assert np.isnan(tiny_vit_inference.gelu(np.float32("nan")))


@pytest.fixture(scope="module")
def tokens_and_image():
    generator = torch.Generator().manual_seed(4)

    def normal(*shape):
        return torch.randn(*shape, generator=generator)

    return normal(3, 7, 256), normal(3, 256, 64, 64), normal(1, 256, 64, 64)


def _as_rows(tensor: torch.Tensor) -> torch.Tensor:
    return tensor.flatten(2).permute(0, 2, 1)


@pytest.mark.parametrize("index", [0, 1])
def test_two_way_block(index, tokens_and_image, random_oracle, random_weights):
    tokens, image, positions = tokens_and_image
    image, positions = _as_rows(image), _as_rows(positions)
    prompt = torch.randn(3, 7, 256, generator=torch.Generator().manual_seed(5))
    if index == 0:
        image = image[:1]  # as in the network: the first block's image is shared by the prompts
    theirs = random_oracle.mask_decoder.transformer.layers[index]
    expected = exact(theirs, tokens, image.expand(3, -1, -1), prompt, positions.expand(3, -1, -1))
    ours = TwoWayBlock(CONFIG.mask_decoder, Execution(), first=index == 0)
    variables = part(random_weights.variables, f"mask_decoder/transformer/layers_{index}")
    result = jax.jit(ours.apply)(
        variables, *(t.numpy()[None] for t in (tokens, image, prompt)), positions[0].numpy()
    )
    for mine, reference in zip(result, expected, strict=True):
        assert relative_error(mine[0], reference) < BLOCK


def test_two_way_transformer(tokens_and_image, random_oracle, random_weights):
    tokens, image, positions = tokens_and_image
    theirs = random_oracle.mask_decoder.transformer
    expected = exact(theirs, image, positions.expand(3, -1, -1, -1), tokens)
    ours = TwoWayTransformer(CONFIG.mask_decoder, Execution())
    variables = part(random_weights.variables, "mask_decoder/transformer")
    result = jax.jit(ours.apply)(
        variables,
        tokens.numpy()[None],
        _as_rows(image).numpy()[None],
        _as_rows(positions)[0].numpy(),
    )
    for mine, reference in zip(result, expected, strict=True):
        assert relative_error(mine[0], reference) < BLOCK
