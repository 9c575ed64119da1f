"""What every handler needs, and how faults become answers."""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, Response

from litemedsam_jax.annotation.document import Region
from litemedsam_jax.files import one_line
from litemedsam_jax.imaging.postprocess import Step
from litemedsam_jax.inference.strategies import Strategy
from litemedsam_jax.serving.case_session import CaseSession
from litemedsam_jax.serving.embedding_cache import EmbeddingCache
from litemedsam_jax.serving.events import Events
from litemedsam_jax.serving.learning import Learning
from litemedsam_jax.serving.model_worker import ModelUnavailable, ModelWorker, Superseded
from litemedsam_jax.serving.workspace import Workspace


@dataclass(frozen=True)
class Context:
    """The parts of a running server."""

    workspace: Workspace
    worker: ModelWorker
    cache: EmbeddingCache
    events: Events
    strategy: Strategy  # of masks that are kept
    learning: Learning | None = None  # None: the server does not learn

    @property
    def mask_steps(self) -> tuple[Step, ...]:
        """That clean the masks of boxes, by the weights in use."""
        return () if self.learning is None else self.learning.steps

    async def session(self, request: Request) -> CaseSession:
        """The case that a request is about; opening it may take seconds, elsewhere."""
        return await run_in_threadpool(self.workspace.session, request.path_params["case"])

    async def writable(self, request: Request) -> CaseSession:
        """The same, where it may be changed."""
        if self.workspace.read_only:
            raise HTTPException(403, "the server was started with --read-only")
        return await self.session(request)

    def changed(self, session: CaseSession, regions: dict[int, Region]) -> dict[str, Any]:
        """Tells every page of a change; returns the answer to the one that made it."""
        state = session.state()
        slices = sorted(regions)
        self.events.publish(session.number, {"revision": state["revision"], "slices": slices})
        return {**state, "slices": slices}

    async def edit(self, session: CaseSession, step: Callable[[], dict[int, Region]]) -> Response:
        """Runs a step of the history off the event loop, alone on its case; answers the change."""

        def work() -> Response:
            with session.lock:
                return JSONResponse(self.changed(session, step()))

        return await run_in_threadpool(work)


Handler = Callable[[Context, Request], Awaitable[Response]]


def endpoint(context: Context, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    """A handler whose faults come back as {"error": a sentence}."""

    async def answer(request: Request) -> Response:
        try:
            return await handler(context, request)
        except Superseded:
            return JSONResponse({"superseded": True})
        except HTTPException as error:
            return _refusal(error.status_code, error.detail)
        except ModelUnavailable as error:
            return _refusal(503, str(error))
        except KeyError as error:
            return _refusal(404, str(error.args[0]) if error.args else "not found")
        except ValueError as error:
            return _refusal(422, str(error))
        except ModuleNotFoundError as error:
            message = f"this file needs the package {error.name}"
            return _refusal(422, f"{message}: pip install 'litemedsam-jax[serve]'")
        except OSError as error:
            return _refusal(507, f"{error.filename or 'disk'}: {error.strerror or error}")
        except (ClientDisconnect, asyncio.CancelledError):
            raise

    return answer


def _refusal(status: int, message: str) -> JSONResponse:
    return JSONResponse({"error": one_line(message, 600)}, status)
