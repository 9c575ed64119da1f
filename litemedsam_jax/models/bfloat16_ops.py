"""What inference computes otherwise where products take bfloat16.

Matrix products take bfloat16 and add up in float32, which processors with AMX or AVX-512's bfloat16
do several times faster; norms, softmax, depthwise sums and residuals stay float32. What goes into a
product is stored in bfloat16 by whatever computes it, in half of the memory.
"""

import jax
import jax.numpy as jnp
from jax import lax

from litemedsam_jax.models.polynomials import polynomial

Array = jax.Array

DTYPE = jnp.bfloat16

# Phi(x) - 1/2 = x·P(x²) for |x| <= 4, where it is set to 1/2: GELU is within 1.9e-4, a tenth of
# what rounding its result to bfloat16 changes.
_GELU_LIMIT = 4.0
_GELU_P = (
    0.3978702664155711,
    -0.06455441364645963,
    0.00876369197656209,
    -0.0008121877183320305,
    4.776391443896011e-05,
    -1.5888285993388655e-06,
    2.2588237579139815e-08,
)


def is_low(kernel: Array) -> bool:
    """Whether a kernel's product is to be computed as here."""
    return kernel.dtype == DTYPE


def is_rounded(kernel: Array, channels: int) -> bool:
    """Whether the product rounds its input of so many channels: it may be stored so."""
    return is_low(kernel) and not in_parts(kernel, channels)


def product(x: Array, kernel: Array) -> Array:
    """x (..., C) times a bfloat16 kernel (C, O), summed in float32.

    XLA hands it to YNNPACK, which has AMX, as one product of matrices with a float32 result. With a
    kernel in parts (3·C, O), its high, high and low parts, it is nearly that of float32.
    """
    rows = x.reshape(-1, x.shape[-1])
    rows = _in_parts(rows) if in_parts(kernel, x.shape[-1]) else rounded(rows)
    return matmul(rows, kernel).reshape(*x.shape[:-1], kernel.shape[-1])


def matmul(x: Array, y: Array) -> Array:
    """x (..., L, C) times y (..., C, M), rounded, summed in float32.

    By XLA's conversion: in the decoder, `rounded` gains 1 % and makes it slower to load.
    """
    return jnp.matmul(x.astype(DTYPE), y.astype(DTYPE), preferred_element_type=jnp.float32)


def in_parts(kernel: Array, channels: int) -> bool:
    """Whether a kernel of so many input channels was split."""
    return kernel.shape[-2] == 3 * channels


def rounded(x: Array) -> Array:
    """x in bfloat16; of float32, halves to even, as XLA converts it, but without a gradient.

    XLA looks for NaN as well and takes nine instructions. This takes six, and the NaN that
    processors make stays one by itself.
    """
    if x.dtype == DTYPE:
        return x
    bits = lax.bitcast_convert_type(x, jnp.uint32)
    odd = bits & jnp.uint32(0x10000) != 0
    return _upper_half(bits + jnp.where(odd, jnp.uint32(0x8000), jnp.uint32(0x7FFF)))


def _upper_half(bits: Array) -> Array:
    return lax.bitcast_convert_type((bits >> 16).astype(jnp.uint16), DTYPE)


def _in_parts(rows: Array) -> Array:
    """(N, C) float32 -> (N, 3·C): high, low and high parts."""
    rows = lax.optimization_barrier(rows)  # stored, since every part would compute it anew
    bits = lax.bitcast_convert_type(rows, jnp.uint32)
    high = _upper_half(bits)  # cut off, so that the rest is exact
    rest = rows - lax.bitcast_convert_type(bits & jnp.uint32(0xFFFF0000), jnp.float32)
    # Along an axis of their own: along the last, a loop that joins them takes five times longer.
    parts = [part[:, None] for part in (high, rounded(rest), high)]
    parts = lax.optimization_barrier(jnp.concatenate(parts, axis=1))
    return parts.reshape(len(rows), -1)


def convolution_3x3(x: Array, kernel: Array) -> Array:
    """x (1, H + 2, W, C), zeros at its sides, convolved with a bfloat16 kernel (3, 3, C, O)."""
    height, width = x.shape[1] - 2, x.shape[2]
    x = jnp.pad(rounded(x), ((0, 0), (0, 0), (1, 1), (0, 0)))
    columns = jnp.concatenate([x[:, :, j : j + width] for j in range(3)], axis=-1)
    columns = lax.optimization_barrier(columns)  # (1, H + 2, W, 3·C)
    kernel = kernel.reshape(3, -1, kernel.shape[-1])
    return sum(
        (product(columns[:, i : i + height], kernel[i]) for i in range(1, 3)),
        start=product(columns[:, :height], kernel[0]),
    )


def gelu(x: Array, keep: Array | None = None) -> Array:
    """GELU, rounded to bfloat16; 0 where `keep` is False."""
    z = jnp.clip(x, -_GELU_LIMIT, _GELU_LIMIT)
    y = x * (0.5 + z * polynomial(_GELU_P, z * z))
    if keep is not None:
        y = jnp.where(keep, y, 0)
    return rounded(y)
