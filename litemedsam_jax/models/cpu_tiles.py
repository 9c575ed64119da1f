"""What training's blocks that run some rows at a time on CPUs have in common.

All that lies between a block's input and its output stays in the cache, and the backward pass
computes it anew: fresh memory costs more there than the products that are made twice. Products take
operands of float32 or bfloat16 and add up in float32. For bfloat16 XLA has a fast way (YNNPACK's,
with AMX) only if the left operand is multiplied over its last axis, so what has to be transposed is
computed transposed.
"""

import math

import jax
import jax.numpy as jnp
from jax import lax

Array = jax.Array


def operand(x: Array, dtype: str) -> Array:
    """x as products take it, stored."""
    return lax.optimization_barrier(x.astype(dtype))


def times(x: Array, y: Array, axis: int) -> Array:
    """x (..., N, C) over its last axis times y over `axis`; what leads is a batch. float32."""
    batch = tuple(range(x.ndim - 2))
    dimensions = ((x.ndim - 1,), (axis % y.ndim,)), (batch, batch)
    product = lax.dot_general(x, y, dimensions, preferred_element_type=jnp.float32)
    return lax.optimization_barrier(product)


def in_tiles(x: Array, most: int) -> Array:
    """(N, ...) -> (tiles, rows, ...), with as many rows as divide N, at most `most`."""
    rows = max(size for size in range(1, most + 1) if x.shape[0] % size == 0)
    return x.reshape(-1, rows, *x.shape[1:])


def zeros(*shapes: tuple[int, ...]) -> tuple[Array, ...]:
    """Sums before the first tile."""
    return tuple(jnp.zeros(shape, jnp.float32) for shape in shapes)


def as_rows(x: Array) -> Array:
    """(..., C) -> (N, C)."""
    return x.reshape(math.prod(x.shape[:-1]), x.shape[-1])
