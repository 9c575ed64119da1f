"""In which precision the image encoder's products are computed, and the weights for it."""

from typing import NamedTuple

import numpy as np

from litemedsam_jax.engine import processor
from litemedsam_jax.weights.tree import bfloat16

FLOAT32, BFLOAT16, AUTO = "float32", "bfloat16", "auto"
PRECISIONS = (FLOAT32, BFLOAT16, AUTO)

_ENCODER = "params/image_encoder/"
# Three channels of intensities: no work, and all that the network sees.
_KEPT = (f"{_ENCODER}patch_embed/seq_0/",)
# Where all that is known of the image passes through one product, without a residual beside it:
# rounded, these few would make three quarters of the embedding's error.
_IN_PARTS = (
    f"{_ENCODER}patch_embed/seq_2/",
    f"{_ENCODER}layers_0/blocks_0/conv1/",
    *(f"{_ENCODER}layers_{index}/downsample/" for index in range(3)),
)


class Choice(NamedTuple):
    """A precision, and what its user should know.

    Attributes:
        precision: "float32" or "bfloat16".
        note: a sentence; empty where there is nothing to say.
    """

    precision: str
    note: str


def choose(precision: str, device: str | None, features: frozenset[str] | None = None) -> Choice:
    """What a precision that was asked for means on a device.

    Args:
        precision: one of `PRECISIONS`.
        device: "cpu", "gpu", "tpu"; None: an accelerator.
        features: the processor's; None: this host's.

    Raises:
        ValueError: it is none of `PRECISIONS`.
    """
    if precision not in PRECISIONS:
        raise ValueError(f"precision '{precision}': expected {', '.join(PRECISIONS)}")
    if precision == FLOAT32:
        return Choice(FLOAT32, "")
    if device != "cpu":
        if precision == AUTO:
            return Choice(FLOAT32, "precision: float32 (auto chooses bfloat16 on CPUs alone)")
        return Choice(BFLOAT16, "")
    hardware = processor.bfloat16_hardware(features)
    if precision == AUTO:
        if hardware:
            return Choice(BFLOAT16, f"precision: bfloat16 (this processor has {hardware})")
        return Choice(FLOAT32, "precision: float32 (this processor has no bfloat16)")
    if hardware:
        return Choice(BFLOAT16, "")
    return Choice(
        BFLOAT16, "precision: bfloat16, which this processor lacks: it is no faster than float32"
    )


def is_rounded(name: str, shape: tuple[int, ...]) -> bool:
    """Whether a folded variable is stored in bfloat16: a kernel of the encoder's products.

    Depthwise kernels (3, 3, 1, C) are sums of few products, and stay.
    """
    if not name.startswith(_ENCODER) or not name.endswith("/kernel") or name.startswith(_KEPT):
        return False
    return len(shape) == 2 or shape[2] > 1


def round_weights(folded: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
    """The variables with those of `is_rounded` in bfloat16, some of them in parts.

    A kernel in parts (..., C, O) becomes (..., 3·C, O): what models.bfloat16_ops.product wants.
    """
    return {
        name: _rounded(name, array) if is_rounded(name, array.shape) else array
        for name, array in folded.items()
    }


def _rounded(name: str, array: np.ndarray) -> np.ndarray:
    high = array.astype(bfloat16())
    if not name.startswith(_IN_PARTS):
        return high
    low = (array - high.astype(np.float32)).astype(bfloat16())
    return np.concatenate([high, high, low], axis=-2)
