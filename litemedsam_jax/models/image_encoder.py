"""SAM's ViT image encoder. MedSAM's is the B size: the teacher of the distillation.

Source: Kirillov et al., "Segment Anything" (2023), with the relative positions of Li et al.,
"MViTv2" (2022); trained by Ma et al., "Segment anything in medical images" (2024).
"""

import flax.linen as nn
import jax.numpy as jnp
import numpy as np

from litemedsam_jax.config import Execution, ViTConfig
from litemedsam_jax.models.layers import (
    Array,
    Conv,
    LayerNorm,
    Linear,
    gelu,
    merge_windows,
    padded_size,
    partition_windows,
)
from litemedsam_jax.models.tiny_vit import make_neck


class ImageEncoderViT(nn.Module):
    """Images (B, S, S, 3) in [0, 1] -> embedding (B, S/p, S/p, out_dim), p the patch size."""

    config: ViTConfig
    execution: Execution = Execution()

    def setup(self):
        config, execution = self.config, self.execution
        self.patch_embed = PatchProjection(config, execution)
        grid = config.grid_size
        zeros = nn.initializers.zeros
        self.pos_embed = self.param("pos_embed", zeros, (1, grid, grid, config.dim))
        block = nn.remat(ViTBlock) if execution.remat else ViTBlock
        self.blocks = [
            block(config, 0 if index in config.global_blocks else config.window, execution)
            for index in range(config.depth)
        ]
        self.neck = make_neck(config.out_dim, execution)

    def __call__(self, image: Array, train: bool = False, intermediates: bool = False):
        """The embedding; with `intermediates` also a dict of activations by torch's names.

        `train` changes nothing here (no BatchNorm, no dropout); TinyViT's signature has it.
        """
        size = self.config.image_size
        if image.shape[1:] != (size, size, 3):
            raise ValueError(f"expected images of shape (B, {size}, {size}, 3), not {image.shape}")
        x = self.patch_embed(image) + self.pos_embed.astype(self.execution.dtype)
        seen = {"patch_embed": x}
        for index, block in enumerate(self.blocks):
            x = block(x)
            seen[f"blocks.{index}"] = x
        for layer in self.neck:
            x = layer(x)
        return (x, seen) if intermediates else x


class PatchProjection(nn.Module):
    """Non-overlapping patches to vectors."""

    config: ViTConfig
    execution: Execution

    def setup(self):
        dim, patch = self.config.dim, self.config.patch_size
        self.proj = Conv(dim, patch, patch, use_bias=True, dtype=self.execution.dtype)

    def __call__(self, image: Array) -> Array:
        return self.proj(image)


class ViTBlock(nn.Module):
    """Pre-norm transformer block; window 0 means attention over the whole grid."""

    config: ViTConfig
    window: int
    execution: Execution

    def setup(self):
        config, dtype = self.config, self.execution.dtype
        self.norm1 = LayerNorm(1e-6, dtype)
        self.attn = RelativeAttention(config.heads, self.window or config.grid_size, dtype)
        self.norm2 = LayerNorm(1e-6, dtype)
        self.mlp = ViTMlp(config.dim * config.mlp_ratio, dtype)

    def __call__(self, x: Array) -> Array:
        _, height, width, _ = x.shape
        window = self.window or height
        y = self.norm1(x)
        # Padding comes after the LayerNorm here (before it in TinyViT), and is not masked either.
        bottom, right = padded_size(height, window) - height, padded_size(width, window) - width
        y = jnp.pad(y, ((0, 0), (0, bottom), (0, right), (0, 0)))
        y = self.attn(partition_windows(y, window))
        y = merge_windows(y, window, height + bottom, width + right)
        x = x + y[:, :height, :width]
        return x + self.mlp(self.norm2(x))


class RelativeAttention(nn.Module):
    """Attention over a square of tokens with row and column terms that depend on the query."""

    heads: int
    size: int  # side of the square
    dtype: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        batch, tokens, dim = x.shape
        size, heads, head_dim = self.size, self.heads, dim // self.heads
        qkv = Linear(dim, 3 * dim, self.dtype, name="qkv")(x)  # all q, all k, all v
        q, k, v = qkv.reshape(batch, tokens, 3, heads, head_dim).transpose(2, 0, 3, 1, 4)
        table_shape = (2 * size - 1, head_dim)
        offsets = np.arange(size)[:, None] - np.arange(size) + size - 1
        terms = []
        for name in ("rel_pos_h", "rel_pos_w"):
            table = self.param(name, nn.initializers.zeros, table_shape)
            terms.append(table[offsets].astype(self.dtype))  # (query, key, d)
        grid = q.reshape(batch * heads, size, size, head_dim)
        rows = jnp.einsum("bhwd,hkd->bhwk", grid, terms[0])
        columns = jnp.einsum("bhwd,wkd->bhwk", grid, terms[1])
        logits = ((q * head_dim**-0.5) @ k.swapaxes(-1, -2)).astype(jnp.float32)
        logits = logits.reshape(batch * heads, size, size, size, size)
        rows, columns = rows.astype(jnp.float32), columns.astype(jnp.float32)
        logits = logits + rows[..., :, None] + columns[..., None, :]
        weights = nn.softmax(logits.reshape(batch, heads, tokens, tokens), axis=-1)
        x = weights.astype(self.dtype) @ v  # (B, h, L, d)
        x = x.transpose(0, 2, 1, 3).reshape(batch, tokens, dim)
        return Linear(dim, dim, self.dtype, name="proj")(x)


class ViTMlp(nn.Module):
    """Widen, GELU, narrow."""

    hidden: int
    dtype: str

    @nn.compact
    def __call__(self, x: Array) -> Array:
        dim = x.shape[-1]
        y = gelu(Linear(dim, self.hidden, self.dtype, name="lin1")(x))
        return Linear(self.hidden, dim, self.dtype, name="lin2")(y)
