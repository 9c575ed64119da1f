"""What the layers of models.tiny_vit_inference have in common."""

from typing import Any

from jax import lax

from litemedsam_jax.models import bfloat16_ops
from litemedsam_jax.models.layers import Array
from litemedsam_jax.models.normalisation import normalise_rows

Params = dict[str, Any]  # a layer's own, nested and named as in weights.tree

_LAYER_NORM_EPSILON = 1e-5


def linear(params: Params, x: Array) -> Array:
    """x (..., C) -> (..., O)."""
    return product(x, params["kernel"]) + params["bias"]


def normalise(x: Array) -> Array:
    """LayerNorm over the last axis, of which the affine part was folded into what follows."""
    return normalise_rows(x, _LAYER_NORM_EPSILON)


def product(x: Array, kernel: Array) -> Array:
    """x (..., C) times kernel (C, O), as a 1x1 convolution.

    To XLA it is the same matrix product in the end, but only after the pass that hands products to
    YNNPACK. That pass is right for the products of queries, keys and values (5.6 instead of 15 ms)
    and wrong here: it materialises what is broadcast around the product (34 instead of 22 ms).
    """
    if bfloat16_ops.is_low(kernel):
        return bfloat16_ops.product(x, kernel)
    numbers = ("NHWC", "HWIO", "NHWC")
    rows = x.reshape(1, 1, -1, x.shape[-1])
    rows = lax.conv_general_dilated(
        rows, kernel[None, None], (1, 1), "VALID", dimension_numbers=numbers
    )
    return rows.reshape(*x.shape[:-1], kernel.shape[-1])
