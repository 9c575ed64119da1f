"""An MBConv block as training computes it on CPUs in bfloat16: see models.cpu_tiles.

BatchNorm's statistics need a whole pass over the hidden image, which is four times as wide as the
block's input. The first product is made anew for each pass that needs it, and of the hidden image
only what the depthwise convolution makes is stored, in bfloat16.
"""

from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
from jax import lax

from litemedsam_jax.models.cpu_batch_norm import Affine, Moments, Norm
from litemedsam_jax.models.cpu_ops import (
    channel_sums,
    gelu_and_slope,
    rational_gelu,
    shifted_sum,
)
from litemedsam_jax.models.cpu_tiles import Array, as_rows, in_tiles, operand, times, zeros

_PIXELS = 1024  # of a tile
_LINES = 8  # of a tile with neighbours


class MBConvParameters(NamedTuple):
    """Kernels (C, O), (3, 3, O), (O, C), each with its BatchNorm."""

    widen: Array
    widen_norm: Norm
    depthwise: Array
    depthwise_norm: Norm
    narrow: Array
    narrow_norm: Norm


class Products(NamedTuple):
    """What products' operands are: "float32" or "bfloat16".

    Attributes:
        dtype: of all but the first, of all in gradients, and of the stored hidden image.
        widen: of the first.
    """

    dtype: str
    widen: str


def mbconv(
    x: Array, parameters: MBConvParameters, epsilon: float, products: Products, axis: str | None
) -> tuple[Array, tuple[Moments, Moments, Moments]]:
    """GELU(x + narrow(GELU(depthwise(GELU(widen(x)))))), a BatchNorm after each.

    Args:
        x: (B, H, W, C) float32.
        parameters: float32.
        epsilon: BatchNorm's.
        products: how products are computed.
        axis: of the devices over which statistics are averaged.

    Returns:
        The block's output, and the moments of what each BatchNorm was given, without gradient.
    """
    return _mbconv(x, parameters, epsilon, products, axis)


def _forward(x, parameters, epsilon, products, axis):
    dtype = products.dtype
    widen, narrow = operand(parameters.widen, products.widen), operand(parameters.narrow, dtype)

    def measure(_, x):
        return None, Moments.of(_widened(x, widen))

    tiles = in_tiles(as_rows(x), _PIXELS)
    first = lax.scan(measure, None, tiles)[1].joined(axis)
    norm = Affine.of(parameters.widen_norm, first, epsilon)
    stored, tiles = _convolved(x, widen, norm, parameters.depthwise, dtype)
    second = tiles.joined(axis)
    norm = Affine.of(parameters.depthwise_norm, second, epsilon)

    def project(_, hidden):
        hidden = operand(rational_gelu(norm(_loaded(hidden, dtype))), dtype)
        result = times(hidden, narrow, 0)
        return None, (result, Moments.of(result))

    result, tiles = lax.scan(project, None, in_tiles(stored, _PIXELS))[1]
    third = tiles.joined(axis)
    result = result.reshape(x.shape)
    y = rational_gelu(Affine.of(parameters.narrow_norm, third, epsilon)(result) + x)
    moments = (first, second, third)
    return (y, moments), (x, parameters, stored, result, moments)


def _convolved(x, widen, norm, depthwise, dtype):
    """depthwise(GELU(norm(x·widen))), stored (pixels, O), and the moments of its tiles."""
    batch, height, width, _ = x.shape
    lines, channels = _lines(height), widen.shape[1]
    around = _with_neighbours(x)

    def convolve(scratch, index):
        hidden = _widened(as_rows(_cut(around, index, lines)), widen)
        hidden = rational_gelu(norm(hidden)).reshape(1, lines + 2, width, channels)
        hidden = _inside(hidden, index, lines, height)
        # Written to a place of their own, or XLA would compute both again where they are read.
        wide = lax.dynamic_update_slice(scratch[0], hidden, (0, 0, 1, 0))
        convolved = as_rows(shifted_sum(wide, depthwise, 1, 0))
        convolved = lax.dynamic_update_slice(scratch[1], convolved, (0, 0))
        return (wide, convolved), (_stored(convolved, dtype), Moments.of(convolved))

    scratch = zeros((1, lines + 2, width + 2, channels), (lines * width, channels))
    stored, moments = lax.scan(convolve, scratch, _indices(batch, height, lines))[1]
    return stored.reshape(-1, channels), moments


def _backward(epsilon, products, axis, saved, gradients):
    dtype = products.dtype
    (x, parameters, stored, result, moments), gradient = lax.optimization_barrier(
        (saved, gradients[0])
    )
    norms = parameters.widen_norm, parameters.depthwise_norm, parameters.narrow_norm
    affine = (Affine.of(*pair, epsilon) for pair in zip(norms, moments, strict=True))
    first, second, third = affine
    pixels = stored.shape[0]

    slope = as_rows(gradient * gelu_and_slope(third(result) + x)[1])
    by_x, result = lax.optimization_barrier((slope, as_rows(result)))
    by_third, through = third.gradient(third.sums(by_x, result), pixels, axis)
    slope = lax.optimization_barrier(through(by_x, result))
    sums, by_narrow, slope = _unproject(slope, stored, second, parameters.narrow, dtype)
    by_second, through = second.gradient(sums, pixels, axis)
    around = first, through
    sums, by_depthwise, slope = _unconvolve(x, stored, slope, around, parameters, products)
    by_first, through = first.gradient(sums, pixels, axis)
    by_widen, by_x = _unwiden(as_rows(x), slope, by_x, through, parameters.widen, products)
    by_parameters = MBConvParameters(
        by_widen, by_first, by_depthwise, by_second, by_narrow, by_third
    )
    return by_x.reshape(x.shape), by_parameters


def _unproject(slope, stored, norm, narrow, dtype):
    """Back through GELU(norm(stored))·narrow: norm's sums, by narrow, by norm's result."""
    channels = narrow.shape[0]
    narrow = operand(narrow, dtype)

    def tile(sums, one):
        slope, hidden = one
        low, turned = operand(slope, dtype), operand(slope.T, dtype)
        hidden = _loaded(hidden, dtype)
        activated, steepness = gelu_and_slope(norm(hidden))
        by_norm = lax.optimization_barrier(times(low, narrow, 1) * steepness)
        parts = norm.sums(by_norm, hidden), times(turned, operand(activated, dtype), 0)
        return jax.tree.map(jnp.add, sums, parts), _stored(by_norm, dtype)

    by_scale, by_bias, by_narrow = zeros((channels,), (channels,), (slope.shape[1], channels))
    tiles = in_tiles(slope, _PIXELS), in_tiles(stored, _PIXELS)
    sums = Norm(by_scale, by_bias), by_narrow
    (by_affine, by_narrow), by_norm = lax.scan(tile, sums, tiles)
    return by_affine, by_narrow.T, by_norm


def _unconvolve(x, stored, slope, norms, parameters, products):
    """Back to what norms[0] made of x·widen: its sums, by the depthwise kernel, by its result.

    `slope` is the gradient by the result of the norm behind the convolution, norms[1] what gives
    that by its input.
    """
    first, through = norms
    batch, height, width, _ = x.shape
    lines, channels, dtype = _lines(height), stored.shape[-1], products.dtype
    widen, turned = operand(parameters.widen, products.widen), parameters.depthwise[::-1, ::-1]
    images = tuple(
        _with_neighbours(one.reshape(batch, height, width, channels)) for one in (slope, stored)
    )

    def tile(sums, one):
        index, x = one
        slope = through(*(_loaded(_cut(image, index, lines), dtype) for image in images))
        slope = _inside(slope, index, lines, height)
        slope = lax.optimization_barrier(jnp.pad(slope, ((0, 0), (0, 0), (1, 1), (0, 0))))
        hidden = _widened(x, widen)
        activated, steepness = gelu_and_slope(first(hidden))
        activated = lax.optimization_barrier(activated.reshape(1, lines, width, -1))
        by_norm = as_rows(shifted_sum(slope, turned, 1, 0)) * steepness
        by_norm = lax.optimization_barrier(by_norm)
        shifted = [
            slope[:, 2 - i : 2 - i + lines, 2 - j : 2 - j + width]
            for i in range(3)
            for j in range(3)
        ]
        by_kernel = jnp.stack([channel_sums(jnp.multiply, activated, s) for s in shifted])
        parts = first.sums(by_norm, hidden), by_kernel
        return jax.tree.map(jnp.add, sums, parts), _stored(by_norm, dtype)

    by_scale, by_bias, by_kernel = zeros((channels,), (channels,), (9, channels))
    tiles = _indices(batch, height, lines), x.reshape(-1, lines * width, x.shape[-1])
    sums = Norm(by_scale, by_bias), by_kernel
    (by_affine, by_kernel), by_norm = lax.scan(tile, sums, tiles)
    by_kernel = by_kernel.reshape(parameters.depthwise.shape)
    return by_affine, by_kernel, by_norm.reshape(stored.shape)


def _unwiden(x, slope, by_x, through, widen, products):
    """Back through `through`'s norm and x·widen: by widen, by x (added to `by_x`)."""
    dtype = products.dtype
    low_widen, widen = operand(widen, dtype), operand(widen, products.widen)

    def tile(by_widen, one):
        x, slope, by_x = one
        turned = operand(x.T, dtype)
        slope = through(_loaded(slope, dtype), _widened(x, widen))
        slope = operand(slope, dtype)
        return by_widen + times(turned, slope, 0), by_x + times(slope, low_widen, 1)

    tiles = tuple(in_tiles(image, _PIXELS) for image in (x, slope, by_x))
    return lax.scan(tile, jnp.zeros(widen.shape, jnp.float32), tiles)


def _widened(x: Array, kernel: Array) -> Array:
    return times(operand(x, kernel.dtype.name), kernel, 0)


def _plain(x, parameters, epsilon, products, axis):
    return _forward(x, parameters, epsilon, products, axis)[0]


_mbconv = jax.custom_vjp(_plain, nondiff_argnums=(2, 3, 4))
_mbconv.defvjp(_forward, _backward)


def _lines(height: int) -> int:
    return max(lines for lines in range(1, _LINES + 1) if height % lines == 0)


def _indices(batch: int, height: int, lines: int) -> tuple[Array, Array]:
    """Image and first row of each tile."""
    images, firsts = jnp.meshgrid(jnp.arange(batch), jnp.arange(0, height, lines), indexing="ij")
    return images.reshape(-1), firsts.reshape(-1)


def _with_neighbours(x: Array) -> Array:
    return jnp.pad(x, ((0, 0), (1, 1), (0, 0), (0, 0)))


def _cut(around: Array, index: Any, lines: int) -> Array:
    """A tile's rows, with one above and below: (1, lines + 2, W, C)."""
    _, _, width, channels = around.shape
    return lax.dynamic_slice(around, (index[0], index[1], 0, 0), (1, lines + 2, width, channels))


def _inside(x: Array, index: Any, lines: int, height: int) -> Array:
    """Zero in rows above and below the image."""
    row = index[1] - 1 + jnp.arange(lines + 2)
    return jnp.where(((row >= 0) & (row < height))[None, :, None, None], x, 0)


def _stored(x: Array, dtype: str) -> Array:
    """As loops carry it: of bfloat16 XLA would make a float32 copy of the whole."""
    x = x.astype(dtype)
    return lax.bitcast_convert_type(x, jnp.uint16) if dtype == "bfloat16" else x


def _loaded(x: Array, dtype: str) -> Array:
    x = lax.bitcast_convert_type(x, jnp.bfloat16) if dtype == "bfloat16" else x
    return x.astype(jnp.float32)
