"""Serving the remote protocol until the user ends it."""

import socket
from contextlib import suppress
from pathlib import Path
from types import FrameType
from typing import Any

import uvicorn

from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.serving.embedding_cache import EmbeddingCache
from litemedsam_jax.serving.model_worker import ModelWorker
from litemedsam_jax.serving.remote.app import Options, create_app
from litemedsam_jax.serving.remote.caching_engine import CachingEngine
from litemedsam_jax.serving.server import listen

__all__ = ["Options", "listen", "open_model", "serve"]


def open_model(weights: Path | None, cache_bytes: int) -> LiteMedSAM:
    """A model that encodes no slice twice while its embedding is kept.

    Raises:
        CheckpointError: The weights are missing or broken.
    """
    engine: Any = LiteMedSAM.from_pretrained(weights, "cpu").engine
    return LiteMedSAM(CachingEngine(engine, EmbeddingCache(cache_bytes)))  # type: ignore[arg-type]


def serve(model: LiteMedSAM, options: Options, listening: socket.socket) -> None:
    """Serves until the process is interrupted.

    Args:
        model: From `open_model`.
        options: How.
        listening: The socket to serve on.
    """
    worker = ModelWorker(lambda: model, lambda: None, "litemedsam serve")
    config = uvicorn.Config(
        create_app(worker, options),
        log_level="error",
        access_log=False,
        server_header=False,
        timeout_graceful_shutdown=2,
        timeout_keep_alive=75,  # clients beat every 30 s on a connection that they keep
        lifespan="on",
    )
    with suppress(KeyboardInterrupt):  # the way to end it
        _Server(config, worker).run(sockets=[listening])


class _Server(uvicorn.Server):
    """Ends what requests may wait for when it is asked to stop, else it would wait with them."""

    def __init__(self, config: uvicorn.Config, worker: ModelWorker):
        super().__init__(config)
        self._worker = worker

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._worker.stop()
        super().handle_exit(sig, frame)
