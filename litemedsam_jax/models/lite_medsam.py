"""The whole network: image encoder, prompt encoder, mask decoder."""

from typing import Any

import flax.linen as nn
import jax
import jax.numpy as jnp

from litemedsam_jax.config import Execution, ModelConfig, TinyViTConfig
from litemedsam_jax.models.image_encoder import ImageEncoderViT
from litemedsam_jax.models.layers import Array
from litemedsam_jax.models.mask_decoder import MaskDecoder
from litemedsam_jax.models.prompt_encoder import PromptEncoder
from litemedsam_jax.models.tiny_vit import TinyViT


class LiteMedSAMNetwork(nn.Module):
    """Segments images inside boxes. The config chooses the encoder: TinyViT, or MedSAM's ViT-B."""

    config: ModelConfig
    execution: Execution = Execution()

    def setup(self):
        config, execution = self.config, self.execution
        self.image_encoder = make_image_encoder(config, execution)
        encoder = config.image_encoder
        self.prompt_encoder = PromptEncoder(
            config.prompt_encoder, encoder.image_size, encoder.grid_size, execution
        )
        self.mask_decoder = MaskDecoder(config.mask_decoder, execution)

    def __call__(self, image: Array, boxes: Array, train: bool = False) -> tuple[Array, Array]:
        """Images (B, S, S, 3) in [0, 1], boxes (B, N, 4) -> what `decode` returns."""
        return self.decode(self.encode(image, train), boxes)

    def encode(self, image: Array, train: bool = False) -> Array:
        """Images (B, S, S, 3) in [0, 1], no mean or std taken off -> embedding (B, G, G, C)."""
        return self.image_encoder(image, train)

    def decode(
        self,
        embedding: Array,
        boxes: Array | None = None,
        *,
        valid: Array | None = None,
        points: tuple[Array, Array] | None = None,
        masks: Array | None = None,
        multimask: bool = False,
    ) -> tuple[Array, Array]:
        """Decodes N prompts of each of B images in one pass.

        Args:
            embedding: (B, G, G, C), from `encode`.
            boxes: (B, N, 4), x_min, y_min, x_max, y_max in pixels of the SxS input frame.
            valid: (B, N), False where a row pads an image with fewer than N boxes. Such a row may
                hold anything; its logits and IoU are 0 and no gradient passes through it.
            points: further prompts, see `PromptEncoder`.
            masks: and more of them.
            multimask: three masks for an ambiguous prompt instead of one.

        Returns:
            logits (B, N, M, S, S) (S/4 for encoders of stride 16) and predicted IoU (B, N, M).
        """
        if valid is not None and boxes is not None:
            boxes = jnp.where(valid[..., None], boxes, 0)
        tokens, dense = self.prompt_encoder(boxes, points, masks)
        positions = self.prompt_encoder.dense_positions()
        logits, iou = self.mask_decoder(embedding, positions, tokens, dense, multimask)
        if valid is not None:
            logits = jnp.where(valid[..., None, None, None], logits, 0)
            iou = jnp.where(valid[..., None], iou, 0)
        return logits, iou

    def touch_everything(self, image: Array) -> None:
        """Runs every layer once, so that `init` makes every variable of the checkpoint."""
        embedding = self.encode(image)
        boxes = jnp.zeros((1, 1, 4))
        points = (jnp.zeros((1, 1, 1, 2)), jnp.zeros((1, 1, 1), jnp.int32))
        size = 4 * self.config.image_encoder.grid_size
        masks = jnp.zeros((1, 1, size, size))
        self.decode(embedding, boxes, points=points, masks=masks, multimask=True)
        self.decode(embedding, boxes)


def make_image_encoder(config: ModelConfig, execution: Execution) -> TinyViT | ImageEncoderViT:
    """The image encoder that the config asks for."""
    if isinstance(config.image_encoder, TinyViTConfig):
        return TinyViT(config.image_encoder, execution)
    return ImageEncoderViT(config.image_encoder, execution)


def init_variables(
    config: ModelConfig, rng: Array, execution: Execution | None = None
) -> dict[str, Any]:
    """Fresh variables, started as PyTorch starts them.

    Returns:
        Collections `params`, `batch_stats` (of TinyViT's BatchNorms) and `buffers` (the Fourier
        matrix, which no step trains). `jax.eval_shape` of this gives the tree without computing.
    """
    size = config.image_encoder.image_size
    model = LiteMedSAMNetwork(config, execution or Execution())
    image = jnp.zeros((1, size, size, 3))
    return jax.jit(model.init, static_argnames="method")(rng, image, method="touch_everything")
