"""TinyViT's window attention as inference runs it, beside models.tiny_vit_inference."""

import math
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from litemedsam_jax.models import bfloat16_ops
from litemedsam_jax.models.inference_layers import Params, linear, normalise
from litemedsam_jax.models.layers import Array
from litemedsam_jax.models.polynomials import exp2
from litemedsam_jax.models.tiny_vit import offset_index

_ATTENDING_TOKENS = 500  # at a time, about: their logits stay in a core's own cache
_FEW_KEYS = 64
_LOWEST = -126.0  # of exponents of two in float32
_FEW_HEADS = 8  # of more, one operation each would not stay on one thread


def attend(params: Params, x: Array, heads: int, window: int, subtract_max: bool = True) -> Array:
    """x plus its window attention, for whole rows of windows (1, k·window, W, C).

    Beyond the image x is zero, and so are its tokens, as torch's padding has it: with the LayerNorm
    folded, `qkv` makes its bias of them. `subtract_max` as in `_attention`.
    """
    params = params["attn"]
    width = x.shape[2]
    tokens = _as_operand(normalise(x), params["qkv"]["kernel"].dtype)
    biases, indices = params["attention_biases"], offset_index(window)
    # From the heads' biases in a row, so that a head's lie together.
    places = np.arange(heads)[:, None, None] * biases.shape[1] + indices
    bias = lax.optimization_barrier(biases.reshape(-1)[places])
    whole = width - width % window
    if bfloat16_ops.is_low(params["qkv"]["kernel"]):  # whose small products are slow
        tokens = jnp.pad(tokens, ((0, 0), (0, 0), (0, -width % window), (0, 0)))
        whole = tokens.shape[2]
    attended: list[Array] = []
    for columns in (tokens[:, :, :whole], tokens[:, :, whole:]):
        if not columns.size:
            continue
        parts: list[Array] = []
        for some in _in_turn(_windows(columns, window)):
            before = parts or attended
            if before:  # one after the other: XLA would hand the second to another thread
                some, before[-1] = lax.optimization_barrier((some, before[-1]))
            parts.append(_attend_windows(params, some, bias, subtract_max))
        attended.append(_from_windows(jnp.concatenate(parts), x.shape[1]))
    y = jnp.concatenate(attended, axis=2)[:, :, :width]
    return x + linear(params["proj"], y)


def _windows(tokens: Array, window: int) -> Array:
    """Columns that are whole windows, or less than one: (1, k·w, W, C) -> (n, w, min(w, W), C)."""
    _, height, width, channels = tokens.shape
    columns = min(window, width)
    parts = tokens.reshape(height // window, window, -1, columns, channels)
    return parts.swapaxes(1, 2).reshape(-1, window, columns, channels)


def _in_turn(windows: Array) -> list[Array]:
    """Windows (n, w, c, C) some at a time, in equal parts as far as it goes."""
    count, window = windows.shape[:2]
    most = max(1, round(_ATTENDING_TOKENS / window**2))
    step = math.ceil(count / math.ceil(count / most))
    return [windows[start : start + step] for start in range(0, count, step)]


def _from_windows(windows: Array, height: int) -> Array:
    """(n, w, c, C) -> (1, k·w, W, C), what `_windows` was given."""
    _, window, columns, channels = windows.shape
    parts = windows.reshape(height // window, -1, window, columns, channels).swapaxes(1, 2)
    return parts.reshape(1, height, -1, channels)


def _attend_windows(params: Params, tokens: Array, bias: Array, subtract_max: bool) -> Array:
    """Windows (n, w, c, C) that attend, of which the right edge of the image may leave c columns.

    Args:
        params: of the attention.
        tokens: operands of products.
        bias: (h, w², w²) of logits.
        subtract_max: as in `_attention`.

    Returns:
        (n, w, c, C), operands of products.
    """
    count, window, columns, channels = tokens.shape
    qkv = _as_operand(linear(params["qkv"], tokens), tokens.dtype)
    queries, keys = qkv, qkv
    if columns < window:
        beyond = _as_operand(params["qkv"]["bias"], tokens.dtype)
        beyond = jnp.broadcast_to(beyond, (count, window, window - columns, len(beyond)))
        keys = jnp.concatenate([qkv, beyond], axis=2)
        bias = bias.reshape(-1, window, window, window**2)[:, :, :columns]
        bias = bias.reshape(-1, window * columns, window**2)
    heads = len(bias)
    q = _by_head(queries, heads)[0]
    _, k, v = _by_head(keys, heads)
    mixed, sums = _attention(q, k, v, bias, subtract_max)
    y = _side_by_side(mixed, 1 / sums, tokens.dtype)
    return y.reshape(count, window, columns, channels)


def _by_head(qkv: Array, heads: int) -> Array:
    """(n, w, c, 3·C) -> q, k and v (3, n, h, w·c, d)."""
    count, window, columns, _ = qkv.shape
    return qkv.reshape(count, window * columns, heads, 3, -1).transpose(3, 0, 2, 1, 4)


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
