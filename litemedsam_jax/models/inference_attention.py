"""TinyViT's window attention as inference runs it, beside models.tiny_vit_inference."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from litemedsam_jax.models import bfloat16_ops
from litemedsam_jax.models.cpu_ops import on_cpu
from litemedsam_jax.models.inference_layers import Params, linear, normalise
from litemedsam_jax.models.layers import Array, merge_windows, partition_windows
from litemedsam_jax.models.polynomials import exp2
from litemedsam_jax.models.tiny_vit import offset_index

_ATTENDING_TOKENS = 14**2  # at a time: their logits stay in a core's own cache
_REPEATED = 0.06  # of the windows that may be added so that turns are equal
_FEW_KEYS = 64
_LOWEST = -126.0  # of exponents of two in float32
_FEW_HEADS = 8  # of more, one operation each would not stay on one thread


def attend(params: Params, x: Array, window: int, subtract_max: bool = True) -> Array:
    """x plus its window attention, for whole rows of windows (1, k·window, W, C).

    Beyond the image x is zero, and so are its tokens, as torch's padding has it: with the LayerNorm
    folded, `qkv` makes its bias of them. `subtract_max` as in `_attention`.
    """
    params = params["attn"]
    _, height, width, _ = x.shape
    padded_width = -(-width // window) * window
    tokens = _as_operand(normalise(x), params["qkv"]["kernel"].dtype)
    tokens = jnp.pad(tokens, ((0, 0), (0, 0), (0, padded_width - width), (0, 0)))
    # Cut before `qkv` makes three channels of one.
    tokens = partition_windows(tokens, window)
    bias = lax.optimization_barrier(_bias(params["attention_biases"], window))
    y = _in_turn(lambda some: _attend_windows(params, some, bias, subtract_max), tokens)
    y = merge_windows(y, window, height, padded_width)[:, :, :width]
    return x + linear(params["proj"], y)


def _bias(biases: Array, window: int) -> Array:
    """Of each query and key (h, w², w²), from the biases by |Δrow| and |Δcolumn| (h, w·w)."""
    heads, offsets = biases.shape
    # A byte each, kept as such: integers of all heads would be most of the program.
    indices = offset_index(window).astype(np.min_scalar_type(offsets - 1))
    indices = lax.optimization_barrier(jnp.asarray(indices))
    # From the heads' biases in a row, so that a head's lie together.
    places = jnp.arange(heads)[:, None, None] * offsets + indices.astype(jnp.int32)
    return biases.reshape(-1)[places]


def _in_turn(function: Callable[[Array], Array], windows: Array) -> Array:
    """A function of windows (n, L, C), on CPUs in a loop over some where they can be cut so.

    Written out, each turn would have operations of its own, which a program is slow to load.
    Accelerators take all windows at once.
    """
    count, length, _ = windows.shape
    turns = -(-count * length // _ATTENDING_TOKENS)
    each = -(-count // turns)
    if not on_cpu() or turns == 1 or turns * each > count * (1 + _REPEATED):
        return function(windows)
    padded = jnp.pad(windows, ((0, turns * each - count), (0, 0), (0, 0)))
    made = lax.map(function, padded.reshape(turns, each, *windows.shape[1:]))
    return made.reshape(-1, *made.shape[2:])[:count]


def _attend_windows(params: Params, tokens: Array, bias: Array, subtract_max: bool) -> Array:
    """Windows (n, L, C) that attend, operands of products.

    Args:
        params: of the attention.
        tokens: of windows.
        bias: (h, L, L) of logits.
        subtract_max: as in `_attention`.
    """
    windows, length, _ = tokens.shape
    qkv = _as_operand(linear(params["qkv"], tokens), tokens.dtype)
    qkv = qkv.reshape(windows, length, len(bias), 3, -1).transpose(3, 0, 2, 1, 4)
    mixed, sums = _attention(qkv[0], qkv[1], qkv[2], bias, subtract_max)
    return _side_by_side(mixed, 1 / sums, tokens.dtype)


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
