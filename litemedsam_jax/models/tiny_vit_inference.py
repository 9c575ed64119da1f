"""LiteMedSAM's TinyViT as inference runs it: folded weights, layer by layer, in row tiles.

The same function as models.tiny_vit after engine.folding, in the forms that XLA's CPU runs fastest.
Every layer takes a tile of rows (1, R, W, C) of its input with the halo of its convolutions, and
`inside` (1, R), 1 for rows of the image and 0 for rows beyond its edges. A layer's activations for
a whole image (up to 170 MB) would not fit a processor's cache; for a tile (25 MB) they mostly do,
and a process needs that much less memory.

`params` are the layer's own, nested and named as in weights.tree.
"""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from litemedsam_jax.config import TinyViTConfig
from litemedsam_jax.models import bfloat16_ops
from litemedsam_jax.models.cpu_ops import shifted_sum
from litemedsam_jax.models.layers import Array, merge_windows, partition_windows
from litemedsam_jax.models.normalisation import normalise_rows
from litemedsam_jax.models.polynomials import ERF_LIMIT, ERF_P, ERF_Q, exp2, polynomial
from litemedsam_jax.models.tiny_vit import offset_index

Params = dict[str, Any]

_TRANSFORMED_ROWS = 32  # at a time in whole blocks: less memory, no time
_ATTENDING_TOKENS = 500  # at a time, about: their logits stay in a core's own cache
_FEW_KEYS = 64
_LOWEST = -126.0  # of exponents of two in float32
_FEW_HEADS = 8  # of more, one operation each would not stay on one thread
_LAYER_NORM_EPSILON, _NECK_EPSILON = 1e-5, 1e-6


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


def attend(params: Params, x: Array, heads: int, window: int, subtract_max: bool = True) -> Array:
    """x plus its window attention, for whole rows of windows (1, k·window, W, C).

    Beyond the image x is zero, and so are its tokens, as torch's padding has it: with the LayerNorm
    folded, `qkv` makes its bias of them. `subtract_max` as in `_attention`.
    """
    params = params["attn"]
    _, height, width, dim = x.shape
    padded_width = -(-width // window) * window
    operand = params["qkv"]["kernel"].dtype  # of products
    tokens = _as_operand(_normalise(x), operand)
    tokens = jnp.pad(tokens, ((0, 0), (0, 0), (0, padded_width - width), (0, 0)))
    # Cut before `qkv` makes three channels of one.
    tokens = partition_windows(tokens, window)
    biases, indices = params["attention_biases"], offset_index(window)
    # From the heads' biases in a row, so that a head's lie together.
    places = np.arange(heads)[:, None, None] * biases.shape[1] + indices
    bias = lax.optimization_barrier(biases.reshape(-1)[places])
    step = max(1, round(_ATTENDING_TOKENS / window**2))
    parts: list[Array] = []
    for start in range(0, len(tokens), step):
        some = tokens[start : start + step]
        if parts:  # one after the other: XLA would hand the second to another thread
            some, parts[-1] = lax.optimization_barrier((some, parts[-1]))
        qkv = _as_operand(_linear(params["qkv"], some), operand)
        qkv = qkv.reshape(-1, window**2, heads, 3, dim // heads).transpose(3, 0, 2, 1, 4)
        mixed, sums = _attention(qkv[0], qkv[1], qkv[2], bias, subtract_max)
        parts.append(_side_by_side(mixed, 1 / sums, operand))
    y = jnp.concatenate(parts)
    y = merge_windows(y, window, height, padded_width)[:, :, :width]
    return x + _linear(params["proj"], y)


def _attention(
    q: Array, k: Array, v: Array, bias: Array, subtract_max: bool
) -> tuple[Array, Array]:
    """softmax(q·kᵀ + bias)·v, of powers of two; float32 or of bfloat16 operands.

    Every product for itself is what YNNPACK does fastest; joined with the softmax, and keys before
    queries, these took 1.1 times as long, and bfloat16 has no AMX that way.

    Args:
        q: (windows, h, L, d), already scaled, also for powers of two, as `bias` is.
        k: (windows, h, S, d).
        v: (windows, h, S, d).
        bias: (h, L, S).
        subtract_max: of logits, before their exponential, against overflow. False where they are
            known to be small (see engine.attention_bounds).

    Returns:
        The result (windows, h, L, d) and what it is to be divided by (windows, h, L, 1), float32.
    """
    logits = _batched(q, k, 3) + bias
    if subtract_max:
        logits = jnp.maximum(logits - logits.max(-1, keepdims=True), _LOWEST)
    weights = exp2(logits)
    if v.dtype == weights.dtype:  # else rounding stores them
        weights = lax.optimization_barrier(weights)
    if k.shape[-2] <= _FEW_KEYS:
        mixed = _batched(_as_operand(weights, v.dtype), v, 2)
        # The zero makes the sum wait for the product: XLA hands one of two operations that could
        # run side by side to another thread, and lanes have no other core.
        return mixed, (weights + 0 * mixed[..., :1]).sum(-1, keepdims=True)
    # Sums over a long last axis are slow: a column of ones beside v lets the product make them.
    with_ones = jnp.concatenate([v, jnp.ones_like(v[..., :1])], axis=-1)
    mixed = _batched(_as_operand(weights, v.dtype), with_ones, 2)
    return mixed[..., :-1], mixed[..., -1:]


def _side_by_side(x: Array, factor: Array, dtype: Any) -> Array:
    """Heads (windows, h, L, d) times (windows, h, L, 1) -> operands (windows, L, h·d)."""
    windows, heads, length, _ = x.shape
    if heads > _FEW_HEADS:
        y = _as_operand(x * factor, dtype).transpose(0, 2, 1, 3)
        return y.reshape(windows, length, -1)
    # A loop over all heads would not be vectorised.
    each = [_as_operand(x[:, head] * factor[:, head], dtype) for head in range(heads)]
    return lax.optimization_barrier(jnp.concatenate(each, axis=-1))


def _as_operand(x: Array, dtype: Any) -> Array:
    """x as a product takes it, float32 or bfloat16."""
    return x if dtype == x.dtype else bfloat16_ops.rounded(x)


def _batched(x: Array, y: Array, axis: int) -> Array:
    """Products of each window and head, over the last axis of x and an axis of y, in float32."""
    dimensions = ((3,), (axis,)), ((0, 1), (0, 1))
    return lax.dot_general(x, y, dimensions, preferred_element_type=jnp.float32)


def transform(params: Params, x: Array) -> Array:
    """The rest of a block, (1, R + 2, W, C) -> (1, R, W, C): depthwise 3x3, then MLP (residual).

    Rows beyond the image's edges must be zeros.
    """
    x = jnp.pad(x, ((0, 0), (0, 0), (1, 1), (0, 0)))
    x = _depthwise(params["local_conv"]["c"], x)
    if bfloat16_ops.is_low(params["mlp"]["fc1"]["kernel"]):
        x = lax.optimization_barrier(x)  # XLA would compute it anew for mean, variance and sum
    hidden = _activate(params["mlp"]["fc2"], _linear(params["mlp"]["fc1"], _normalise(x)))
    return x + _linear(params["mlp"]["fc2"], hidden)


def block(params: Params, x: Array, heads: int, window: int, subtract_max: bool = True) -> Array:
    """`attend` and `transform` of a whole grid (1, S, S, C)."""
    size = x.shape[1]
    y, _ = _around(x, 0, -size % window)
    y = attend(params, y, heads, window, subtract_max)
    y, _ = _around(y[:, :size], 1, 1)
    rows = math.gcd(size, _TRANSFORMED_ROWS)
    parts = [transform(params, y[:, i : i + rows + 2]) for i in range(0, size, rows)]
    return jnp.concatenate(parts, axis=1)


def neck(params: Params, x: Array, inside: Array) -> Array:
    """SAM's neck: (1, R + 2, W, C) -> (1, R, W, C'): 1x1, LayerNorm, 3x3, LayerNorm."""
    x = _product(x, params["neck_0"]["kernel"][0, 0])
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
            x = block(layers[f"blocks_{number}"], x, stage.heads, stage.window)
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
    """GELU of what the product of `params` reads, in bfloat16 where that would round it."""
    y = _gelu_for(params, x)
    return lax.optimization_barrier(y) if bfloat16_ops.is_low(y) else y


def _gelu_for(params: Params, x: Array, keep: Array | None = None) -> Array:
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
    y, bias = _product(x, params["c"]["kernel"][0, 0]), params["c"]["bias"]
    if y.shape[-1] > len(bias):  # by the kernel's high and low parts, see engine.rounding
        y = y[..., : len(bias)] + y[..., len(bias) :]
    return y + bias


def _linear(params: Params, x: Array) -> Array:
    return _product(x, params["kernel"]) + params["bias"]


def _affine(params: Params, x: Array) -> Array:
    return x * params["scale"] + params["bias"]


def _normalise(x: Array) -> Array:
    return normalise_rows(x, _LAYER_NORM_EPSILON)


def _product(x: Array, kernel: Array) -> Array:
    """x (..., C) times kernel (C, O), as a 1x1 convolution.

    To XLA it is the same matrix product in the end, but only after the pass that hands products to
    YNNPACK. That pass is right for attention (5.6 instead of 15 ms) and wrong here: it
    materialises what is broadcast around the product (34 instead of 22 ms).
    """
    if bfloat16_ops.is_low(kernel):
        return bfloat16_ops.product(x, kernel)
    numbers = ("NHWC", "HWIO", "NHWC")
    rows = x.reshape(1, 1, -1, x.shape[-1])
    rows = lax.conv_general_dilated(
        rows, kernel[None, None], (1, 1), "VALID", dimension_numbers=numbers
    )
    return rows.reshape(*x.shape[:-1], kernel.shape[-1])
