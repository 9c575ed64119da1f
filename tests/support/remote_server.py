"""The remote protocol's server in a thread of this process, and its real client."""

import threading
from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import uvicorn

from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.serving.embedding_cache import EmbeddingCache
from litemedsam_jax.serving.model_worker import ModelWorker
from litemedsam_jax.serving.remote.app import Options, create_app
from litemedsam_jax.serving.remote.caching_engine import CachingEngine
from litemedsam_jax.serving.remote.served_weights import DEFAULT, ServedWeights
from litemedsam_jax.serving.server import listen


class RemoteServer:
    """A server on a free port.

    Attributes:
        address: Its URL.
        log: Lines that it said.
        engine: That its model has.
    """

    def __init__(
        self, engine: Any, weights: Mapping[str, ServedWeights] | None = None, **options: Any
    ):
        """Others than the default weights may be given; all else is as of `Options`."""
        self.log: list[str] = []
        chosen = replace(Options(log=self.log.append), **options)
        self.engine = CachingEngine(engine, EmbeddingCache(chosen.cache_bytes))
        self.worker = ModelWorker(lambda: LiteMedSAM(self.engine), lambda: None)
        listening = listen("127.0.0.1", 0)
        self.port = listening.getsockname()[1]
        self.address = f"http://127.0.0.1:{self.port}"
        served = {DEFAULT: ServedWeights(LiteMedSAM(self.engine)), **(weights or {})}
        config = uvicorn.Config(create_app(self.worker, chosen, served), log_level="error")
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listening],))
        self._thread.start()

    def stop(self) -> None:
        """Ends it."""
        self.worker.stop()
        self._server.should_exit = True
        self._thread.join(20)
        assert not self._thread.is_alive()
