"""Variables of a model: as the nested trees of Flax, or flat with paths as names."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from litemedsam_jax.config import ModelConfig

PARTS = ("image_encoder", "prompt_encoder", "mask_decoder")


@dataclass(frozen=True)
class Weights:
    """The variables of a whole model, or of some of its `PARTS`.

    Attributes:
        variables: Flat: path, such as `params/image_encoder/neck_0/kernel` -> array.
        config: The architecture whose variables they are.
        counters: torch's `num_batches_tracked` of each BatchNorm, by torch key; empty where they
            are not known. No network reads them; they are kept for the way back to PyTorch.
    """

    variables: dict[str, np.ndarray]
    config: ModelConfig
    counters: dict[str, int] = field(default_factory=dict)

    @property
    def parts(self) -> tuple[str, ...]:
        """Those of `PARTS` that there are variables of."""
        present = {part_of(path) for path in self.variables}
        return tuple(part for part in PARTS if part in present)


def part_of(path: str) -> str:
    """The part of the model that a variable belongs to, the second name of its path; or ""."""
    _, _, below = path.partition("/")
    return below.partition("/")[0]


def bfloat16() -> np.dtype:
    """The type of numpy arrays of bfloat16; it comes with jax, and is imported when needed."""
    import ml_dtypes

    return np.dtype(ml_dtypes.bfloat16)


def flatten(tree: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Turns nested mappings into one flat dictionary.

    Args:
        tree: Nested mappings of names; a flat dictionary comes out as it went in.
        prefix: What every name begins with.

    Returns:
        Path -> leaf, the names of a path joined by `/`.
    """
    flat: dict[str, Any] = {}
    for name, value in tree.items():
        if isinstance(value, Mapping):
            flat.update(flatten(value, f"{prefix}{name}/"))
        else:
            flat[f"{prefix}{name}"] = value
    return flat


def unflatten(flat: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the nested dictionaries that Flax's `apply` takes; the inverse of `flatten`."""
    tree: dict[str, Any] = {}
    for path, value in flat.items():
        *parents, leaf = path.split("/")
        node = tree
        for name in parents:
            node = node.setdefault(name, {})
        node[leaf] = value
    return tree
