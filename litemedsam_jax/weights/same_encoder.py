"""Whether two weights share their image encoder, so that embeddings of one serve the other."""

from pathlib import Path

import numpy as np

from litemedsam_jax.weights import default_weights
from litemedsam_jax.weights.errors import CheckpointError
from litemedsam_jax.weights.load import load_model
from litemedsam_jax.weights.tree import part_of


def check_same_encoder(path: Path, other: Path | None) -> None:
    """Refuses weights whose image encoder differs from that of others.

    Args:
        path: of a model.
        other: of another; None: the default ones.

    Raises:
        CheckpointError: they differ, or one cannot be used.
    """
    first, second = (load_model(one) for one in (path, other or default_weights.find()))
    encoders = [
        {name: value for name, value in one.variables.items() if part_of(name) == "image_encoder"}
        for one in (first, second)
    ]
    same = encoders[0].keys() == encoders[1].keys() and all(
        np.array_equal(value, encoders[1][name]) for name, value in encoders[0].items()
    )
    if not same:
        raise CheckpointError(
            f"{path}: its image encoder is another than that of {other or 'the default weights'}; "
            "start the server with it instead (--weights)"
        )
