"""Attention inside windows with its gradients, against those of the plain formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from litemedsam_jax.models.cpu_window_attention import AttentionParameters, with_attention
from litemedsam_jax.models.normalisation import normalise_rows
from litemedsam_jax.models.window_attention import attend_windows
from tests.support.gradients import assert_same_with_gradients

CHANNELS, HEADS = 32, 2


def plain(x, parameters):
    scale, offset, qkv, qkv_bias, projection, projection_bias, bias = parameters
    y = normalise_rows(x, 1e-5) * scale + offset
    parts = (y @ qkv + qkv_bias).reshape(*x.shape[:2], HEADS, 3, -1)
    return x + attend_windows(parts, bias) @ projection + projection_bias


def parameters(random, length):
    shapes = [(32,), (32,), (32, 96), (96,), (32, 32), (32,), (HEADS, length, length)]
    return AttentionParameters(*(jnp.asarray(random.normal(size=s), jnp.float32) for s in shapes))


# 43 windows of 49 tokens: a tile would hold 20, and they are prime.
@pytest.mark.parametrize("dtype, bound", [("float32", 2e-5), ("bfloat16", 0.02)])
@pytest.mark.parametrize("windows, length", [(6, 49), (40, 49), (43, 49), (3, 196)])
def test_result_and_gradients(windows, length, dtype, bound):
    random = np.random.default_rng(windows)
    x = jnp.asarray(random.normal(size=(windows, length, CHANNELS)), jnp.float32)
    weights = jnp.asarray(random.normal(size=x.shape), jnp.float32)
    given = parameters(random, length)
    given = given._replace(qkv=given.qkv * 0.1)  # else some weights of a softmax are nearly 1

    def tiled(x, parameters):
        return with_attention(x, parameters, 1e-5, dtype)

    assert_same_with_gradients(tiled, plain, (x, given), weights, bound)


def test_logits_far_from_zero_do_not_overflow():
    random = np.random.default_rng(0)
    given = parameters(random, 4)
    given = given._replace(qkv=given.qkv * 100)
    x = jnp.asarray(random.normal(size=(1, 4, CHANNELS)), jnp.float32)
    result, slope = jax.value_and_grad(lambda x: with_attention(x, given, 1e-5, "float32").sum())(x)
    assert bool(jnp.isfinite(result)) and bool(jnp.isfinite(slope).all())
