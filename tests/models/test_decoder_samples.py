"""The mask decoder's written-out gradients against those that JAX derives."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from litemedsam_jax import config
from litemedsam_jax.models import decoder_samples, layers
from litemedsam_jax.models.lite_medsam import LiteMedSAMNetwork, init_variables
from litemedsam_jax.weights.tree import flatten

pytestmark = pytest.mark.skipif(jax.default_backend() != "cpu", reason="programs for CPUs")
B, L, C, T, H = 2, 64, 32, 5, 4


def _random(*shape: int) -> jax.Array:
    seed = sum(shape) + len(shape)
    return jnp.asarray(np.random.default_rng(seed).normal(0, 0.7, shape), jnp.float32)


def _norm(x, scale, shift, epsilon):
    centred = x - x.mean(-1, keepdims=True)
    variance = jnp.square(centred).mean(-1, keepdims=True)
    return centred / jnp.sqrt(variance + epsilon) * scale + shift


def _attend(image, offset, positions, queries):
    x = image.astype(jnp.float32) + (0 if offset is None else offset)
    weights = jax.nn.softmax((x + positions) @ queries.swapaxes(-1, -2), axis=1)
    return weights.swapaxes(-1, -2) @ x


def _update(image, offset, positions, columns, biases, values, parameters):
    x = image.astype(jnp.float32) + (0 if offset is None else offset)
    logits = jnp.einsum("blc,bthc->blth", x + positions, columns) + biases[:, None]
    mixed = jnp.einsum("blth,bthc->blc", jax.nn.softmax(logits, axis=2), values)
    return _norm(x + mixed + parameters[0], *parameters[1:], 1e-5)


def _upscale(image, weights, parameters):
    kernel, bias, scale, shift, kernel2, bias2 = parameters
    x = (image @ kernel).reshape(B, L, 4, -1) + bias
    x = jax.nn.gelu(_norm(x, scale, shift, 1e-6), approximate=False)
    x = jax.nn.gelu((x @ kernel2).reshape(B, L, 16, -1) + bias2, approximate=False)
    return jnp.einsum("blpc,bc->blp", x, weights)


IMAGE, OFFSET, POSITIONS = _random(B, L, C), _random(C), _random(L, C)
CASES: dict[str, tuple[Any, Any, tuple[Any, ...]]] = {
    "attend_to_image": (_attend, decoder_samples.attend_to_image, (_random(B, T * H, C),)),
    "attend_to_tokens": (
        _update,
        decoder_samples.attend_to_tokens,
        (
            _random(B, T, H, C) / 4,
            _random(B, T, H),
            _random(B, T, H, C),
            (_random(C) / 2, _random(C) / 3, _random(C) / 4),
        ),
    ),
}


@pytest.mark.parametrize("offset", [OFFSET, None], ids=["offset", "none"])
@pytest.mark.parametrize("name", CASES)
def test_attention(name, offset):
    expected, function, rest = CASES[name]
    given = (IMAGE, offset, POSITIONS, *rest)
    by = (0, *([1] if offset is not None else []), *range(3, len(given)))
    _compare(expected, function, given, by)


@pytest.mark.parametrize("name", CASES)
def test_frozen_image(name):
    expected, function, rest = CASES[name]
    given = (IMAGE.astype(jnp.float16), OFFSET, POSITIONS, *rest)
    _compare(expected, function, given, (1, *range(3, len(given))))


def test_upscaling():
    parameters = (
        _random(C, C) / 4, _random(C // 4), _random(C // 4) / 2, _random(C // 4) / 3,
        _random(C // 4, C // 2) / 2, _random(C // 8),
    )  # fmt: skip
    given = (IMAGE, _random(B, C // 8), parameters)
    _compare(_upscale, decoder_samples.upscaled_logits, given, (0, 1, 2))


def _compare(expected, function, given, by):
    """Values and gradients, by the arguments of these numbers, of a weighted sum."""
    weights = _random(*function(*given).shape)

    def gradient(function):
        return jax.jit(
            jax.value_and_grad(lambda *given: (function(*given) * weights).sum(), argnums=by)
        )(*given)

    np.testing.assert_allclose(function(*given), expected(*given), rtol=1e-4, atol=2e-5)
    ours, theirs = (jax.tree.leaves(gradient(one)) for one in (function, expected))
    for our, their in zip(ours, theirs, strict=True):
        assert our.dtype == their.dtype
        largest = np.abs(their).max()
        np.testing.assert_allclose(our, their, atol=2e-5 * largest)


def test_whole_decoder():
    """One prompt an image takes this way; beside one that does not count it takes the plain one."""
    model = config.tiny_for_tests()
    network = LiteMedSAMNetwork(model)
    variables = init_variables(model, jax.random.key(0))
    grid = model.image_encoder.grid_size
    embedding, boxes = _random(2, grid, grid, 32), jnp.asarray([[[9.0, 20, 90, 120]]] * 2)
    weights = _random(2, 256, 256)

    def loss(params, embedding, count):
        valid = jnp.arange(count)[None].repeat(2, 0) < 1
        logits, iou = network.apply(
            {**variables, "params": params},
            embedding,
            boxes.repeat(count, 1),
            valid=valid,
            method="decode",
        )
        return (logits[:, 0, 0] * weights).sum() / 100 + iou[:, 0].sum()

    both = [
        jax.value_and_grad(loss, argnums=(0, 1))(variables["params"], embedding, count)
        for count in (1, 2)
    ]
    (value, (ours, by_image)), (expected, (theirs, by_image_expected)) = both
    assert float(value) == pytest.approx(float(expected), rel=1e-4)
    largest = np.abs(by_image_expected).max()
    np.testing.assert_allclose(by_image, by_image_expected, atol=1e-4 * largest)
    ours, theirs = flatten(ours), flatten(theirs)
    for name, their in theirs.items():
        np.testing.assert_allclose(
            ours[name], their, atol=2e-4 * max(np.abs(their).max(), 1e-3), err_msg=name
        )


def test_parts_of_layers():
    """What the decoder hands over of its layers is what they compute with."""
    norm, conv = layers.LayerNorm(1e-6), layers.ConvTranspose2x2(C, 3)
    x = _random(L, C)
    variables = norm.init(jax.random.key(0), x)
    scale, shift = norm.apply(variables, method="factors")
    assert scale.shape == shift.shape == (C,)
    variables = conv.init(jax.random.key(1), x)
    kernel, bias = conv.apply(variables, method="matrix")
    whole = (x @ kernel).reshape(L, 2, 2, 3) + bias
    np.testing.assert_allclose(whole, conv.apply(variables, x), atol=1e-6)
