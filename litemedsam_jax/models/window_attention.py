"""Attention inside windows as training computes it on CPUs, with its gradient written out.

Some windows at a time, so that their logits stay in the cache; the backward pass computes these
anew instead of storing them (Dao, "FlashAttention-2", 2023, appendix of the backward pass).
"""

import jax
import jax.numpy as jnp
from jax import lax

from litemedsam_jax.models.cpu_ops import on_cpu
from litemedsam_jax.models.layers import Array, attend_transposed

_TOKENS = 1000  # at a time


def attend_windows(qkv: Array, bias: Array) -> Array:
    """softmax(q·kᵀ/sqrt(d) + bias)·v of each window and head.

    Args:
        qkv: (windows, L, h, 3, d).
        bias: (h, L, L) float32; keys before queries.

    Returns:
        (windows, L, h·d), in the dtype of `qkv`.
    """
    if on_cpu():
        return _attend(qkv, bias)
    q = qkv[..., 0, :].transpose(0, 2, 1, 3) * qkv.shape[-1] ** -0.5  # (windows, h, L, d)
    k = qkv[..., 1, :].transpose(0, 2, 1, 3)
    v = qkv[..., 2, :].transpose(0, 2, 3, 1)  # (windows, h, d, L)
    return _join(attend_transposed(q, k, v, bias).transpose(0, 3, 1, 2))


@jax.custom_vjp
def _attend(qkv, bias):
    return _attend_forward(qkv, bias)[0]


def _attend_forward(qkv, bias):
    def part(_, qkv):
        q, k, v = _split(qkv)
        logits = _product(k, q, 3, 3) + bias  # (c, h, keys, queries): sums over keys vectorise
        largest = logits.max(-2, keepdims=True)
        weights = jnp.exp(logits - largest)
        total = weights.sum(-2, keepdims=True)
        mixed = _product(v, weights.astype(v.dtype), 2, 2) / total  # (c, h, d, queries)
        joined = _join(mixed.transpose(0, 3, 1, 2)).astype(qkv.dtype)
        return None, (joined, largest + jnp.log(total))

    _, (mixed, log_totals) = lax.scan(part, None, _parts(qkv))
    return mixed.reshape(*qkv.shape[:2], -1), (qkv, bias, log_totals)


def _attend_backward(saved, gradient):
    qkv, bias, log_totals = lax.optimization_barrier(saved)
    heads, scale = qkv.shape[2], qkv.shape[-1] ** -0.5
    gradient = gradient.reshape(*gradient.shape[:2], heads, -1)

    def part(by_bias, one):
        qkv, log_total, slope = one
        q, k, v = _split(qkv)
        slope = slope.transpose(0, 2, 1, 3)  # (c, h, queries, d)
        weights = jnp.exp(_product(k, q, 3, 3) + bias - log_total)
        by_weights = _product(v, slope, 3, 3)
        by_logits = weights * (by_weights - (weights * by_weights).sum(-2, keepdims=True))
        low = by_logits.astype(qkv.dtype)
        by_q = _product(low, k, 2, 2) * scale
        by_k, by_v = _product(low, q, 3, 2), _product(weights.astype(qkv.dtype), slope, 3, 2)
        by_qkv = jnp.stack([by_q, by_k, by_v], axis=3).transpose(0, 2, 1, 3, 4)
        return by_bias + by_logits.sum(0), by_qkv.astype(qkv.dtype)

    zeros = jnp.zeros(bias.shape, jnp.float32)
    by_bias, by_qkv = lax.scan(part, zeros, (_parts(qkv), log_totals, _parts(gradient)))
    return by_qkv.reshape(qkv.shape), by_bias


_attend.defvjp(_attend_forward, _attend_backward)


def _parts(x: Array) -> Array:
    """(windows, L, ...) -> (parts, windows of a part, L, ...)."""
    windows, length = x.shape[:2]
    most = max(1, _TOKENS // length)
    size = max(size for size in range(1, most + 1) if windows % size == 0)
    return x.reshape(-1, size, *x.shape[1:])


def _split(qkv: Array) -> tuple[Array, Array, Array]:
    """q, scaled, k and v, each (c, h, L, d), of (c, L, h, 3, d)."""
    qkv = qkv.transpose(3, 0, 2, 1, 4)
    scale = jnp.asarray(qkv.shape[-1] ** -0.5, qkv.dtype)
    return lax.optimization_barrier((qkv[0] * scale, qkv[1], qkv[2]))


def _join(x: Array) -> Array:
    """(c, L, h, d) -> (c, L, h·d)."""
    return x.reshape(*x.shape[:2], -1)


def _product(x: Array, y: Array, x_axis: int, y_axis: int) -> Array:
    """x and y, each (c, h, ., .), multiplied over an axis of each; float32."""
    dimensions = ((x_axis,), (y_axis,)), ((0, 1), (0, 1))
    return lax.dot_general(x, y, dimensions, preferred_element_type=jnp.float32)
