"""Attention inside windows in its plain form; on CPUs models.cpu_window_attention trains."""

from litemedsam_jax.models.layers import Array, attend_transposed


def attend_windows(qkv: Array, bias: Array) -> Array:
    """softmax(q·kᵀ/sqrt(d) + bias)·v of each window and head.

    Args:
        qkv: (windows, L, h, 3, d).
        bias: (h, L, L) float32; keys before queries.

    Returns:
        (windows, L, h·d), in the dtype of `qkv`.
    """
    q = qkv[..., 0, :].transpose(0, 2, 1, 3) * qkv.shape[-1] ** -0.5  # (windows, h, L, d)
    k = qkv[..., 1, :].transpose(0, 2, 1, 3)
    v = qkv[..., 2, :].transpose(0, 2, 3, 1)  # (windows, h, d, L)
    x = attend_transposed(q, k, v, bias).transpose(0, 3, 1, 2)
    return x.reshape(*x.shape[:2], -1)
