"""Attention in the mask decoder: among a prompt's few tokens, and between them and the image.

A prompt has about seven tokens and the image 4096, so no product here projects image tokens: the
projections are moved to the side of the few, q·(K·W) = (q·Wᵀ)·K, which gives the same numbers for
less than half of the work. And what a prompt does not change is computed once per image: until
the first layer has updated them, image tokens are shared by all prompts (N = 1 below).
"""

import flax.linen as nn
import jax
import jax.numpy as jnp
from jax import lax

from litemedsam_jax.models import bfloat16_ops, decoder_samples
from litemedsam_jax.models.cpu_ops import on_cpu
from litemedsam_jax.models.layers import Array, Linear, attend


class Projections(nn.Module):
    """The four projections of an attention with heads; `inner` is the width between them.

    `products`: "bfloat16", or as `dtype` has it: what products with image tokens take.
    """

    dim: int
    heads: int
    inner: int
    dtype: str = "float32"
    products: str = "float32"

    def setup(self):
        self.q_proj = Linear(self.dim, self.inner)
        self.k_proj = Linear(self.dim, self.inner)
        self.v_proj = Linear(self.dim, self.inner)
        self.out_proj = Linear(self.inner, self.dim)

    @property
    def scale(self) -> float:
        return (self.inner // self.heads) ** -0.5

    def split(self, x: Array) -> Array:
        """(B, N, T, inner) -> (B, N, h, T, d)."""
        return x.reshape(*x.shape[:3], self.heads, -1).swapaxes(2, 3)

    def join(self, x: Array) -> Array:
        """(B, N, h, T, d) -> (B, N, T, inner)."""
        batch, count, _, length, _ = x.shape
        return x.swapaxes(2, 3).reshape(batch, count, length, self.inner)

    def per_head(self, kernel: Array) -> Array:
        """A projection's kernel (C, inner) -> (h, d, C)."""
        return kernel.reshape(self.dim, self.heads, -1).transpose(1, 2, 0)


class SelfAttention(Projections):
    """Attention among the tokens of each prompt."""

    def __call__(self, x: Array, values: Array) -> Array:
        q, k = self.split(self.q_proj(x)), self.split(self.k_proj(x))
        return self.out_proj(self.join(attend(q, k, self.split(self.v_proj(values)), self.scale)))


class CrossAttention(Projections):
    """Attention between few tokens (B, N, T, C) and the image (B, N or 1, L, C)."""

    def to_image(self, queries: Array, keys: Array, values: Array) -> Array:
        """Tokens attend to the image: (B, N, T, C). `keys` and `values` are image tokens."""
        batch, count, length, dim = queries.shape
        shared = keys.shape[1]  # 1 while prompts share the image: their queries go in one product
        q = self._image_queries(queries).reshape(batch, shared, -1, dim)
        logits = self._product(keys, q.swapaxes(-1, -2)).astype(jnp.float32)
        weights = jax.nn.softmax(logits, axis=-2)  # (B, N or 1, L, ...·h·T)
        mixed = self._product(weights.swapaxes(-1, -2), values)
        mixed = mixed.reshape(batch, count, self.heads, length, dim).astype(jnp.float32)
        return self._image_values(mixed)

    def _product(self, x: Array, y: Array) -> Array:
        """x @ y with image tokens."""
        if self.products == "bfloat16":
            return bfloat16_ops.matmul(x, y)
        return x.astype(self.dtype) @ y.astype(self.dtype)

    def to_image_by_sample(
        self, queries: Array, image: Array, offset: Array | None, positions: Array
    ) -> Array:
        """As `to_image` for one prompt an image; see `decoder_samples.attend_to_image`."""
        batch, _, length, dim = queries.shape
        q = self._image_queries(queries).reshape(batch, -1, dim)
        mixed = decoder_samples.attend_to_image(image, offset, positions, q)
        return self._image_values(mixed.reshape(batch, 1, self.heads, length, dim))

    def _image_queries(self, queries: Array) -> Array:
        """What each token and head asks image tokens for, (B, N, h, T, C), scaled."""
        # q·(K·Wk + bk): bk adds the same to every key's logit, so the softmax cancels it.
        q = self.split(self.q_proj(queries)) @ self.per_head(self.k_proj.kernel)
        return q * self.scale

    def _image_values(self, mixed: Array) -> Array:
        """The output (B, N, T, C) for image tokens mixed by each head, (B, N, h, T, C)."""
        v = mixed @ self.per_head(self.v_proj.kernel).swapaxes(-1, -2)  # (B, N, h, T, d)
        return self.out_proj(self.join(v) + self.v_proj.bias)

    def to_tokens(self, queries: Array, keys: Array, values: Array) -> Array:
        """The image attends to tokens: (B, N, L, C). `keys` and `values` are tokens."""
        batch, count, _, dim = keys.shape
        heads = self.heads
        columns, offsets, rows, bias = self.prompted(keys, values)
        columns = columns.reshape(batch, count, -1, dim)
        logits = self._product(queries, columns.swapaxes(-1, -2)).astype(jnp.float32)
        weights = _softmax_over_tokens(logits + offsets.reshape(batch, count, 1, -1), heads)
        mixed = self._product(weights, rows.reshape(batch, count, -1, dim))
        return mixed + bias.astype(mixed.dtype)

    def prompted(self, keys: Array, values: Array) -> tuple[Array, Array, Array, Array]:
        """What the image attends to tokens with: x·columns + offsets, whose softmax mixes rows.

        Args:
            keys: (B, N, T, C).
            values: the same.

        Returns:
            columns (B, N, T, h, C), offsets (B, N, T, h), rows (B, N, T, h, C), bias (C,).
        """
        heads, dim = self.heads, self.dim
        k = self.split(self.k_proj(keys)) * self.scale  # (B, N, h, T, d)
        # (x·Wq + bq)·k = x·(Wq·k) + bq·k
        columns = (k @ self.per_head(self.q_proj.kernel)).swapaxes(2, 3)
        offsets = (k @ self.q_proj.bias.reshape(heads, -1, 1)).swapaxes(2, 3)
        v = self.split(self.v_proj(values))  # (B, N, h, T, d)
        rows = (v @ self.out_proj.kernel.reshape(heads, -1, dim)).swapaxes(2, 3)
        return columns, offsets[..., 0], rows, self.out_proj.bias


def _softmax_over_tokens(logits: Array, heads: int) -> Array:
    """The softmax of each head over tokens, of (..., T·heads): heads lie next to each other.

    On CPUs a head's largest logit and its sum are repeated for all tokens and stored: XLA does not
    vectorise loops over so few heads.
    """
    by_token = (*logits.shape[:-1], -1, heads)
    if not on_cpu():
        return jax.nn.softmax(logits.reshape(by_token), axis=-2).reshape(logits.shape)

    def for_each_token(of_heads: Array) -> Array:
        repeated = jnp.concatenate([of_heads] * (logits.shape[-1] // heads), axis=-1)
        return lax.optimization_barrier(repeated)

    largest = lax.stop_gradient(logits.reshape(by_token).max(-2))
    weights = jnp.exp(logits - for_each_token(largest))
    return weights * for_each_token(1 / weights.reshape(by_token).sum(-2))
