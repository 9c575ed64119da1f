"""Folds what inference need not compute into the weights.

BatchNorm, LayerNorm's affine part, the scale and base of attention's logits, the grid's positional
encoding.

A transformation of flat variables (names as in weights.tree), for models.tiny_vit_inference and
for decoders made with `Execution(folded=True)`.
"""

import numpy as np

BATCH_NORM_EPSILON = 1e-5  # as in models.layers.BatchNorm

_LOG2_E = np.log2(np.e)
_FOURIER_MATRIX = "buffers/prompt_encoder/pe_layer/positional_encoding_gaussian_matrix"

# Inside TinyViT's blocks: a LayerNorm and the linear layer that alone reads it.
_LAYER_NORM_READERS = {"attn/norm": "attn/qkv", "mlp/norm": "mlp/fc1"}
_READ = (
    "/c/kernel",
    "/bn/",
    "/attention_biases",
    *_LAYER_NORM_READERS,
    *_LAYER_NORM_READERS.values(),
)


def is_read(name: str) -> bool:
    """Whether `fold` reads this variable; the others come out as they went in."""
    if name == _FOURIER_MATRIX:
        return True
    of_encoder = name.startswith(("params/image_encoder/", "batch_stats/image_encoder/"))
    return of_encoder and any(part in name for part in _READ)


def fold(variables: dict[str, np.ndarray], grid_size: int = 64) -> dict[str, np.ndarray]:
    """The same function with fewer variables; computed in float64, returned in float32.

    Every `X/bn` goes into the convolution `X/c` (which gains a bias), and in the image encoder the
    scale and bias of the LayerNorms before `qkv` and `fc1` go into those, and the attention's
    1/sqrt(d) into the part of `qkv` that makes q. Its logits become exponents of two instead of e.
    Measured on the published weights in torch: embeddings move by at most 4e-6, logits by 5e-5.
    """
    folded = dict(variables)
    for name in [name for name in variables if name.endswith("/bn/scale")]:
        _fold_batch_norm(folded, name.removesuffix("/bn/scale"))
    for name in [name for name in variables if name.startswith("params/image_encoder/layers_")]:
        for norm, reader in _LAYER_NORM_READERS.items():
            if name.endswith(f"/{norm}/scale"):
                block = name.removesuffix(f"{norm}/scale")
                _fold_layer_norm(folded, block + norm, block + reader)
        if name.endswith("/attn/attention_biases"):
            _fold_attention_scale(folded, name.removesuffix("attention_biases"))
    matrix = variables.get(_FOURIER_MATRIX)
    if matrix is not None:
        folded["buffers/prompt_encoder/dense_positions"] = _dense_positions(matrix, grid_size)
    return folded


def _dense_positions(matrix: np.ndarray, grid_size: int) -> np.ndarray:
    """What models.prompt_encoder's `dense_positions` computes, (G, G, C)."""
    centres = (np.arange(grid_size) + 0.5) / grid_size
    x, y = np.meshgrid(2 * centres - 1, 2 * centres - 1)
    angles = 2 * np.pi * (x[..., None] * matrix[0] + y[..., None] * matrix[1])
    return np.concatenate([np.sin(angles), np.cos(angles)], axis=-1).astype(np.float32)


def _fold_batch_norm(variables: dict[str, np.ndarray], unit: str) -> None:
    statistics = unit.replace("params/", "batch_stats/", 1)
    scale = variables.pop(f"{unit}/bn/scale").astype(np.float64)
    bias = variables.pop(f"{unit}/bn/bias").astype(np.float64)
    mean = variables.pop(f"{statistics}/bn/mean").astype(np.float64)
    variance = variables.pop(f"{statistics}/bn/var").astype(np.float64)
    factor = scale / np.sqrt(variance + BATCH_NORM_EPSILON)
    kernel = variables[f"{unit}/c/kernel"]  # (kh, kw, in, out), also where depthwise
    variables[f"{unit}/c/kernel"] = (kernel * factor).astype(np.float32)
    variables[f"{unit}/c/bias"] = (bias - mean * factor).astype(np.float32)


def _fold_layer_norm(variables: dict[str, np.ndarray], norm: str, reader: str) -> None:
    scale = variables.pop(f"{norm}/scale").astype(np.float64)
    bias = variables.pop(f"{norm}/bias").astype(np.float64)
    kernel = variables[f"{reader}/kernel"].astype(np.float64)  # (in, out)
    variables[f"{reader}/bias"] = (variables[f"{reader}/bias"] + bias @ kernel).astype(np.float32)
    variables[f"{reader}/kernel"] = (kernel * scale[:, None]).astype(np.float32)


def _fold_attention_scale(variables: dict[str, np.ndarray], attention: str) -> None:
    biases = variables[f"{attention}attention_biases"]
    variables[f"{attention}attention_biases"] = biases * np.float32(_LOG2_E)
    for leaf in ("kernel", "bias"):
        value = variables[f"{attention}qkv/{leaf}"]
        # The channels of a head lie together: its q, its k, its v.
        by_head = value.reshape(*value.shape[:-1], len(biases), 3, -1).copy()
        by_head[..., 0, :] *= np.float32(_LOG2_E * by_head.shape[-1] ** -0.5)
        variables[f"{attention}qkv/{leaf}"] = by_head.reshape(value.shape)
