"""SAM's mask decoder: prompts attend to the image embedding, and masks come out.

Source: Kirillov et al., "Segment Anything" (2023), appendix A.
"""

from collections.abc import Callable
from typing import Any

import flax.linen as nn
import jax.numpy as jnp

from litemedsam_jax.config import Execution, MaskDecoderConfig
from litemedsam_jax.models import decoder_samples
from litemedsam_jax.models.cpu_ops import on_cpu
from litemedsam_jax.models.decoder_attention import CrossAttention, SelfAttention
from litemedsam_jax.models.layers import (
    Array,
    ConvTranspose2x2,
    LayerNorm,
    Linear,
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
        rounded = _products(self.execution) == "bfloat16"
        normal = nn.initializers.normal(1.0)
        self.transformer = TwoWayTransformer(config, self.execution)
        self.iou_token = nn.Embed(1, dim, embedding_init=normal)
        self.mask_tokens = nn.Embed(masks, dim, embedding_init=normal)
        self.output_upscaling: list[Callable[[Array], Array]] = [
            ConvTranspose2x2(dim, dim // 4, dtype, rounded),
            LayerNorm(1e-6, dtype),
            gelu,
            ConvTranspose2x2(dim // 4, dim // 8, dtype, rounded),
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
            dense: (B or 1, N or 1, G or 1, G or 1, C), from it too.
            multimask: the three masks of an ambiguous prompt instead of the single one.

        Returns:
            logits (B, N, M, 4G, 4G) and predicted IoU (B, N, M), float32; M is 1 or 3.
        """
        batch, count = tokens.shape[:2]
        grid, dim = embedding.shape[1], embedding.shape[-1]
        outputs = jnp.concatenate([self.iou_token.embedding, self.mask_tokens.embedding])
        outputs = jnp.broadcast_to(outputs, (batch, count, *outputs.shape))
        tokens = jnp.concatenate([outputs, tokens], axis=2)
        positions = positions.reshape(grid * grid, dim)
        # On CPUs training takes another way: one prompt each, none with a mask of its own.
        plain = self.execution.folded or self.execution.dtype != "float32"
        by_sample = not plain and count == 1 and dense.size == dim and on_cpu()
        by_sample &= not multimask and not self.is_initializing()
        if by_sample:
            image = embedding.reshape(batch, -1, dim)
            tokens, image = self.transformer.by_sample(tokens, image, dense[0, 0, 0, 0], positions)
        else:
            image = (embedding[:, None] + dense).reshape(batch, -1, grid * grid, dim)
            tokens, image = self.transformer(tokens, image, positions)

        wanted = range(1, len(self.output_hypernetworks_mlps)) if multimask else range(1)
        iou = self.iou_prediction_head(tokens[:, :, 0])[..., wanted.start : wanted.stop]
        weights = jnp.stack(
            [self.output_hypernetworks_mlps[k](tokens[:, :, 1 + k]) for k in wanted], axis=2
        )  # (B, N, M, C/8)
        if by_sample:
            logits = self._logits_by_sample(image, weights[:, 0, 0])
        else:
            for layer in self.output_upscaling:
                image = layer(image)  # ends as (B, N, G², 2, 2, 2, 2, C/8)
            pixels = image.reshape(batch, count, -1, dim // 8)
            # Here the many are on the left of a product: transposing them would copy them.
            logits = pixels @ weights.astype(pixels.dtype).swapaxes(-1, -2)  # (B, N, 16·G², M)
            logits = logits.swapaxes(-1, -2)
        logits = logits.reshape(batch, count, -1, grid, grid, 2, 2, 2, 2)
        return unfold_blocks(logits).astype(jnp.float32), iou

    def _logits_by_sample(self, image: Array, weights: Array) -> Array:
        layers: list[Any] = self.output_upscaling
        first, norm, _, second, _ = layers
        parameters = (*first.matrix(), *norm.factors(), *second.matrix())
        return decoder_samples.upscaled_logits(image, weights, parameters)


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
        config = self.config
        self.layers = [
            TwoWayBlock(config, self.execution, first=index == 0) for index in range(config.depth)
        ]
        self.final_attn_token_to_image = _cross_attention(config, self.execution)
        self.norm_final_attn = LayerNorm(1e-5)

    def __call__(self, tokens: Array, image: Array, positions: Array) -> tuple[Array, Array]:
        """tokens (B, N, T, C), image (B, N or 1, L, C), positions (L, C) -> both, attended."""
        prompt = tokens  # the tokens' own positional encoding, in every layer
        for layer in self.layers:
            tokens, image = layer(tokens, image, prompt, positions)
        keys = image + positions.astype(image.dtype)
        attended = self.final_attn_token_to_image.to_image(tokens + prompt, keys, image)
        return self.norm_final_attn(tokens + attended), image

    def by_sample(
        self, tokens: Array, image: Array, offset: Array, positions: Array
    ) -> tuple[Array, Array]:
        """The same for one prompt each: image (B, L, C), to which `offset` (C,) is added."""
        prompt = tokens
        for layer in self.layers:
            added = offset if layer.first else None
            tokens, image = layer.by_sample(tokens, image, added, prompt, positions)
        attention = self.final_attn_token_to_image
        attended = attention.to_image_by_sample(tokens + prompt, image, None, positions)
        return self.norm_final_attn(tokens + attended), image


class TwoWayBlock(nn.Module):
    """Self-attention of tokens, tokens to image, MLP, image to tokens; a norm after each."""

    config: MaskDecoderConfig
    execution: Execution
    first: bool

    def setup(self):
        config, dtype = self.config, self.execution.dtype
        self.self_attn = SelfAttention(config.dim, config.heads, config.dim)
        self.norm1 = LayerNorm(1e-5)
        self.cross_attn_token_to_image = _cross_attention(config, self.execution)
        self.norm2 = LayerNorm(1e-5)
        self.mlp = TokenMlp(config.dim, config.mlp_dim)
        self.norm3 = LayerNorm(1e-5)
        self.norm4 = LayerNorm(1e-5, dtype)
        self.cross_attn_image_to_token = _cross_attention(config, self.execution)

    def __call__(
        self, tokens: Array, image: Array, prompt: Array, positions: Array
    ) -> tuple[Array, Array]:
        tokens = self._attended_tokens(tokens, prompt)
        located = image + positions.astype(image.dtype)
        attended = self.cross_attn_token_to_image.to_image(tokens + prompt, located, image)
        tokens = self.norm2(tokens + attended)
        tokens = self.norm3(tokens + self.mlp(tokens))
        attended = self.cross_attn_image_to_token.to_tokens(located, tokens + prompt, tokens)
        return tokens, self.norm4(image + attended.astype(image.dtype))

    def by_sample(
        self,
        tokens: Array,
        image: Array,
        offset: Array | None,
        prompt: Array,
        positions: Array,
    ) -> tuple[Array, Array]:
        """The same for one prompt each: image (B, L, C), to which `offset` (C,) is added."""
        tokens = self._attended_tokens(tokens, prompt)
        attention = self.cross_attn_token_to_image
        attended = attention.to_image_by_sample(tokens + prompt, image, offset, positions)
        tokens = self.norm2(tokens + attended)
        tokens = self.norm3(tokens + self.mlp(tokens))
        of_tokens = self.cross_attn_image_to_token.prompted(tokens + prompt, tokens)
        columns, biases, rows, output_bias = of_tokens
        return tokens, decoder_samples.attend_to_tokens(
            image,
            offset,
            positions,
            columns[:, 0],
            biases[:, 0],
            rows[:, 0],
            (output_bias, *self.norm4.factors()),
        )

    def _attended_tokens(self, tokens: Array, prompt: Array) -> Array:
        if self.first:  # torch's first layer has neither positions nor residual here
            return self.norm1(self.self_attn(tokens, tokens))
        return self.norm1(tokens + self.self_attn(tokens + prompt, tokens))


class TokenMlp(nn.Module):
    """Widen, ReLU, narrow, in float32."""

    dim: int
    hidden: int

    def setup(self):
        self.lin1 = Linear(self.dim, self.hidden)
        self.lin2 = Linear(self.hidden, self.dim)

    def __call__(self, x: Array) -> Array:
        return self.lin2(nn.relu(self.lin1(x)))


def _cross_attention(config: MaskDecoderConfig, execution: Execution) -> CrossAttention:
    inner = config.dim // config.attention_downsample
    products = _products(execution)
    return CrossAttention(config.dim, config.heads, inner, execution.dtype, products)


def _products(execution: Execution) -> str:
    """What products with image tokens take: training's stay float32."""
    return execution.products if execution.folded else "float32"
