"""Powers of two by a polynomial: as exact as float32 allows, over all of its range."""

import jax
import numpy as np

from litemedsam_jax.models.polynomials import exp2


def test_powers_of_two():
    x = np.linspace(-126, 127, 1_000_003).astype(np.float32)
    x[:4] = -126, -0.5, 0.5, 127  # the ends, and where the nearest whole number changes
    powers = np.asarray(jax.jit(exp2)(x), np.float64)
    np.testing.assert_allclose(powers, np.exp2(x.astype(np.float64)), rtol=3e-7)
