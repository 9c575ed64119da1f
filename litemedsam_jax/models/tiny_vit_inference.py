"""LiteMedSAM's TinyViT as inference runs it: folded weights, layer by layer, in row tiles.

The same function as models.tiny_vit after engine.folding, in the forms that XLA's CPU runs fastest.
Every layer takes a tile of rows (1, R, W, C) of its input with the halo of its convolutions, and
`inside` (1, R), 1 for rows of the image and 0 for rows beyond its edges. A layer's activations for
a whole image (up to 170 MB) would not fit a processor's cache; for a tile (25 MB) they mostly do,
and a process needs that much less memory.

`params` are the layer's own, nested and named as in weights.tree.
"""

import math

import jax.numpy as jnp
import numpy as np
from jax import lax

from litemedsam_jax.config import TinyViTConfig
from litemedsam_jax.models import bfloat16_ops
from litemedsam_jax.models.cpu_ops import shifted_sum
from litemedsam_jax.models.inference_attention import attend
from litemedsam_jax.models.inference_layers import Params, linear, normalise, product
from litemedsam_jax.models.layers import Array
from litemedsam_jax.models.normalisation import normalise_rows
from litemedsam_jax.models.polynomials import ERF_LIMIT, ERF_P, ERF_Q, polynomial

_TRANSFORMED_ROWS = 32  # at a time in whole blocks: less memory, no time
_NECK_EPSILON = 1e-6


def first_stage(params: Params, config: TinyViTConfig, image: Array, inside: Array) -> Array:
    """Stem, MBConv blocks and merging: image rows (1, 2n + 1 + 2·depth, S, 3) -> (1, n, S/2, C)."""
    stem, stage = params["patch_embed"], params["layers_0"]
    x = _unit(stem["seq_2"], _activate(stem["seq_2"]["c"], _unit(stem["seq_0"], image)))
    for block in range(config.stages[0].depth):
        x = _mbconv(stage[f"blocks_{block}"], x, inside)
        inside = inside[:, 1:-1]
    return merge(stage["downsample"], x, inside, config.stages[0].downsample_stride or 1)


def _mbconv(params: Params, x: Array, inside: Array) -> Array:
    """(1, R, W, C) -> (1, R - 2, W, C): expand, depthwise 3x3, project, add, GELU."""
    y = _depthwise(params["conv2"]["c"], _widen(params, x, inside))
    y = _activate(params["conv3"]["c"], y)
    return gelu(x[:, 1:-1] + _unit(params["conv3"], y))


def merge(params: Params, x: Array, inside: Array, stride: int) -> Array:
    """Patch merging: (1, stride·(n - 1) + 3, W, C) -> (1, n, W/stride, C')."""
    y = _depthwise(params["conv2"]["c"], _widen(params, x, inside), stride)
    return _unit(params["conv3"], _activate(params["conv3"]["c"], y))


def transform(params: Params, x: Array) -> Array:
    """The rest of a block, (1, R + 2, W, C) -> (1, R, W, C): depthwise 3x3, then MLP (residual).

    Rows beyond the image's edges must be zeros.
    """
    x = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    x = _depthwise(params["local_conv"]["c"], x)
    if bfloat16_ops.is_low(params["mlp"]["fc1"]["kernel"]):
        x = lax.optimization_barrier(x)  # XLA would compute it anew for mean, variance and sum
    hidden = _activate(params["mlp"]["fc2"], linear(params["mlp"]["fc1"], normalise(x)))
    return x + linear(params["mlp"]["fc2"], hidden)


def block(params: Params, x: Array, window: int, subtract_max: bool = True) -> Array:
    """`attend` and `transform` of a whole grid (1, S, S, C)."""
    size = x.shape[1]
    y, _ = _around(x, 0, -size % window)
    y = attend(params, y, window, subtract_max)
    y, _ = _around(y[:, :size], 1, 1)
    rows = math.gcd(size, _TRANSFORMED_ROWS)
    parts = [transform(params, y[:, i : i + rows + 2]) for i in range(0, size, rows)]
    return jnp.concatenate(parts, axis=1)


def neck(params: Params, x: Array, inside: Array) -> Array:
    """SAM's neck: (1, R + 2, W, C) -> (1, R, W, C'): 1x1, LayerNorm, 3x3, LayerNorm."""
    x = product(x, params["neck_0"]["kernel"][0, 0])
    x = _affine(params["neck_1"], normalise_rows(x, _NECK_EPSILON))
    x = jnp.where((inside > 0)[:, :, None, None], x, 0)  # where the convolution is to see zeros
    numbers = ("NHWC", "HWIO", "NHWC")
    kernel = params["neck_2"]["kernel"]
    if bfloat16_ops.is_low(kernel):
        x = bfloat16_ops.convolution_3x3(x, kernel)
        return _affine(params["neck_3"], normalise_rows(x, _NECK_EPSILON))
    padding = [(0, 0), (1, 1)]
    x = lax.conv_general_dilated(x, kernel, (1, 1), padding, dimension_numbers=numbers)
    return _affine(params["neck_3"], normalise_rows(x, _NECK_EPSILON))


def encode(params: Params, config: TinyViTConfig, image: Array) -> Array:
    """Images (1, S, S, 3) -> embedding (1, G, G, C): every layer on the whole, in one program."""
    halo = config.stages[0].depth + 1
    x = first_stage(params, config, *_around(image, halo, halo))
    for index, stage in enumerate(config.stages[1:], start=1):
        layers = params[f"layers_{index}"]
        for number in range(stage.depth):
            x = block(layers[f"blocks_{number}"], x, stage.window)
        if stage.downsample_stride is not None:
            x = merge(layers["downsample"], *_around(x, 1, 1), stage.downsample_stride)
    return neck(params, *_around(x, 1, 1))


def _around(x: Array, above: int, below: int) -> tuple[Array, Array]:
    """x with rows beyond the image's edges, and `inside`."""
    inside = jnp.pad(jnp.ones((1, x.shape[1])), ((0, 0), (above, below)))
    return jnp.pad(x, ((0, 0), (above, below), (0, 0), (0, 0))), inside


def gelu(x: Array, keep: Array | None = None) -> Array:
    """GELU in its exact form, 0 where `keep` is False.

    The division comes last: XLA stores what a division makes instead of making it anew for each
    of a convolution's nine shifts, as it does with sums and products.
    """
    z = jnp.clip(x * np.float32(0.5**0.5), -ERF_LIMIT, ERF_LIMIT)
    numerator, denominator = polynomial(ERF_P, z * z), polynomial(ERF_Q, z * z)
    dividend = x * 0.5 * (denominator + z * numerator)
    if keep is not None:
        dividend = jnp.where(keep, dividend, 0)
    return dividend / denominator


def _activate(params: Params, x: Array) -> Array:
    """`_gelu_for`, stored where it is rounded."""
    y = _gelu_for(params, x)
    return lax.optimization_barrier(y) if bfloat16_ops.is_low(y) else y


def _gelu_for(params: Params, x: Array, keep: Array | None = None) -> Array:
    """`gelu`, in bfloat16 where the product of `params` that reads it would round it."""
    rounded = bfloat16_ops.is_rounded(params["kernel"], x.shape[-1])
    return bfloat16_ops.gelu(x, keep) if rounded else gelu(x, keep)


def _widen(params: Params, x: Array, inside: Array) -> Array:
    """1x1 convolution and GELU, with a column of zeros at both sides and zeros beyond the image."""
    keep = (inside > 0)[:, :, None, None]
    y = _gelu_for(params["conv3"]["c"], _unit(params["conv1"], x), keep)
    # Stored, with its columns: XLA would compute it anew for each of a convolution's nine shifts.
    return lax.optimization_barrier(jnp.pad(y, ((0, 0), (0, 0), (1, 1), (0, 0))))


def _depthwise(params: Params, x: Array, stride: int = 1) -> Array:
    """Depthwise 3x3 without padding."""
    kernel = params["kernel"][:, :, 0]
    return shifted_sum(x.astype(kernel.dtype), kernel, stride, 0) + params["bias"]


def _unit(params: Params, x: Array) -> Array:
    """A 1x1 convolution into which its BatchNorm was folded."""
    y, bias = product(x, params["c"]["kernel"][0, 0]), params["c"]["bias"]
    if y.shape[-1] > len(bias):  # by the kernel's high and low parts, see engine.rounding
        y = y[..., : len(bias)] + y[..., len(bias) :]
    return y + bias


def _affine(params: Params, x: Array) -> Array:
    return x * params["scale"] + params["bias"]
