"""Attention inside windows against the plain formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from litemedsam_jax.models.window_attention import attend_windows


def plain(qkv, bias):
    q, k, v = (qkv[..., i, :].transpose(0, 2, 1, 3) for i in range(3))
    logits = q @ k.swapaxes(-1, -2) / np.sqrt(qkv.shape[-1]) + bias.swapaxes(-1, -2)
    mixed = jax.nn.softmax(logits, axis=-1) @ v
    return mixed.transpose(0, 2, 1, 3).reshape(*qkv.shape[:2], -1)


@pytest.mark.parametrize("windows, length", [(6, 49), (23, 49), (43, 49), (3, 196)])
def test_result_and_gradients(windows, length):
    random = np.random.default_rng(windows)
    qkv = jnp.asarray(random.normal(size=(windows, length, 2, 3, 8)), jnp.float32)
    bias = jnp.asarray(random.normal(size=(2, length, length)), jnp.float32)
    weights = jnp.asarray(random.normal(size=(windows, length, 16)), jnp.float32)
    results = [
        jax.jit(jax.value_and_grad(lambda *x, f=f: (f(*x) * weights).sum(), (0, 1)))(qkv, bias)
        for f in (attend_windows, plain)
    ]
    for ours, expected in zip(*map(jax.tree.leaves, results), strict=True):
        np.testing.assert_allclose(ours, expected, rtol=1e-4, atol=1e-5)


def test_logits_far_from_zero_do_not_overflow():
    qkv = jnp.full((1, 4, 1, 3, 8), 30.0)
    result, slope = jax.value_and_grad(lambda x: attend_windows(x, jnp.zeros((1, 4, 4))).sum())(qkv)
    assert result == pytest.approx(960) and bool(jnp.isfinite(slope).all())
