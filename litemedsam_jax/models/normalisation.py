"""BatchNorm and LayerNorm, with gradients written out for CPUs as in models.cpu_ops."""

import math

import jax
import jax.numpy as jnp
from jax import lax

from litemedsam_jax.models.cpu_ops import channel_sums, on_cpu, same

Array = jax.Array


def batch_norm(
    x: Array, scale: Array, bias: Array, epsilon: float, axis: str | None
) -> tuple[Array, Array, Array]:
    """x (..., C) normalised by the batch's own statistics, over all devices of `axis`.

    Returns:
        The result in x's dtype; mean and (biased) variance (C,), which carry no gradient.
    """
    return (_batch_norm if on_cpu() else _plain_batch_norm)(x, scale, bias, epsilon, axis)


def _plain_batch_norm(x, scale, bias, epsilon, axis):
    return _batch_norm_forward(x, scale, bias, epsilon, axis)[0]


_batch_norm = jax.custom_vjp(_plain_batch_norm, nondiff_argnums=(3, 4))


def _batch_norm_forward(x, scale, bias, epsilon, axis):
    wide, count = x.astype(jnp.float32), x.size // x.shape[-1]
    mean = _mean_over(channel_sums(same, wide) / count, axis)
    variance = channel_sums(lambda x: jnp.square(x - mean), wide) / count
    variance = _mean_over(variance, axis)
    inverse = lax.rsqrt(variance + epsilon)
    factor = scale * inverse
    result = (wide * factor + (bias - mean * factor)).astype(x.dtype)
    return (result, mean, variance), (x, scale, mean, inverse)


def _batch_norm_backward(_, axis, saved, gradients):
    x, scale, mean, inverse = saved
    x, gradient = lax.optimization_barrier((x, gradients[0]))
    wide, slope, count = x.astype(jnp.float32), gradient.astype(jnp.float32), x.size // x.shape[-1]
    by_bias = channel_sums(same, slope)
    by_scale = channel_sums(lambda g, x: g * (x - mean), slope, wide) * inverse
    tilt = _mean_over(by_scale / count, axis) * inverse
    offset = _mean_over(by_bias / count, axis)
    by_x = (slope - offset - (wide - mean) * tilt) * (scale * inverse)
    return by_x.astype(x.dtype), by_scale, by_bias


_batch_norm.defvjp(_batch_norm_forward, _batch_norm_backward)


def _mean_over(x: Array, axis: str | None) -> Array:
    return x if axis is None else lax.pmean(x, axis)


def layer_norm(x: Array, scale: Array, bias: Array, epsilon: float) -> Array:
    """x (..., C) normalised over its last axis, in float32."""
    return (_layer_norm if on_cpu() else _plain_layer_norm)(x, scale, bias, epsilon)


def normalise_rows(x: Array, epsilon: float) -> Array:
    """x (..., C) with mean 0 and variance 1 over its last axis, by sums that CPUs vectorise."""
    return normalised_rows(x, epsilon)[0]


def normalised_rows(x: Array, epsilon: float) -> tuple[Array, Array]:
    """The same, and by what x was multiplied, (..., 1)."""
    centred = x - _row_means(x)
    inverse = lax.rsqrt(_row_means(jnp.square(centred)) + epsilon)
    return centred * inverse, inverse


def by_normalised_rows(slope: Array, normal: Array, inverse: Array) -> Array:
    """The gradient by what `normalised_rows` was given; slope: that by the first result."""
    return (slope - _row_means(slope) - normal * _row_means(slope * normal)) * inverse


def _plain_layer_norm(x, scale, bias, epsilon):
    x = x.astype(jnp.float32)
    centred = x - x.mean(-1, keepdims=True)
    variance = jnp.square(centred).mean(-1, keepdims=True)
    return centred * lax.rsqrt(variance + epsilon) * scale + bias


_layer_norm = jax.custom_vjp(_plain_layer_norm, nondiff_argnums=(3,))


def _layer_norm_forward(x, scale, bias, epsilon):
    wide = x.astype(jnp.float32)
    mean = _row_means(wide)
    inverse = lax.rsqrt(_row_means(jnp.square(wide - mean)) + epsilon)
    return (wide - mean) * inverse * scale + bias, (x, scale, mean, inverse)


def _layer_norm_backward(_, saved, gradient):
    x, scale, mean, inverse = saved
    x, gradient = lax.optimization_barrier((x, gradient))
    wide = x.astype(jnp.float32)
    normal, slope = (wide - mean) * inverse, gradient * scale
    by_x = by_normalised_rows(slope, normal, inverse)
    by_scale = channel_sums(lambda g, x, m, i: g * (x - m) * i, gradient, wide, mean, inverse)
    return by_x.astype(x.dtype), by_scale, channel_sums(same, gradient)


_layer_norm.defvjp(_layer_norm_forward, _layer_norm_backward)


def _row_means(x: Array) -> Array:
    """Means over the last axis, (..., 1): parts of it are added first, which vectorises."""
    channels, width = x.shape[-1], math.gcd(x.shape[-1], 16)
    parts = [x[..., start : start + width] for start in range(0, channels, width)]
    return sum(parts[1:], start=parts[0]).sum(-1, keepdims=True) / channels
