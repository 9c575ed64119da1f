"""Operations whose gradients are written out, since XLA's CPU derives slow ones.

What costs there: a sum over pixels, which becomes a tree of windowed reductions, ten times slower
than memory; a transposed copy for the gradient of a product of images; nine full passes for each
depthwise convolution; and whatever an expensive forward value is stored for. The forward formulas
are the plain ones; other platforms keep the gradients that JAX derives.
"""

import math
from collections.abc import Callable

import jax
import jax.numpy as jnp
from jax import lax

from litemedsam_jax.models.polynomials import ERF_LIMIT, ERF_P, ERF_Q, polynomial

Array = jax.Array
_WAYS = 16  # slices added at a time

# Phi(x) - 1/2 = x·P(x²)/Q(x²) for |x| <= 5.54: half of erf(x/sqrt(2)); within 1e-7.
_PHI_LIMIT = ERF_LIMIT * math.sqrt(2)
_PHI_P = tuple(p / math.sqrt(8) / 2**i for i, p in enumerate(ERF_P))
_PHI_Q = tuple(q / 2**i for i, q in enumerate(ERF_Q))
# 2 to the power of |x| <= 1/2, over sqrt(2·pi): Taylor's series, within 1e-7.
_DENSITY = tuple(math.log(2) ** i / math.factorial(i) / math.sqrt(2 * math.pi) for i in range(8))


def on_cpu() -> bool:
    """Whether programs are made for CPUs: the one place that decides."""
    return jax.default_backend() == "cpu"


def channel_sums(function: Callable[..., Array], *arrays: Array) -> Array:
    """The sum of function(*arrays) (elementwise) over all axes but the last, (C,).

    On CPUs as a tree of sums of slices, which XLA fuses with the function into one pass over
    memory, and which rounds less than a running sum.
    """
    if not on_cpu():
        values = function(*arrays)
        return values.sum(tuple(range(values.ndim - 1)))
    return _tree_sum(function, *(array.reshape(-1, array.shape[-1]) for array in arrays))


def same(x: Array) -> Array:
    """The array itself."""
    return x


def _tree_sum(function: Callable[..., Array], *arrays: Array) -> Array:
    rows = arrays[0].shape[0]
    if rows <= 2 * _WAYS:
        return function(*arrays).sum(0)
    part = rows // _WAYS
    slices = [[x[i * part : (i + 1) * part] for x in arrays] for i in range(_WAYS)]
    total = function(*slices[0])
    for one in slices[1:]:
        total = total + function(*one)
    total = _tree_sum(same, total)
    if rows % _WAYS:
        total = total + function(*(x[_WAYS * part :] for x in arrays)).sum(0)
    return total


# ---- product


def product(x: Array, kernel: Array) -> Array:
    """x (..., C) times kernel (C, O)."""
    return _product(x, kernel) if on_cpu() else x @ kernel


@jax.custom_vjp
def _product(x, kernel):
    return x @ kernel


def _product_backward(saved, gradient):
    x, kernel = lax.optimization_barrier(saved)
    # Matrices, materialised: otherwise XLA copies one operand, transposed.
    gradient = lax.optimization_barrier(gradient).reshape(-1, gradient.shape[-1])
    by_x = lax.dot_general(gradient, kernel, (((1,), (1,)), ((), ()))).reshape(x.shape)
    return by_x, over_rows(x.reshape(-1, x.shape[-1]), gradient)


def over_rows(x: Array, y: Array) -> Array:
    """xᵀ·y of x (N, C) and y (N, O), (C, O): the narrower on the left, up to twice as fast."""
    contraction = (((0,), (0,)), ((), ()))
    if x.shape[-1] <= y.shape[-1]:
        return lax.dot_general(x, y, contraction)
    # Without the barrier XLA turns it around again.
    return lax.optimization_barrier(lax.dot_general(y, x, contraction)).T


_product.defvjp(lambda x, kernel: (x @ kernel, (x, kernel)), _product_backward)


def add(x: Array, bias: Array) -> Array:
    """x (..., C) plus bias (C,)."""
    return _add(x, bias) if on_cpu() else x + bias


@jax.custom_vjp
def _add(x, bias):
    return x + bias


def _add_backward(_, gradient):
    return gradient, channel_sums(same, gradient)


_add.defvjp(lambda x, bias: (x + bias, None), _add_backward)


# ---- GELU


def gelu(x: Array) -> Array:
    """GELU in its exact form. `jax.nn.gelu` goes through erfc, which costs XLA's CPU twice."""
    return _gelu(x) if on_cpu() else x * 0.5 * (1 + lax.erf(x * math.sqrt(0.5)))


def rational_gelu(x: Array) -> Array:
    """GELU by a quotient of polynomials."""
    wide = x.astype(jnp.float32)
    return (wide * _normal_distribution(wide)).astype(x.dtype)


def _normal_distribution(x: Array) -> Array:
    """Phi(x) as a quotient of polynomials: XLA stores the results of `erf` for a second loop."""
    x = jnp.clip(x, -_PHI_LIMIT, _PHI_LIMIT)
    square = x * x
    return 0.5 + x * polynomial(_PHI_P, square) / polynomial(_PHI_Q, square)


def _normal_density(x: Array) -> Array:
    """exp(-x²/2)/sqrt(2·pi), by hand for the same reason: 2 to a whole number and a rest."""
    exponent = jnp.maximum(x * x * (-0.5 / math.log(2)), -125.0)
    whole = jnp.floor(exponent + 0.5)
    power = lax.bitcast_convert_type((whole.astype(jnp.int32) + 127) << 23, jnp.float32)
    return power * polynomial(_DENSITY, exponent - whole)


def gelu_and_slope(x: Array) -> tuple[Array, Array]:
    """GELU and its derivative, of float32."""
    distribution = _normal_distribution(x)
    return x * distribution, distribution + x * _normal_density(x)


_gelu = jax.custom_vjp(rational_gelu)


def _gelu_backward(x, gradient):
    # The barrier keeps XLA from storing what the forward pass computed for here.
    x, gradient = lax.optimization_barrier((x, gradient))
    slope = gelu_and_slope(x.astype(jnp.float32))[1]
    return ((gradient.astype(jnp.float32) * slope).astype(x.dtype),)


_gelu.defvjp(lambda x: (rational_gelu(x), x), _gelu_backward)


# ---- depthwise convolution


def shifted_sum(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """Depthwise convolution of x (B, H, W, C) with kernel (k, k, C), as a sum of shifted x."""
    batch, height, width, channels = x.shape
    size = kernel.shape[0]
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    rows = (height + 2 * padding - size) // stride + 1
    columns = (width + 2 * padding - size) // stride + 1
    total = jnp.zeros((batch, rows, columns, channels), x.dtype)
    for i in range(size):
        for j in range(size):
            last = (batch, i + (rows - 1) * stride + 1, j + (columns - 1) * stride + 1, channels)
            shifted = lax.slice(x, (0, i, j, 0), last, (1, stride, stride, 1))
            total = total + shifted * kernel[i, j]
    return total


def depthwise(x: Array, kernel: Array, stride: int, padding: int) -> Array:
    """As `shifted_sum`."""
    plain = _depthwise if on_cpu() else shifted_sum
    return plain(x, kernel, stride, padding)


_depthwise = jax.custom_vjp(shifted_sum, nondiff_argnums=(2, 3))


def _depthwise_forward(x, kernel, stride, padding):
    return shifted_sum(x, kernel, stride, padding), (x, kernel)


def _depthwise_backward(stride, padding, saved, gradient):
    x, kernel = saved
    x, gradient = lax.optimization_barrier((x, gradient))
    size = kernel.shape[0]
    spread = []  # with zeros between what strides skipped, and around: the transposed convolution
    for length, wide in zip(gradient.shape[1:3], x.shape[1:3], strict=True):
        before = size - 1 - padding
        after = wide + size - 1 - before - ((length - 1) * stride + 1)
        spread.append((before, after, stride - 1))
    around = lax.pad(gradient, jnp.zeros((), x.dtype), [(0, 0, 0), *spread, (0, 0, 0)])
    by_x = shifted_sum(around, kernel[::-1, ::-1], 1, 0)
    return by_x, _kernel_gradient(x, gradient, size, stride, padding).astype(kernel.dtype)


def _kernel_gradient(x: Array, gradient: Array, size: int, stride: int, padding: int) -> Array:
    """The k² sums, (k, k, C) float32: some rows at a time, so that these stay in the cache."""
    x = jnp.pad(x, ((0, 0), (padding, padding), (padding, padding), (0, 0)))
    x = lax.optimization_barrier(x)
    batch, height, width, channels = gradient.shape
    count = math.gcd(height, 2)
    part = width // math.gcd(width, _WAYS)
    taps = [divmod(tap, size) for tap in range(size**2)]

    def product(rows: Array, slopes: Array, tap: tuple[int, int], k: int) -> Array:
        i, j = tap[0], tap[1] + k * stride
        last = (batch, i + (count - 1) * stride + 1, j + (part - 1) * stride + 1, channels)
        shifted = lax.slice(rows, (0, i, j, 0), last, (1, stride, stride, 1))
        return shifted.astype(jnp.float32) * slopes[:, :, k : k + part].astype(jnp.float32)

    def add_rows(index: Array, sums: list[Array]) -> list[Array]:
        first, length = index * count, (count - 1) * stride + size
        rows = lax.dynamic_slice_in_dim(x, first * stride, length, 1)
        slopes = lax.dynamic_slice_in_dim(gradient, first, count, 1)
        starts = range(0, width, part)
        return [
            sum((product(rows, slopes, tap, k) for k in starts), start=total)
            for tap, total in zip(taps, sums, strict=True)
        ]

    zeros = jnp.zeros((batch, count, part, channels), jnp.float32)
    sums = lax.fori_loop(0, height // count, add_rows, [zeros] * len(taps))
    sums = [channel_sums(same, one) for one in sums]
    return jnp.stack(sums).reshape(size, size, channels)


_depthwise.defvjp(_depthwise_forward, _depthwise_backward)
