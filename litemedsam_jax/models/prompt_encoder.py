"""SAM's prompt encoder: boxes, points and masks as tokens and a dense map.

Source: Kirillov et al., "Segment Anything" (2023), appendix A; positions by random Fourier
features, Tancik et al. (2020). LiteMedSAM prompts with boxes alone.
"""

from collections.abc import Callable

import flax.linen as nn
import jax
import jax.numpy as jnp
import numpy as np

from litemedsam_jax.config import Execution, PromptEncoderConfig
from litemedsam_jax.models.layers import Array, Conv, LayerNorm, gelu


class PromptEncoder(nn.Module):
    """Turns prompts into what the mask decoder attends with.

    Attributes:
        image_size: side of the frame that coordinates live in, in pixels.
        grid_size: side of the image embedding.
    """

    config: PromptEncoderConfig
    image_size: int
    grid_size: int
    execution: Execution = Execution()

    def setup(self):
        dim, mask_channels = self.config.dim, self.config.mask_channels
        normal = nn.initializers.normal(1.0)
        self.pe_layer = FourierPositions(dim)
        # Background point, foreground point, first and second corner of a box.
        self.point_embeddings = [nn.Embed(1, dim, embedding_init=normal) for _ in range(4)]
        self.not_a_point_embed = nn.Embed(1, dim, embedding_init=normal)
        self.no_mask_embed = nn.Embed(1, dim, embedding_init=normal)
        self.mask_downscaling: list[Callable[[Array], Array]] = [
            Conv(mask_channels // 4, 2, 2, use_bias=True),
            LayerNorm(1e-6),
            gelu,
            Conv(mask_channels, 2, 2, use_bias=True),
            LayerNorm(1e-6),
            gelu,
            Conv(dim, 1, use_bias=True),
        ]

    def __call__(
        self,
        boxes: Array | None = None,
        points: tuple[Array, Array] | None = None,
        masks: Array | None = None,
    ) -> tuple[Array, Array]:
        """Encodes N prompts of each of B images; points first, then box corners.

        Args:
            boxes: (B, N, 4), x_min, y_min, x_max, y_max in pixels of the image_size frame.
            points: coordinates (B, N, P, 2), x, y, and labels (B, N, P): 1 foreground,
                0 background, -1 padding.
            masks: (B, N, S, S), logits of an earlier mask at four times the grid's size.

        Returns:
            tokens (B, N, T, C) and a dense embedding (B, N, G, G, C); without masks
            (1, 1, 1, 1, C).
        """
        tokens = []
        if points is not None:
            tokens.append(self._encode_points(*points, pad=boxes is None))
        if boxes is not None:
            tokens.append(self._encode_boxes(boxes))
        if not tokens:
            raise ValueError("a prompt needs boxes or points")
        return jnp.concatenate(tokens, axis=2), self._encode_masks(masks)

    def dense_positions(self) -> Array:
        """Positional encoding of the grid's cells, (G, G, C)."""
        if self.execution.folded:
            return self.get_variable("buffers", "dense_positions")
        centres = (jnp.arange(self.grid_size, dtype=jnp.float32) + 0.5) / self.grid_size
        x, y = jnp.meshgrid(centres, centres)
        return self.pe_layer(jnp.stack([x, y], axis=-1))

    def _encode_boxes(self, boxes: Array) -> Array:
        corners = boxes.reshape(*boxes.shape[:2], 2, 2)
        codes = self._encode_coordinates(corners)  # (B, N, 2, C)
        kinds = [embed.embedding for embed in self.point_embeddings[2:]]
        return codes + jnp.concatenate(kinds)

    def _encode_points(self, coordinates: Array, labels: Array, pad: bool) -> Array:
        if pad:  # SAM was trained with a padding point where there is no box
            coordinates = jnp.pad(coordinates, ((0, 0), (0, 0), (0, 1), (0, 0)))
            labels = jnp.pad(labels, ((0, 0), (0, 0), (0, 1)), constant_values=-1)
        codes = self._encode_coordinates(coordinates)  # (B, N, P, C)
        label = labels[..., None]
        background, foreground = (embed.embedding[0] for embed in self.point_embeddings[:2])
        kind = jnp.where(label == 1, foreground, jnp.where(label == 0, background, 0.0))
        return jnp.where(label == -1, self.not_a_point_embed.embedding[0], codes + kind)

    def _encode_coordinates(self, coordinates: Array) -> Array:
        # Pixel centres: SAM shifts by half a pixel, whatever the frame.
        return self.pe_layer((coordinates.astype(jnp.float32) + 0.5) / self.image_size)

    def _encode_masks(self, masks: Array | None) -> Array:
        grid, dim = self.grid_size, self.config.dim
        if masks is None:
            return self.no_mask_embed.embedding.reshape(1, 1, 1, 1, dim)
        batch, count, height, width = masks.shape
        x = masks.astype(jnp.float32).reshape(batch * count, height, width, 1)
        for layer in self.mask_downscaling:
            x = layer(x)
        return x.reshape(batch, count, grid, grid, dim)


class FourierPositions(nn.Module):
    """(..., 2), x and y in [0, 1], -> (..., C): sines and cosines of random projections."""

    dim: int

    @nn.compact
    def __call__(self, positions: Array) -> Array:
        matrix = self.variable(  # a buffer: saved with the weights, never trained
            "buffers",
            "positional_encoding_gaussian_matrix",
            lambda: jax.random.normal(self.make_rng("params"), (2, self.dim // 2)),
        ).value
        # As an explicit sum in float32: a matrix unit of lower precision would blur positions.
        x, y = 2 * positions[..., :1] - 1, 2 * positions[..., 1:] - 1
        angles = 2 * np.float32(np.pi) * (x * matrix[0] + y * matrix[1])
        return jnp.concatenate([jnp.sin(angles), jnp.cos(angles)], axis=-1)
