"""Folds what inference need not compute into the weights: BatchNorm and LayerNorm's affine part.

A transformation of flat variables (names as in weights.store), for networks made with
`Execution(folded=True)`.
"""

import numpy as np

BATCH_NORM_EPSILON = 1e-5  # as in models.layers.BatchNorm

# Inside TinyViT's blocks: a LayerNorm and the linear layer that alone reads it.
_LAYER_NORM_READERS = {"attn/norm": "attn/qkv", "mlp/norm": "mlp/fc1"}


def fold(variables: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The same function with fewer variables; computed in float64, returned in float32.

    Every `X/bn` goes into the convolution `X/c` (which gains a bias), and in the image encoder the
    scale and bias of the LayerNorms before `qkv` and `fc1` go into those. Measured on the published
    weights in torch: embeddings move by at most 4e-6, logits by 5e-5.
    """
    folded = dict(variables)
    for name in [name for name in variables if name.endswith("/bn/scale")]:
        _fold_batch_norm(folded, name.removesuffix("/bn/scale"))
    for name in [name for name in variables if name.startswith("params/image_encoder/layers_")]:
        for norm, reader in _LAYER_NORM_READERS.items():
            if name.endswith(f"/{norm}/scale"):
                block = name.removesuffix(f"{norm}/scale")
                _fold_layer_norm(folded, block + norm, block + reader)
    return folded


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
