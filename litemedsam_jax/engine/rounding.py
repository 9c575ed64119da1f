"""Weights for bfloat16 products: kernels rounded, some in parts, and biases that make up for it.

The rounding of weights, the same for every image, makes two thirds of the embedding's error. What
it changes on the mean goes into the next bias, which costs nothing where it is computed.
"""

import math

import numpy as np

from litemedsam_jax.weights.tree import bfloat16

_ENCODER = "params/image_encoder/"
# Three channels of intensities: no work, and all that the network sees.
_KEPT = (f"{_ENCODER}patch_embed/seq_0/",)
# Where all that is known of the image passes through one product, without a residual beside it:
# rounded, these few would make three quarters of the embedding's error.
_IN_PARTS = (
    f"{_ENCODER}patch_embed/seq_2/",
    f"{_ENCODER}layers_0/blocks_0/conv1/",
    *(f"{_ENCODER}layers_{index}/downsample/" for index in range(3)),
)
# Rounded, the pattern of these kernels' error can move a box that propagation makes of a mask: one
# of 23 volumes lost three points. What they multiply is rounded as elsewhere.
_WITH_LOW_PART = tuple(f"{_ENCODER}layers_0/blocks_{index}/conv3/" for index in range(2))
# The decoder's products with image tokens whose kernels are weights; (2, 2, out, in) before.
_UPSCALING = tuple(f"params/mask_decoder/output_upscaling_{index}/kernel" for index in (0, 3))
_QKV, _PROJECTION = "attn/qkv", "attn/proj"
_EXPANSION, _REDUCTION = "mlp/fc1", "mlp/fc2"


def is_rounded(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a folded variable is stored in bfloat16: a kernel of a large product.

    Depthwise kernels (3, 3, 1, C) are sums of few products, and stay.
    """
    if name in _UPSCALING:
        return True
    if not name.startswith(_ENCODER) or not name.endswith("/kernel") or name.startswith(_KEPT):
        return False
    return len(shape) == 2 or shape[2] > 1


def is_changed(name: str, shape: tuple[int, ...]) -> bool:
    """Whether `round_weights` changes a folded variable, or reads it to change another."""
    if is_rounded(name, shape):
        return True
    layers = (_QKV, _PROJECTION, _EXPANSION, _REDUCTION)
    ends = (*(f"{layer}/bias" for layer in layers), "attn/attention_biases")
    return name.startswith(_ENCODER) and name.endswith(ends)


def round_weights(folded: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The variables with those of `is_rounded` in bfloat16, some of them in parts.

    A kernel in parts (..., C, O) becomes (..., 3·C, O): what models.bfloat16_ops.product wants.
    Of those that are exact where what they multiply is rounded, the low part lies beside the high
    one, (..., C, 2·O): models.tiny_vit_inference adds up what they make.
    Kernels of the decoder's upscaling become matrices, see models.layers.ConvTranspose2x2.
    """
    biased = dict(folded)
    for name in folded:
        if name.startswith(_ENCODER) and name.endswith(f"{_QKV}/kernel"):
            _move_biases(biased, name.removesuffix(f"{_QKV}/kernel"))
        if name.startswith(_ENCODER) and name.endswith(f"{_REDUCTION}/kernel"):
            _correct_mean(biased, name.removesuffix(f"{_REDUCTION}/kernel"))
    return {
        name: _rounded(name, array) if is_rounded(name, array.shape) else array
        for name, array in biased.items()
    }


def _rounded(name: str, array: np.ndarray) -> np.ndarray:
    if name in _UPSCALING:
        array = np.ascontiguousarray(array.reshape(-1, array.shape[-1]).T)
    high = array.astype(bfloat16())
    if not name.startswith((*_IN_PARTS, *_WITH_LOW_PART)):
        return high
    low = (array - high.astype(np.float32)).astype(bfloat16())
    if name.startswith(_IN_PARTS):
        return np.concatenate([high, high, low], axis=-2)
    return np.concatenate([high, low], axis=-1)


def _move_biases(variables: dict[str, np.ndarray], block: str) -> None:
    """Takes the biases of k and v out of what is rounded; the attention stays the same.

    A softmax does not change by what a query's logits have in common, as q·(bias of k). And its
    weights sum up to one, so that the bias of v passes to the projection, which adds it.
    """
    heads = len(variables[f"{block}attn/attention_biases"])
    bias = variables[f"{block}{_QKV}/bias"].reshape(heads, 3, -1).copy()
    of_v = bias[:, 2].reshape(-1).astype(np.float64)
    bias[:, 1:] = 0
    variables[f"{block}{_QKV}/bias"] = bias.reshape(-1)
    added = of_v @ variables[f"{block}{_PROJECTION}/kernel"].astype(np.float64)
    name = f"{block}{_PROJECTION}/bias"
    variables[name] = (variables[name] + added).astype(np.float32)


def _correct_mean(variables: dict[str, np.ndarray], block: str) -> None:
    """Adds to the bias after GELU what rounding the kernel takes from the mean result.

    What GELU gives on the mean is known from the weights before it: LayerNorm's tokens have mean 0
    and variance 1, here taken as normal and alike in all directions.
    """
    before = variables[f"{block}{_EXPANSION}/kernel"].astype(np.float64)
    mean = variables[f"{block}{_EXPANSION}/bias"].astype(np.float64)
    mean = _mean_of_gelu(mean, np.square(before - before.mean(0)).sum(0))
    kernel = variables[f"{block}{_REDUCTION}/kernel"]
    lost = kernel.astype(np.float64) - kernel.astype(bfloat16()).astype(np.float64)
    name = f"{block}{_REDUCTION}/bias"
    variables[name] = (variables[name] + mean @ lost).astype(np.float32)


def _mean_of_gelu(mean: np.ndarray, variance: np.ndarray) -> np.ndarray:
    """The mean of x·Phi(x) for normal x."""
    z = mean / np.sqrt(1 + variance)
    phi = np.exp(-np.square(z) / 2) / math.sqrt(2 * math.pi)
    cumulative = np.array([0.5 * (1 + math.erf(one / math.sqrt(2))) for one in z])
    return mean * cumulative + variance / np.sqrt(1 + variance) * phi
