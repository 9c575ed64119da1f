"""SAM's mask decoder: prompts attend to the image embedding, and masks come out.

Source: Kirillov et al., "Segment Anything" (2023), appendix A.

A prompt has about seven tokens and the image 4096, so no product here projects image tokens: the
projections are moved to the side of the few, q·(K·W) = (q·Wᵀ)·K, which gives the same numbers for
less than half of the work. And what a prompt does not change is computed once per image: until
the first layer has updated them, image tokens are shared by all prompts (N = 1 below).
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp

from litemedsam_jax.config import Execution, MaskDecoderConfig
from litemedsam_jax.models.layers import (
    Array,
    ConvTranspose2x2,
    LayerNorm,
    Linear,
    attend,
    gelu,
    unfold_blocks,
)


class MaskDecoder(nn.Module):
    """Predicts masks and their quality from an image embedding and encoded prompts."""

    config: MaskDecoderConfig
    execution: Execution = Execution()

    def setup(self):
        config, dtype = self.config, self.execution.dtype
        dim, masks = config.dim, config.multimask_outputs + 1
        normal = nn.initializers.normal(1.0)
        self.transformer = TwoWayTransformer(config, self.execution)
        self.iou_token = nn.Embed(1, dim, embedding_init=normal)
        self.mask_tokens = nn.Embed(masks, dim, embedding_init=normal)
        self.output_upscaling: list[Callable[[Array], Array]] = [
            ConvTranspose2x2(dim, dim // 4, dtype),
            LayerNorm(1e-6, dtype),
            gelu,
            ConvTranspose2x2(dim // 4, dim // 8, dtype),
            gelu,
        ]
        self.output_hypernetworks_mlps = [Mlp((dim, dim, dim, dim // 8)) for _ in range(masks)]
        self.iou_prediction_head = Mlp((dim, dim, dim, masks))

    def __call__(
        self,
        embedding: Array,
        positions: Array,
        tokens: Array,
        dense: Array,
        multimask: bool = False,
    ) -> tuple[Array, Array]:
        """Decodes N prompts of each of B images.

        Args:
            embedding: (B, G, G, C).
            positions: (G, G, C), the grid's positional encoding.
            tokens: (B, N, T, C), from the prompt encoder.
            dense: (B or 1, N or 1, G, G, C), from it too.
            multimask: the three masks of an ambiguous prompt instead of the single one.

        Returns:
            logits (B, N, M, 4G, 4G) and predicted IoU (B, N, M), float32; M is 1 or 3.
        """
        batch, count = tokens.shape[:2]
        grid, dim = embedding.shape[1], embedding.shape[-1]
        outputs = jnp.concatenate([self.iou_token.embedding, self.mask_tokens.embedding])
        outputs = jnp.broadcast_to(outputs, (batch, count, *outputs.shape))
        tokens = jnp.concatenate([outputs, tokens], axis=2)
        image = (embedding[:, None] + dense).reshape(batch, -1, grid * grid, dim)
        tokens, image = self.transformer(tokens, image, positions.reshape(grid * grid, dim))

        wanted = range(1, len(self.output_hypernetworks_mlps)) if multimask else range(1)
        iou = self.iou_prediction_head(tokens[:, :, 0])[..., wanted.start : wanted.stop]
        weights = jnp.stack(
            [self.output_hypernetworks_mlps[k](tokens[:, :, 1 + k]) for k in wanted], axis=2
        )  # (B, N, M, C/8)
        for layer in self.output_upscaling:
            image = layer(image)  # ends as (B, N, G², 2, 2, 2, 2, C/8)
        pixels = image.reshape(batch, count, -1, dim // 8)
        # Everywhere here the many are on the left of a product: transposing them would copy them.
        logits = pixels @ weights.astype(pixels.dtype).swapaxes(-1, -2)  # (B, N, 16·G², M)
        logits = logits.swapaxes(-1, -2).reshape(batch, count, -1, grid, grid, 2, 2, 2, 2)
        return unfold_blocks(logits).astype(jnp.float32), iou


class Mlp(nn.Module):
    """Linear layers of the given widths with ReLU between, always in float32 (they are tiny)."""

    widths: tuple[int, ...]

    def setup(self):
        self.layers = [Linear(*pair) for pair in zip(self.widths, self.widths[1:], strict=False)]

    def __call__(self, x: Array) -> Array:
        for layer in self.layers[:-1]:
            x = nn.relu(layer(x))
        return self.layers[-1](x)


class TwoWayTransformer(nn.Module):
    """Tokens and image attend to each other, twice; then tokens to the image once more."""

    config: MaskDecoderConfig
    execution: Execution

    def setup(self):
        config, dtype = self.config, self.execution.dtype
        self.layers = [
            TwoWayBlock(config, self.execution, first=index == 0) for index in range(config.depth)
        ]
        inner = config.dim // config.attention_downsample
        self.final_attn_token_to_image = CrossAttention(config.dim, config.heads, inner, dtype)
        self.norm_final_attn = LayerNorm(1e-5)

    def __call__(self, tokens: Array, image: Array, positions: Array) -> tuple[Array, Array]:
        """tokens (B, N, T, C), image (B, N or 1, L, C), positions (L, C) -> both, attended."""
        prompt = tokens  # the tokens' own positional encoding, in every layer
        for layer in self.layers:
            tokens, image = layer(tokens, image, prompt, positions)
        keys = image + positions.astype(image.dtype)
        attended = self.final_attn_token_to_image.to_image(tokens + prompt, keys, image)
        return self.norm_final_attn(tokens + attended), image


class TwoWayBlock(nn.Module):
    """Self-attention of tokens, tokens to image, MLP, image to tokens; a norm after each."""

    config: MaskDecoderConfig
    execution: Execution
    first: bool

    def setup(self):
        config, dtype = self.config, self.execution.dtype
        inner = config.dim // config.attention_downsample
        self.self_attn = SelfAttention(config.dim, config.heads, config.dim)
        self.norm1 = LayerNorm(1e-5)
        self.cross_attn_token_to_image = CrossAttention(config.dim, config.heads, inner, dtype)
        self.norm2 = LayerNorm(1e-5)
        self.mlp = TokenMlp(config.dim, config.mlp_dim)
        self.norm3 = LayerNorm(1e-5)
        self.norm4 = LayerNorm(1e-5, dtype)
        self.cross_attn_image_to_token = CrossAttention(config.dim, config.heads, inner, dtype)

    def __call__(
        self, tokens: Array, image: Array, prompt: Array, positions: Array
    ) -> tuple[Array, Array]:
        if self.first:  # torch's first layer has neither positions nor residual here
            tokens = self.self_attn(tokens, tokens)
        else:
            tokens = tokens + self.self_attn(tokens + prompt, tokens)
        tokens = self.norm1(tokens)
        located = image + positions.astype(image.dtype)
        attended = self.cross_attn_token_to_image.to_image(tokens + prompt, located, image)
        tokens = self.norm2(tokens + attended)
        tokens = self.norm3(tokens + self.mlp(tokens))
        attended = self.cross_attn_image_to_token.to_tokens(located, tokens + prompt, tokens)
        return tokens, self.norm4(image + attended.astype(image.dtype))


class TokenMlp(nn.Module):
    """Widen, ReLU, narrow, in float32."""

    dim: int
    hidden: int

    def setup(self):
        self.lin1 = Linear(self.dim, self.hidden)
        self.lin2 = Linear(self.hidden, self.dim)

    def __call__(self, x: Array) -> Array:
        return self.lin2(nn.relu(self.lin1(x)))


class Projections(nn.Module):
    """The four projections of an attention with heads; `inner` is the width between them."""

    dim: int
    heads: int
    inner: int
    dtype: str = "float32"

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
        # q·(K·Wk + bk): bk adds the same to every key's logit, so the softmax cancels it.
        q = self.split(self.q_proj(queries)) @ self.per_head(self.k_proj.kernel)  # (B, N, h, T, C)
        q = (q * self.scale).astype(self.dtype).reshape(batch, shared, -1, dim)
        logits = (keys.astype(self.dtype) @ q.swapaxes(-1, -2)).astype(jnp.float32)
        weights = jax.nn.softmax(logits, axis=-2).astype(self.dtype)  # (B, N or 1, L, ...·h·T)
        mixed = weights.swapaxes(-1, -2) @ values.astype(self.dtype)
        mixed = mixed.reshape(batch, count, self.heads, length, dim).astype(jnp.float32)
        v = mixed @ self.per_head(self.v_proj.kernel).swapaxes(-1, -2)  # (B, N, h, T, d)
        return self.out_proj(self.join(v) + self.v_proj.bias)

    def to_tokens(self, queries: Array, keys: Array, values: Array) -> Array:
        """The image attends to tokens: (B, N, L, C). `keys` and `values` are tokens."""
        batch, count, length, dim = keys.shape
        heads, image_length = self.heads, queries.shape[2]
        k = self.split(self.k_proj(keys)) * self.scale  # (B, N, h, T, d)
        # (x·Wq + bq)·k = x·(Wq·k) + bq·k
        columns = (k @ self.per_head(self.q_proj.kernel)).swapaxes(2, 3)  # (B, N, T, h, C)
        columns = columns.reshape(batch, count, -1, dim).astype(self.dtype)
        offsets = (k @ self.q_proj.bias.reshape(heads, -1, 1)).swapaxes(2, 3)
        logits = queries.astype(self.dtype) @ columns.swapaxes(-1, -2)
        logits = logits.astype(jnp.float32) + offsets.reshape(batch, count, 1, -1)
        # Heads last: a reduction over the last axis would not be vectorised.
        logits = logits.reshape(batch, count, image_length, length, heads)
        weights = jax.nn.softmax(logits, axis=-2).astype(self.dtype)
        v = self.split(self.v_proj(values))  # (B, N, h, T, d)
        rows = (v @ self.out_proj.kernel.reshape(heads, -1, dim)).swapaxes(2, 3)  # (B, N, T, h, C)
        rows = rows.reshape(batch, count, -1, dim).astype(self.dtype)
        mixed = weights.reshape(batch, count, image_length, -1) @ rows
        return mixed + self.out_proj.bias.astype(self.dtype)
