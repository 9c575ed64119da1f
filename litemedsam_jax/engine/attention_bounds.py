"""How large the logits of TinyViT's attentions can become, whatever the image.

A softmax usually subtracts its largest logit, so that no exponential overflows. Where the weights
rule an overflow out, the subtraction, a tenth of an attention's time, is left away.
"""

import numpy as np

# 2**115 times any number of keys and values is within float32, and 2**-115 not yet denormal.
SAFE = 115.0
_SQUARINGS = 4


def attention_bounds(folded: dict[str, np.ndarray]) -> dict[str, float]:
    """The start of each attention's names -> what no logit's magnitude exceeds (up to rounding).

    A token x is zero (beyond the image) or a LayerNorm's output before its affine part, with mean
    0 and a norm of at most sqrt(C). A logit (x·Q + q)·(y·K + k) + bias is then bounded by
    C·|Q·Kᵀ| + sqrt(C)·(|Q·k| + |K·q|) + |q·k| + |bias|, with the spectral norm of Q·Kᵀ among
    vectors of mean 0.

    Args:
        folded: from `engine.folding.fold`.
    """
    names = (name for name in folded if name.endswith("/attn/attention_biases"))
    return {name: _bound(folded, name) for name in names}


def _bound(folded: dict[str, np.ndarray], name: str) -> float:
    biases, qkv = folded[name], name.removesuffix("attention_biases") + "qkv"
    heads, channels = len(biases), len(folded[f"{qkv}/kernel"])
    kernel = folded[f"{qkv}/kernel"].astype(np.float32).reshape(channels, heads, 3, -1)
    kernel = np.moveaxis(kernel - kernel.mean(0), 0, -1)  # (h, 3, d, C)
    q_kernel, k_kernel = kernel[:, 0], kernel[:, 1]
    q, k = np.moveaxis(folded[f"{qkv}/bias"].reshape(heads, 3, -1, 1), 1, 0)[:2]  # (h, d, 1)
    # The squared norm is the largest eigenvalue of this (d, d) matrix, all of which are >= 0; the
    # root of a high power's trace is just above it (by a tenth at most for 32 of them, squared).
    gram = (q_kernel @ q_kernel.swapaxes(1, 2)) @ (k_kernel @ k_kernel.swapaxes(1, 2))
    scale = np.trace(gram, axis1=1, axis2=2) + np.finfo(np.float32).tiny
    power = gram / scale[:, None, None]
    for _ in range(_SQUARINGS):
        power = power @ power
    largest = scale * np.trace(power, axis1=1, axis2=2) ** (0.5**_SQUARINGS)
    linear = _norm(k.swapaxes(1, 2) @ q_kernel) + _norm(q.swapaxes(1, 2) @ k_kernel)
    bounds = channels * np.sqrt(largest) + np.sqrt(channels) * linear
    return float((bounds + abs((q * k).sum((1, 2))) + abs(biases).max(1)).max())


def _norm(rows: np.ndarray) -> np.ndarray:
    """(h, 1, C) -> (h,)."""
    return np.sqrt(np.square(rows).sum((1, 2)))
