"""The two programs of inference, encoder and decoder, compiled by XLA for fixed shapes."""

from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from litemedsam_jax.config import Execution, ModelConfig
from litemedsam_jax.weights.folding import fold
from litemedsam_jax.weights.store import unflatten

# Boxes are decoded in batches of these sizes, padded, so that no case makes a new program.
DECODE_SIZES = (1, 2, 4, 8, 16, 32)

# With XLA's YNNPACK fusions a LayerNorm is drawn into the neck's convolution and a softmax into
# its attention, and both crawl: 0.68 s an image with them, 0.60 s without.
CPU_OPTIONS: dict[str, str | bool] = {"xla_cpu_experimental_ynn_fusion_type": ""}


class Engine:
    """Runs encoder and decoder of one set of weights on one device."""

    def __init__(
        self, variables: dict[str, np.ndarray], config: ModelConfig, device: str | None = None
    ):
        """variables: flat, as stored (not folded). device: "cpu", "gpu", "tpu" or None."""
        from litemedsam_jax.models.lite_medsam import LiteMedSAM

        self.config = config
        self._network = LiteMedSAM(config, Execution(folded=True))
        self._device = jax.devices(device)[0]
        self._variables = jax.device_put(unflatten(fold(variables)), self._device)
        self._programs: dict[object, jax.stages.Compiled] = {}

    def encode(self, image: np.ndarray) -> jax.Array:
        """(S, S, 3) float32 -> embedding (1, G, G, C), on the device."""
        return self._call("encode", image[None])

    def decode(self, embedding: jax.Array, boxes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Decodes boxes (N, 4) of the input frame: logits (N, S, S) and predicted IoU (N,)."""
        logits, iou = [], []
        for start in range(0, len(boxes), DECODE_SIZES[-1]):
            chunk = boxes[start : start + DECODE_SIZES[-1]]
            padded = np.zeros((_padded_count(len(chunk)), 4), np.float32)
            padded[: len(chunk)] = chunk
            found = self._call("decode", embedding, padded[None])
            logits.append(np.asarray(found[0])[0, : len(chunk), 0])
            iou.append(np.asarray(found[1])[0, : len(chunk), 0])
        return np.concatenate(logits), np.concatenate(iou)

    def decode_prompts(
        self, embedding: jax.Array, multimask: bool, **prompts: np.ndarray | tuple | None
    ) -> tuple[np.ndarray, np.ndarray]:
        """Any of the network's prompts (see models.lite_medsam), each with a leading axis N.

        Returns:
            logits (N, M, S, S) and predicted IoU (N, M).
        """
        given = {name: value for name, value in prompts.items() if value is not None}
        batched = jax.tree.map(lambda array: jnp.asarray(array)[None], given)
        logits, iou = self._call("decode", embedding, multimask=multimask, **batched)
        return np.asarray(logits)[0], np.asarray(iou)[0]

    def _call(self, method: str, *arguments, multimask: bool | None = None, **prompts):
        static: dict[str, Any] = {"method": method}
        if multimask is not None:
            static["multimask"] = multimask
        shapes = jax.tree.map(jnp.shape, (arguments, prompts))
        key = (method, multimask, str(shapes))
        if key not in self._programs:
            function = jax.jit(partial(self._network.apply, **static))
            with jax.default_device(self._device):
                lowered = function.lower(self._variables, *arguments, **prompts)
            options = CPU_OPTIONS if self._device.platform == "cpu" else None
            self._programs[key] = lowered.compile(compiler_options=options)
        return self._programs[key](self._variables, *arguments, **prompts)


def _padded_count(count: int) -> int:
    return next(size for size in DECODE_SIZES if size >= count)
