"""The server of the remote protocol: its parts put together."""

import asyncio
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field

from starlette.applications import Starlette
from starlette.routing import Mount, Route
from starlette.types import ASGIApp

from litemedsam_jax.imaging.intensity import IntensityOptions
from litemedsam_jax.inference.strategies import REFERENCE, Strategy
from litemedsam_jax.serving.model_worker import ModelWorker
from litemedsam_jax.serving.remote.ahead import Ahead
from litemedsam_jax.serving.remote.context import Context, endpoint
from litemedsam_jax.serving.remote.guard import Guard
from litemedsam_jax.serving.remote.leases import Leases
from litemedsam_jax.serving.remote.memory import Memory
from litemedsam_jax.serving.remote.prediction import Predictor
from litemedsam_jax.serving.remote.routes import ROUTES
from litemedsam_jax.serving.remote.served_weights import ServedWeights
from litemedsam_jax.serving.remote.session import Session

PORT = 1527
_SLICE_BYTES = 4 << 20  # of an embedding


@dataclass(frozen=True)
class Options:
    """How the server serves.

    Attributes:
        key: That clients must send; None: whoever reaches it may use it.
        host: Where it listens.
        most_sessions: At a time.
        idle_seconds: After which a session without the user's doing is over.
        liveness_seconds: After which a session without a sign of life is over.
        memory_bytes: That clients' images and masks may take, bodies included.
        cache_bytes: Of embeddings.
        answer_seconds: After which an answer must be there.
        strategy: Of boxes in three dimensions.
        intensity: How values become grey levels.
        autozoom: Whether a box on one slice goes through the volume, where clients do not say.
        log: Called with lines for the person who started it.
    """

    key: str | None = None
    host: str = "127.0.0.1"
    most_sessions: int = 4
    idle_seconds: float = 3600.0
    liveness_seconds: float = 60.0
    memory_bytes: int = 4 << 30
    cache_bytes: int = 512 << 20
    answer_seconds: float = 45.0
    strategy: Strategy = REFERENCE
    intensity: IntensityOptions = field(default_factory=lambda: IntensityOptions("auto"))
    autozoom: bool = True
    log: Callable[[str], None] = print


def create_app(
    worker: ModelWorker, options: Options, weights: Mapping[str, ServedWeights]
) -> ASGIApp:
    """The application; starts the worker and ends all sessions with it.

    Args:
        worker: Whose model is that of the `DEFAULT` weights. Stop it before the server is stopped.
        options: How it serves.
        weights: By name, under which clients reach them: `/NAME/claim` begins a session with them.
    """
    memory = Memory(options.memory_bytes)

    def begin(number: int) -> Session:
        options.log(f"session {number}: begun")
        return Session(memory, options.autozoom)

    def end(number: int, session: Session, why: str) -> None:
        session.close()
        options.log(f"session {number}: over ({why})")

    leases = Leases(
        begin, end, options.most_sessions, options.idle_seconds, options.liveness_seconds
    )
    ahead = Ahead(
        worker, max(4, options.cache_bytes // _SLICE_BYTES // (2 * options.most_sessions))
    )
    context = Context(
        leases,
        memory,
        Predictor(worker, weights, options.strategy, options.answer_seconds, ahead),
        ahead,
        worker,
        options.intensity,
        options.autozoom,
        options.log,
        weights,
    )

    async def sweep() -> None:
        while True:
            await asyncio.sleep(min(5.0, options.liveness_seconds / 4))
            leases.sweep()

    @asynccontextmanager
    async def lifespan(_: Starlette):
        worker.start()
        sweeping = asyncio.create_task(sweep())
        yield
        sweeping.cancel()
        with suppress(asyncio.CancelledError):
            await sweeping
        leases.close()

    routes = [
        Route(path, endpoint(context, handler), methods=[method])
        for method, path, handler in ROUTES
    ]
    named = Mount("/{weights}", routes=routes)
    return Guard(Starlette(routes=[*routes, named], lifespan=lifespan), options.key, options.host)
