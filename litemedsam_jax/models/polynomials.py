"""Polynomials, and the quotient of two that stands for erf, in forms that XLA's CPU fuses."""

from collections.abc import Sequence

import jax
import jax.numpy as jnp

# erf(z) = z·P(z²)/Q(z²) for |z| <= 3.92, beyond which float32 knows only ±1. Fitted by least
# squares, weighted anew until the largest error (1.6e-8) was evenly spread.
ERF_LIMIT = 3.92
ERF_P = (1.12837902, 0.192764714, 0.0530605701, 0.00386835651, 0.000287480242, 2.03473235e-06)
ERF_Q = (1.0, 0.504164946, 0.115084893, 0.0151723535, 0.0011881226, 3.80706588e-05)


def polynomial(coefficients: Sequence[float], x: jax.Array) -> jax.Array:
    """The polynomial at x, elementwise, by Horner's rule; coefficients from the constant one up."""
    value = jnp.full_like(x, coefficients[-1])
    for coefficient in coefficients[-2::-1]:
        value = value * x + coefficient
    return value
