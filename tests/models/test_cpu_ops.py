"""Gradients written out for CPUs against those that JAX derives from the plain formulas."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from litemedsam_jax.models import cpu_ops, normalisation


def normal(*shape: int) -> jax.Array:
    return jnp.asarray(np.random.default_rng(len(shape)).normal(1, 2, shape), jnp.float32)


IMAGE = normal(2, 9, 14, 32)
CHANNELS = normal(32)
CASES = {
    "product": (cpu_ops.product, (IMAGE, normal(32, 24))),
    "add": (cpu_ops.add, (IMAGE, CHANNELS)),
    "gelu": (cpu_ops.gelu, (IMAGE,)),
    "depthwise": (lambda x, k: cpu_ops.depthwise(x, k, 1, 1), (IMAGE, normal(3, 3, 32))),
    "strided": (lambda x, k: cpu_ops.depthwise(x, k, 2, 1), (IMAGE, normal(3, 3, 32))),
    "unpadded 5x5": (lambda x, k: cpu_ops.depthwise(x, k, 1, 0), (IMAGE, normal(5, 5, 32))),
    "batch norm": (
        lambda x, s, b: normalisation.batch_norm(x, s, b, 1e-5, None)[0],
        (IMAGE, CHANNELS, CHANNELS + 1),
    ),
    "layer norm": (
        lambda x, s, b: normalisation.layer_norm(x, s, b, 1e-5),
        (IMAGE, CHANNELS, CHANNELS + 1),
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_value_and_gradients_are_those_of_the_plain_formula(name, monkeypatch):
    function, inputs = CASES[name]

    def run(*inputs):  # a new function each time, since `jit` would remember the other's program
        value, pull = jax.vjp(function, *inputs)
        return value, pull(jnp.cos(3 * value))

    found = jax.jit(lambda *inputs: run(*inputs))(*inputs)
    monkeypatch.setattr(cpu_ops, "on_cpu", lambda: False)
    expected = jax.jit(lambda *inputs: run(*inputs))(*inputs)
    leaves = zip(jax.tree.leaves(found), jax.tree.leaves(expected), strict=True)
    for one, other in leaves:
        assert one.shape == other.shape and one.dtype == other.dtype
        error = np.linalg.norm(one - other) / np.linalg.norm(other)
        assert error < 2e-5, error  # rounding; the cosine multiplies it


@pytest.mark.parametrize("rows", [1, 32, 33, 1000, 4099])
def test_channel_sums_leave_no_row_out(rows):
    x = jnp.asarray(np.random.default_rng(rows).integers(-50, 50, (rows, 3)), jnp.float32)
    found = cpu_ops.channel_sums(lambda x: 2 * x, x)
    np.testing.assert_array_equal(found, 2 * np.asarray(x).sum(0))


def test_bfloat16_stays_and_its_sums_are_float32():
    x, kernel = IMAGE.astype(jnp.bfloat16), normal(3, 3, 32).astype(jnp.bfloat16)
    value, pull = jax.vjp(lambda x, k: cpu_ops.depthwise(x, k, 1, 1), x, kernel)
    wide = jax.vjp(
        lambda x, k: cpu_ops.depthwise(x, k, 1, 1), *(a.astype(jnp.float32) for a in (x, kernel))
    )
    found, expected = pull(value), wide[1](value.astype(jnp.float32))
    assert [array.dtype for array in found] == [jnp.bfloat16] * 2
    for one, other in zip(found, expected, strict=True):
        error = np.linalg.norm(one.astype(jnp.float32) - other) / np.linalg.norm(other)
        assert error < 1e-2
