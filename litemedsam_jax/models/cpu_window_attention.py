"""Attention inside windows as training computes it on CPUs: see models.cpu_tiles.

The backward pass computes the weights from each query's logarithm of its sum of exponentials (Dao,
"FlashAttention-2", 2023, appendix of the backward pass). Keys come before queries, so that sums
over keys vectorise.
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from litemedsam_jax.models.cpu_ops import channel_sums, same
from litemedsam_jax.models.cpu_tiles import Array, in_tiles, operand, times, zeros
from litemedsam_jax.models.normalisation import by_normalised_rows, normalised_rows

_TOKENS = 1000  # of a tile


class AttentionParameters(NamedTuple):
    """Of LayerNorm (C,), q, k and v (C, 3·C), the output (C, C), and (heads, keys, queries)."""

    scale: Array
    offset: Array
    qkv: Array
    qkv_bias: Array
    projection: Array
    projection_bias: Array
    bias: Array


def with_attention(x: Array, parameters: AttentionParameters, epsilon: float, dtype: str) -> Array:
    """x + projection(softmax(q·kᵀ/sqrt(d) + bias)·v), q, k and v of LayerNorm(x).

    Args:
        x: (windows, L, C) float32.
        parameters: float32; the channels of a head lie together: its q, its k, its v.
        epsilon: LayerNorm's.
        dtype: "float32" or "bfloat16", of the products' operands.
    """
    return _with_attention(x, parameters, epsilon, dtype)


def _forward(x, parameters, epsilon, dtype):
    scale, offset, qkv, qkv_bias, projection, projection_bias, bias = parameters
    heads = bias.shape[0]
    qkv, projection = operand(qkv, dtype), operand(projection, dtype)

    def tile(_, x):
        windows, length, channels = x.shape
        x = x.reshape(-1, channels)
        y = operand(normalised_rows(x, epsilon)[0] * scale + offset, dtype)
        parts = (times(y, qkv, 0) + qkv_bias).reshape(windows, length, heads, 3, -1)
        q, k, _ = _by_head(parts, dtype)
        logits = times(k, q, 3) + bias  # (windows, h, keys, queries)
        largest = lax.optimization_barrier(logits.max(-2, keepdims=True))
        weights = jnp.exp(logits - largest)
        total = weights.sum(-2, keepdims=True)
        mixed = times(_turned(parts, 2, dtype), operand(weights, dtype), 2) / total
        mixed = operand(mixed.transpose(0, 3, 1, 2).reshape(x.shape), dtype)
        y = x + times(mixed, projection, 0) + projection_bias
        return None, (y.reshape(windows, length, channels), largest + jnp.log(total))

    y, log_totals = lax.scan(tile, None, _in_tiles(x))[1]
    return y.reshape(x.shape), (x, parameters, log_totals)


def _backward(epsilon, dtype, saved, gradient):
    x, parameters, log_totals = lax.optimization_barrier(saved)
    scale, offset, qkv, qkv_bias, projection, _, bias = parameters
    heads, channels = bias.shape[0], x.shape[-1]
    qkv, projection = operand(qkv, dtype), operand(projection, dtype)

    def tile(sums, one):
        x, slope, log_total = one
        windows, length, _ = shape = x.shape
        x, slope = x.reshape(-1, channels), slope.reshape(-1, channels)
        normal, inverse = normalised_rows(x, epsilon)
        y = normal * scale + offset
        y_turned, y, low = operand(y.T, dtype), operand(y, dtype), operand(slope, dtype)
        parts = (times(y, qkv, 0) + qkv_bias).reshape(windows, length, heads, 3, -1)
        q, k, v = _by_head(parts, dtype)
        by_mixed = times(low, projection, 1).reshape(windows, length, heads, -1)
        by_mixed = operand(by_mixed.transpose(0, 2, 1, 3), dtype)
        weights = jnp.exp(times(k, q, 3) + bias - log_total)
        weights, low_weights = lax.optimization_barrier((weights, weights.astype(dtype)))
        mixed = times(_turned(parts, 2, dtype), low_weights, 2)  # (windows, h, d, queries)
        mixed = operand(mixed.transpose(1, 2, 0, 3).reshape(channels, -1), dtype)
        by_weights = times(v, by_mixed, 3)
        by_logits = weights * (by_weights - (weights * by_weights).sum(-2, keepdims=True))
        low_logits = operand(by_logits, dtype)
        by_q = times(_turned(parts, 1, dtype), low_logits, 2).swapaxes(2, 3) * _scale(q)
        by_parts = [by_q, times(low_logits, q, 2), times(low_weights, by_mixed, 2)]
        by_qkv = jnp.stack(by_parts, axis=3).transpose(0, 2, 1, 3, 4).reshape(-1, 3 * channels)
        by_qkv, low_qkv = lax.optimization_barrier((by_qkv, by_qkv.astype(dtype)))
        by_y = times(low_qkv, qkv, 1)
        parts = (
            channel_sums(jnp.multiply, by_y, normal),
            channel_sums(same, by_y),
            times(y_turned, low_qkv, 0),
            channel_sums(same, by_qkv),
            times(mixed, low, 0),
            channel_sums(same, slope),
            by_logits.sum(0),
        )
        by_x = slope + by_normalised_rows(by_y * scale, normal, inverse)
        return jax.tree.map(jnp.add, sums, parts), by_x.reshape(shape)

    sums = zeros(*(parameter.shape for parameter in parameters))
    sums, by_x = lax.scan(tile, sums, (_in_tiles(x), _in_tiles(gradient), log_totals))
    return by_x.reshape(x.shape), AttentionParameters(*sums)


def _plain(x, parameters, epsilon, dtype):
    return _forward(x, parameters, epsilon, dtype)[0]


_with_attention = jax.custom_vjp(_plain, nondiff_argnums=(2, 3))
_with_attention.defvjp(_forward, _backward)


def _in_tiles(x: Array) -> Array:
    return in_tiles(x, max(1, _TOKENS // x.shape[1]))


def _by_head(parts: Array, dtype: str) -> tuple[Array, Array, Array]:
    """q, scaled, k and v, each (windows, h, L, d), of (windows, L, h, 3, d)."""
    q, k, v = (parts[..., i, :].transpose(0, 2, 1, 3) for i in range(3))
    return operand(q * _scale(q), dtype), operand(k, dtype), operand(v, dtype)


def _turned(parts: Array, index: int, dtype: str) -> Array:
    """k (1) or v (2), (windows, h, d, L)."""
    return operand(parts[..., index, :].transpose(0, 2, 3, 1), dtype)


def _scale(q: Array) -> float:
    return q.shape[-1] ** -0.5
