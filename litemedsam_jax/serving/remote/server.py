"""Serving the remote protocol until the user ends it."""

import socket
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.serving.embedding_cache import EmbeddingCache
from litemedsam_jax.serving.model_worker import ModelWorker
from litemedsam_jax.serving.remote.app import Options, create_app
from litemedsam_jax.serving.remote.caching_engine import CachingEngine
from litemedsam_jax.serving.remote.served_weights import DEFAULT, ServedWeights
from litemedsam_jax.serving.server import listen, run

# A slice's own box, alone; with the ellipsoid's section and the boxes around the masks before.
_PROMPTS_OF_A_SLICE = (1, 4)

__all__ = ["Options", "listen", "open_model", "serve"]


def open_model(weights: Path | None, embeddings: EmbeddingCache) -> LiteMedSAM:
    """A model that encodes no slice twice while its embedding is kept, loaded or compiled to run.

    Args:
        weights: A file; None: the default ones.
        embeddings: Of the image encoder that these weights have.

    Raises:
        CheckpointError: The weights are missing or broken.
    """
    engine: Any = LiteMedSAM.from_pretrained(weights, "cpu").engine
    embedding = engine.encode(np.zeros((256, 256, 3), np.float32))
    for count in _PROMPTS_OF_A_SLICE:  # the first box would wait for it
        engine.decode(embedding, np.array([[64, 64, 192, 192]] * count, np.float32))
    caching: Any = CachingEngine(engine, embeddings)
    return LiteMedSAM(caching)


def serve(weights: Mapping[str, ServedWeights], options: Options, listening: socket.socket) -> None:
    """Serves until the process is interrupted.

    Args:
        weights: By name, `DEFAULT` among them; models from `open_model`.
        options: How.
        listening: The socket to serve on.
    """
    model = weights[DEFAULT].model
    worker = ModelWorker(lambda: model, lambda: None, "litemedsam serve")
    # Clients beat every 30 s on a connection that they keep.
    run(create_app(worker, options, weights), listening, worker.stop, keep_alive=75)
