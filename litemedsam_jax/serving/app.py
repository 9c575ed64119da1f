"""The server: the page, the interface under /api/v1, the model's thread."""

import secrets
from contextlib import asynccontextmanager
from importlib.resources import files
from pathlib import Path

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import FileResponse, Response
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles
from starlette.types import ASGIApp

from litemedsam_jax.inference.strategies import REFERENCE, Strategy
from litemedsam_jax.serving import (
    api_cases,
    api_edits,
    api_labels,
    api_learning,
    api_prompts,
    api_propagation,
)
from litemedsam_jax.serving.context import Context, endpoint
from litemedsam_jax.serving.embedding_cache import EmbeddingCache
from litemedsam_jax.serving.events import Events
from litemedsam_jax.serving.learning import Learning
from litemedsam_jax.serving.model_worker import ModelWorker
from litemedsam_jax.serving.security import Guard
from litemedsam_jax.serving.workspace import Workspace

CACHE_BYTES = 256 << 20  # of embeddings, 4 MiB a slice
PAGE = Path(str(files("litemedsam_jax.serving") / "page"))
_CASE = "/cases/{case:int}"
_ROUTES = (
    ("GET", "/workspace", api_cases.workspace),
    ("GET", _CASE, api_cases.case),
    ("GET", _CASE + "/state", api_cases.state),
    ("GET", _CASE + "/slices/{axis:int}/{index:int}", api_cases.slice_values),
    ("GET", _CASE + "/labels/{axis:int}/{index:int}", api_cases.slice_labels),
    ("GET", _CASE + "/measurements", api_cases.measurements),
    ("GET", _CASE + "/diameters", api_cases.diameters),
    ("GET", _CASE + "/events", api_cases.events),
    ("POST", _CASE + "/encode", api_prompts.encode),
    ("POST", _CASE + "/predict", api_prompts.predict),
    ("POST", _CASE + "/boxes", api_prompts.put_box),
    ("POST", _CASE + "/propagate", api_propagation.propagate),
    ("POST", _CASE + "/propagate/stop", api_propagation.stop),
    ("POST", _CASE + "/paint", api_edits.paint),
    ("POST", _CASE + "/tidy", api_edits.tidy),
    ("POST", _CASE + "/masks", api_edits.load_mask),
    ("POST", _CASE + "/labels", api_labels.put_label),
    ("DELETE", _CASE + "/labels/{label:int}", api_labels.drop_label),
    ("POST", _CASE + "/ranges", api_labels.put_range),
    ("POST", _CASE + "/undo", api_edits.undo),
    ("POST", _CASE + "/redo", api_edits.redo),
    ("DELETE", _CASE + "/layers/{layer:int}", api_edits.drop_layer),
    ("POST", _CASE + "/save", api_edits.save),
    ("GET", "/learn", api_learning.state),
    ("POST", "/learn/start", api_learning.start),
    ("POST", "/learn/cancel", api_learning.cancel),
    ("POST", "/learn/model", api_learning.choose),
)


def new_token() -> str:
    """A token that nobody guesses."""
    return secrets.token_urlsafe(24)


def create_app(
    workspace: Workspace,
    worker: ModelWorker,
    events: Events,
    token: str,
    port: int,
    host: str = "127.0.0.1",
    strategy: Strategy = REFERENCE,
    learning: Learning | None = None,
) -> ASGIApp:
    """The application.

    Args:
        workspace: The cases.
        worker: Runs the model; is started with the application. Stop it before the server is
            stopped: requests that wait for it have no end of their own.
        events: What pages are told of; close it before, for the same reason.
        token: What every request must carry.
        port: Where it listens; the names that requests may call it by follow from it and `host`.
        host: The same.
        strategy: Of masks that are kept.
        learning: From cases that were annotated; None: the page does not offer it.
    """
    context = Context(workspace, worker, EmbeddingCache(CACHE_BYTES), events, strategy, learning)

    @asynccontextmanager
    async def lifespan(_: Starlette):
        worker.start()
        yield
        if learning is not None:
            learning.close()
        workspace.close()

    routes = [
        Route(path, endpoint(context, handler), methods=[method])
        for method, path, handler in _ROUTES
    ]
    app = Starlette(
        routes=[
            Route("/", _page),
            Mount("/api/v1", routes=routes),
            Mount("/page", StaticFiles(directory=PAGE)),
        ],
        lifespan=lifespan,
    )
    names = {"127.0.0.1", "localhost", host}
    return Guard(app, token, {f"{name}:{port}" for name in names}, f"litemedsam_{port}")


async def _page(_: Request) -> Response:
    return FileResponse(PAGE / "index.html")
