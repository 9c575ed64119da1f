"""A transformer block's MLP as training computes it on CPUs: see models.cpu_tiles."""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from litemedsam_jax.models.cpu_ops import channel_sums, gelu_and_slope, rational_gelu, same
from litemedsam_jax.models.cpu_tiles import Array, as_rows, in_tiles, operand, times, zeros
from litemedsam_jax.models.normalisation import by_normalised_rows, normalised_rows

_ROWS = 256  # of a tile: with 1280 channels between its products 1.3 MB in float32


class MlpParameters(NamedTuple):
    """Of LayerNorm and the two products: (C,), (C,), (C, O), (O,), (O, C), (C,)."""

    scale: Array
    offset: Array
    widen: Array
    widen_bias: Array
    narrow: Array
    narrow_bias: Array


def with_mlp(x: Array, parameters: MlpParameters, epsilon: float, dtype: str) -> Array:
    """x + narrow(GELU(widen(LayerNorm(x)))).

    Args:
        x: (..., C) float32.
        parameters: float32.
        epsilon: LayerNorm's.
        dtype: "float32" or "bfloat16", of the products' operands.
    """
    return _with_mlp(as_rows(x), parameters, epsilon, dtype).reshape(x.shape)


def _forward(x, parameters, epsilon, dtype):
    scale, offset, widen, widen_bias, narrow, narrow_bias = parameters
    widen, narrow = operand(widen, dtype), operand(narrow, dtype)

    def tile(_, x):
        y = operand(normalised_rows(x, epsilon)[0] * scale + offset, dtype)
        hidden = operand(rational_gelu(times(y, widen, 0) + widen_bias), dtype)
        return None, x + times(hidden, narrow, 0) + narrow_bias

    y = lax.scan(tile, None, in_tiles(x, _ROWS))[1]
    return y.reshape(x.shape), (x, parameters)


def _backward(epsilon, dtype, saved, gradient):
    x, parameters = lax.optimization_barrier(saved)
    scale, offset, widen, widen_bias, narrow, _ = parameters
    channels, hidden = widen.shape
    turned, widen, narrow = (operand(w, dtype) for w in (widen.T, widen, narrow))

    def tile(sums, one):
        x, slope = one
        normal, inverse = normalised_rows(x, epsilon)
        y, low = operand(normal * scale + offset, dtype), operand(slope, dtype)
        # What has `hidden` channels is laid out (hidden, rows): every product below then has its
        # left operand as it should be.
        activated, steepness = gelu_and_slope(times(turned, y, 1) + widen_bias[:, None])
        by_hidden = times(narrow, low, 1) * steepness
        low_hidden = operand(by_hidden, dtype)
        by_widen = times(low_hidden, y, 0)
        by_narrow = times(operand(activated, dtype), low, 0)
        by_y = lax.optimization_barrier(times(widen, low_hidden, 0).T)
        parts = (
            channel_sums(jnp.multiply, by_y, normal),
            channel_sums(same, by_y),
            by_widen,
            by_hidden.sum(1),
            by_narrow,
            channel_sums(same, slope),
        )
        by_x = slope + by_normalised_rows(by_y * scale, normal, inverse)
        return jax.tree.map(jnp.add, sums, parts), by_x

    sums = zeros(
        (channels,), (channels,), (hidden, channels), (hidden,), (hidden, channels), (channels,)
    )
    sums, by_x = lax.scan(tile, sums, (in_tiles(x, _ROWS), in_tiles(gradient, _ROWS)))
    by_parameters = MlpParameters(*sums)
    return by_x.reshape(x.shape), by_parameters._replace(widen=by_parameters.widen.T)


def _plain(x, parameters, epsilon, dtype):
    return _forward(x, parameters, epsilon, dtype)[0]


_with_mlp = jax.custom_vjp(_plain, nondiff_argnums=(2, 3))
_with_mlp.defvjp(_forward, _backward)
