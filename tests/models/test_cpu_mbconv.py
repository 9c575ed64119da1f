"""An MBConv block in tiles with its gradients, against those of the plain formula."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from litemedsam_jax.config import tiny_for_tests
from litemedsam_jax.models.cpu_batch_norm import Norm
from litemedsam_jax.models.cpu_mbconv import MBConvParameters, Products, mbconv
from litemedsam_jax.models.layers import gelu
from litemedsam_jax.models.tiny_vit import TinyViT
from tests.support.gradients import assert_same_with_gradients

CHANNELS, HIDDEN = 8, 32


def normalised(x, norm, moments):
    mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
    moments.append((mean, variance))
    return (x - mean) / jnp.sqrt(variance + 1e-5) * norm.scale + norm.bias


def plain(x, parameters):
    moments = []
    y = gelu(normalised(x @ parameters.widen, parameters.widen_norm, moments))
    kernel = parameters.depthwise[:, :, None]
    layout = ("NHWC", "HWIO", "NHWC")
    y = jax.lax.conv_general_dilated(
        y, kernel, (1, 1), "SAME", dimension_numbers=layout, feature_group_count=HIDDEN
    )
    y = gelu(normalised(y, parameters.depthwise_norm, moments))
    y = normalised(y @ parameters.narrow, parameters.narrow_norm, moments)
    return gelu(x + y), moments


# 10 rows: tiles of five; of two images of 24 rows the tiles' neighbours must not mix.
@pytest.mark.parametrize(
    "products, bound",
    [
        (Products("float32", "float32"), 5e-5),
        (Products("bfloat16", "bfloat16"), 0.04),
        (Products("bfloat16", "float32"), 0.04),
    ],
)
@pytest.mark.parametrize("shape", [(1, 10, 16, CHANNELS), (2, 24, 16, CHANNELS)])
def test_result_moments_and_gradients(shape, products, bound):
    random = np.random.default_rng(shape[1])

    def array(*shape):
        return jnp.asarray(random.normal(size=shape), jnp.float32)

    def norm(channels):
        return Norm(1 + 0.1 * array(channels), 0.1 * array(channels))

    given = MBConvParameters(
        array(CHANNELS, HIDDEN) / 3,
        norm(HIDDEN),
        array(3, 3, HIDDEN) / 3,
        norm(HIDDEN),
        array(HIDDEN, CHANNELS) / 6,
        norm(CHANNELS),
    )
    x, weights = array(*shape), array(*shape)

    def tiled(x, parameters):
        return mbconv(x, parameters, 1e-5, products, None)

    assert_same_with_gradients(tiled, plain, (x, given), weights, bound, has_aux=True)


def test_a_first_product_in_float32_keeps_what_lies_on_a_large_offset():
    """As the network's first expansion: what BatchNorm takes off again would round it away."""
    random = np.random.default_rng(0)

    def array(*shape):
        return jnp.asarray(random.normal(size=shape), jnp.float32)

    def norm(channels):
        return Norm(jnp.ones(channels), jnp.zeros(channels))

    parameters = MBConvParameters(
        array(CHANNELS, HIDDEN),
        norm(HIDDEN),
        array(3, 3, HIDDEN) / 3,
        norm(HIDDEN),
        array(HIDDEN, CHANNELS) / 6,
        norm(CHANNELS),
    )
    x = 30 + 0.3 * array(1, 16, 16, CHANNELS)

    def error(products):
        y = mbconv(x, parameters, 1e-5, products, None)[0]
        return float(jnp.abs(y - plain(x, parameters)[0]).mean())

    assert 8 * error(Products("bfloat16", "float32")) < error(Products("bfloat16", "bfloat16"))


def test_the_networks_first_block_alone_has_it():
    encoder = TinyViT(tiny_for_tests().image_encoder)
    image = jnp.zeros((1, 256, 256, 3))
    firsts = encoder.apply(
        jax.eval_shape(encoder.init, jax.random.key(0), image),
        method=lambda network: [block.first for block in network.layers[0].blocks],
    )
    assert firsts == [True] + [False] * (len(firsts) - 1)
