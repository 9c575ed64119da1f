"""The mask decoder's image side as training computes it on CPUs, with its gradients written out.

One sample after the other, one prompt each, float32: what lies between two products stays in the
cache, and the backward pass computes it anew instead of storing it. Image tokens are
image + offset. With a frozen encoder nobody asks for the gradient by the first layer's image, and
the one by an offset that all tokens share takes sums instead of products.
"""

from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax

from litemedsam_jax.models.cpu_ops import gelu, gelu_and_slope, over_rows
from litemedsam_jax.models.layers import Array
from litemedsam_jax.models.normalisation import by_normalised_rows, normalise_rows, normalised_rows

_EPSILON, _UPSCALING_EPSILON = 1e-5, 1e-6  # of LayerNorm


def _each(function: Callable[..., Any], totals: Any, *arrays: Array) -> tuple[Any, Any]:
    """function(totals, one of each array) -> totals, result; over the first axis."""
    return lax.scan(lambda totals, one: function(totals, *one), totals, arrays)


def _plus(totals: tuple[Array, ...], *more: Array) -> tuple[Array, ...]:
    return tuple(total + one for total, one in zip(totals, more, strict=True))


def _zeros(*arrays: Array) -> tuple[Array, ...]:
    return tuple(map(jnp.zeros_like, arrays))


def _times_transposed(x: Array, y: Array) -> Array:
    """x·yᵀ of (N, C) and (M, C)."""
    return lax.dot_general(x, y, (((1,), (1,)), ((), ())))


def _tokens(image: Array, offset: Array | None) -> Array:
    image = image.astype(jnp.float32)
    return image if offset is None else image + offset


def _plain(function: Callable[..., Any]) -> Callable[..., Any]:
    """A forward rule of plain arrays, and whether the gradient by the first, the image, is asked.

    Under `symbolic_zeros` JAX hands over each array with a note whether it is differentiated by.
    """

    def forward(*primals):
        asked = jax.tree.leaves(primals[0], is_leaf=_is_noted)[0].perturbed
        result, saved = function(*jax.tree.map(lambda x: x.value, primals, is_leaf=_is_noted))
        # A part of the tree's structure, not of its arrays.
        return result, (saved, () if asked else None)

    return forward


def _is_noted(x: Any) -> bool:
    return hasattr(x, "perturbed")


# ---- tokens attend to the image


@jax.custom_vjp
def attend_to_image(image: Array, offset: Array | None, positions: Array, queries: Array) -> Array:
    """softmax over L of (x + positions)·queries, transposed, times x = image + offset.

    Args:
        image: (B, L, C), of any float type.
        offset: (C,), of all tokens; or None.
        positions: (L, C), which get no gradient.
        queries: (B, K, C), scaled: a row for each token and head.

    Returns:
        (B, K, C).
    """
    return _attend_forward(image, offset, positions, queries)[0]


def _attend_forward(image, offset, positions, queries):
    def sample(_, q, x):
        x = _tokens(x, offset)
        logits = _times_transposed(x + positions, q)  # (L, K)
        largest = logits.max(0)
        weights = jnp.exp(logits - largest)
        total = weights.sum(0)
        return None, (over_rows(weights, x) / total[:, None], largest + jnp.log(total))

    _, (mixed, log_totals) = _each(sample, None, queries, image)
    return mixed, (image, offset, positions, queries, mixed, log_totals)


def _attend_backward(saved, gradient):
    (image, offset, positions, queries, mixed, log_totals), asked = saved

    def sample(_, q, x, mixed, log_total, slope):
        x = _tokens(x, offset)
        located = x + positions
        weights = jnp.exp(_times_transposed(located, q) - log_total)
        shared = (mixed * slope).sum(-1)  # the sum over L of weights times their gradients
        by_logits = weights * (_times_transposed(x, slope) - shared)
        by_q = over_rows(by_logits, located)
        if asked is None:
            return None, (by_q, None)
        by_x = jnp.concatenate([weights, by_logits], -1) @ jnp.concatenate([slope, q])
        return None, (by_q, by_x.astype(image.dtype))

    arrays = queries, image, mixed, log_totals, gradient
    _, (by_queries, by_image) = _each(sample, None, *arrays)
    # An offset moves all logits of a softmax alike, and its weights add up to one.
    by_offset = None if offset is None else gradient.sum((0, 1))
    return by_image, by_offset, None, by_queries


attend_to_image.defvjp(_plain(_attend_forward), _attend_backward, symbolic_zeros=True)


# ---- the image attends to tokens


@jax.custom_vjp
def attend_to_tokens(
    image: Array,
    offset: Array | None,
    positions: Array,
    columns: Array,
    biases: Array,
    values: Array,
    parameters: tuple[Array, ...],
) -> Array:
    """LayerNorm of x plus softmax over tokens of ((x + positions)·columns + biases), times values.

    Args:
        image: (B, L, C), of any float type.
        offset: (C,), of all image tokens; or None. x is their sum.
        positions: (L, C), which get no gradient.
        columns: (B, T, h, C).
        biases: (B, T, h).
        values: (B, T, h, C).
        parameters: three of (C,): the attention's output bias, LayerNorm's scale and shift.

    Returns:
        (B, L, C).
    """
    return _update_forward(image, offset, positions, columns, biases, values, parameters)[0]


def _token_weights(located: Array, columns: Array, biases: Array) -> Array:
    """(L, T, h), a softmax over T."""
    flat = columns.reshape(-1, columns.shape[-1])
    logits = _times_transposed(located, flat).reshape(-1, *biases.shape)
    return jax.nn.softmax(logits + biases, axis=-2)


def _update_forward(image, offset, positions, columns, biases, values, parameters):
    output_bias, scale, shift = parameters

    def sample(_, x, columns, biases, values):
        x = _tokens(x, offset)
        weights = _token_weights(x + positions, columns, biases).reshape(len(x), -1)
        mixed = weights @ values.reshape(weights.shape[-1], -1) + output_bias
        return None, normalise_rows(x + mixed, _EPSILON) * scale + shift

    _, result = _each(sample, None, image, columns, biases, values)
    return result, (image, offset, positions, columns, biases, values, parameters)


def _update_backward(saved, gradient):
    (image, offset, positions, columns, biases, values, parameters), asked = saved
    output_bias, scale, _ = parameters

    def sample(totals, x, columns, biases, values, slope):
        x = _tokens(x, offset)
        located = x + positions
        flat = columns.reshape(-1, x.shape[-1])
        rows = values.reshape(flat.shape)
        weights = _token_weights(located, columns, biases)
        narrow = weights.reshape(len(x), -1)
        normal, inverse = normalised_rows(x + (narrow @ rows + output_bias), _EPSILON)
        by_sum = lax.optimization_barrier(by_normalised_rows(slope * scale, normal, inverse))
        by_weights = _times_transposed(by_sum, rows).reshape(weights.shape)
        by_logits = weights * (by_weights - (weights * by_weights).sum(-2, keepdims=True))
        by_narrow = by_logits.reshape(narrow.shape)
        by_biases = by_narrow.sum(0)
        by_bias = by_sum.sum(0)
        by_scale, by_shift = (slope * normal).sum(0), slope.sum(0)
        by_offset = by_bias + by_biases @ flat
        totals = _plus(totals, by_bias, by_scale, by_shift, by_offset)
        by_x = None if asked is None else (by_sum + by_narrow @ flat).astype(image.dtype)
        by_columns = over_rows(by_narrow, located).reshape(columns.shape)
        by_values = over_rows(narrow, by_sum).reshape(values.shape)
        return totals, (by_x, by_columns, by_biases.reshape(biases.shape), by_values)

    arrays = image, columns, biases, values, gradient
    totals, (by_image, *rest) = _each(sample, _zeros(*parameters, scale), *arrays)
    return by_image, None if offset is None else totals[-1], None, *rest, totals[:-1]


attend_to_tokens.defvjp(_plain(_update_forward), _update_backward, symbolic_zeros=True)


# ---- from image tokens to logits


@jax.custom_vjp
def upscaled_logits(image: Array, weights: Array, parameters: tuple[Array, ...]) -> Array:
    """Two transposed convolutions (kernel and stride 2), then each pixel times its prompt's row.

    Args:
        image: (B, L, C).
        weights: (B, C/8), of a prompt's mask.
        parameters: of the first convolution (C, 4·C/4) and its bias; LayerNorm's scale and shift,
            after which GELU; of the second convolution (C/4, 4·C/8) and its bias, then GELU.

    Returns:
        (B, L, 16), blocks of blocks: see `layers.unfold_blocks`.
    """
    return _upscale_forward(image, weights, parameters)[0]


def _upscaled(x: Array, parameters: tuple[Array, ...]) -> tuple[Array, ...]:
    """Normalised values, their factors, the first GELU's input and output, the second's input."""
    kernel, bias, scale, shift, kernel2, bias2 = parameters
    normal, inverse = normalised_rows(
        (x @ kernel).reshape(-1, len(bias)) + bias, _UPSCALING_EPSILON
    )
    hidden = normal * scale + shift
    active = gelu(hidden)
    return normal, inverse, hidden, active, (active @ kernel2).reshape(-1, len(bias2)) + bias2


def _upscale_forward(image, weights, parameters):
    def sample(_, x, w):
        pixels = gelu(_upscaled(x, parameters)[-1])
        return None, (pixels @ w[:, None]).reshape(len(x), -1)

    return _each(sample, None, image, weights)[1], (image, weights, parameters)


def _upscale_backward(saved, gradient):
    image, weights, parameters = saved
    kernel, _, scale, _, kernel2, _ = parameters
    alone = lax.optimization_barrier  # its own loop: what it feeds would compute it again

    def sample(totals, x, w, slope):
        normal, inverse, hidden, active, last = alone(_upscaled(x, parameters))
        slope = slope.reshape(-1, 1)
        pixels, pixel_slope = gelu_and_slope(last)
        by_last = alone(slope * w * pixel_slope)
        wide = by_last.reshape(len(active), -1)
        by_hidden = alone(_times_transposed(wide, kernel2) * gelu_and_slope(hidden)[1])
        by_first = alone(by_normalised_rows(by_hidden * scale, normal, inverse))
        whole = by_first.reshape(len(x), -1)
        totals = _plus(
            totals,
            over_rows(x, whole),
            by_first.sum(0),
            (by_hidden * normal).sum(0),
            by_hidden.sum(0),
            over_rows(active, wide),
            by_last.sum(0),
        )
        by_w = (pixels * slope).sum(0)
        return totals, (_times_transposed(whole, kernel), by_w)

    totals, (by_image, by_weights) = _each(sample, _zeros(*parameters), image, weights, gradient)
    return by_image, by_weights, totals


upscaled_logits.defvjp(_upscale_forward, _upscale_backward)
