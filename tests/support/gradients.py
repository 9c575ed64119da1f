"""A function with gradients of its own beside the plain formula."""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np


def assert_same_with_gradients(
    function: Callable[..., Any],
    plain: Callable[..., Any],
    arguments: tuple,
    weights: jax.Array,
    bound: float,
    has_aux: bool = False,
) -> None:
    """Compares results, and the gradients by all arguments of their sum times `weights`.

    Args:
        function: (*arguments) -> array; with has_aux: an array and what has no gradient.
        plain: the same, as JAX derives it.
        arguments: trees of arrays.
        weights: of the result's shape.
        bound: of the norm of a difference, by the norm of what is expected.
        has_aux: see `function`; what has no gradient is compared too.
    """
    results = []
    for one in (function, plain):
        value, pull, *rest = jax.vjp(jax.jit(one), *arguments, has_aux=has_aux)
        results.append((value, rest, pull(weights)))
    for ours, expected in zip(*map(jax.tree.leaves, results), strict=True):
        assert ours.shape == expected.shape and ours.dtype == jnp.float32
        assert np.linalg.norm(ours - expected) < bound * np.linalg.norm(expected)
