"""The decoder with parameters that change: what training validates with a strategy of inference."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from litemedsam_jax.config import ModelConfig
from litemedsam_jax.models.lite_medsam import LiteMedSAMNetwork

_AT_ONCE = 4  # boxes: one shape, so one compilation


class Decoder:
    """Masks of boxes on an embedding, for any parameters; compiled once."""

    def __init__(self, config: ModelConfig):
        """Compiles nothing yet.

        Args:
            config: of the whole model.
        """
        network = LiteMedSAMNetwork(config)

        def decode(variables: Any, embedding: jax.Array, boxes: jax.Array) -> Any:
            embedding = embedding[None].astype(jnp.float32)
            decoded: Any = network.apply(variables, embedding, boxes[None], method="decode")
            return decoded[0][0, :, 0], decoded[1][0, :, 0]

        self._decode = jax.jit(decode)

    def __call__(
        self, variables: Any, embedding: np.ndarray, boxes: np.ndarray
    ) -> tuple[np.ndarray, np.ndarray]:
        """Decodes boxes.

        Args:
            variables: nested; prompt encoder, mask decoder and buffers are read.
            embedding: (G, G, C).
            boxes: (N, 4) of the input frame, x_min, y_min, x_max, y_max.

        Returns:
            logits (N, S, S) and predicted IoU (N,), float32.
        """
        logits, iou = [], []
        for start in range(0, len(boxes), _AT_ONCE):
            chunk = boxes[start : start + _AT_ONCE]
            padded = np.zeros((_AT_ONCE, 4), np.float32)
            padded[: len(chunk)] = chunk
            outputs = self._decode(variables, embedding, padded)
            logits.append(np.asarray(outputs[0])[: len(chunk)])
            iou.append(np.asarray(outputs[1])[: len(chunk)])
        return np.concatenate(logits), np.concatenate(iou)


def decoder_variables(variables: dict[str, Any]) -> dict[str, Any]:
    """The collections of a whole model without its image encoder."""
    parts = {
        name: {part: tree for part, tree in collection.items() if part != "image_encoder"}
        for name, collection in variables.items()
    }
    return {name: tree for name, tree in parts.items() if tree}
