"""Listening and serving, until the user ends it."""

import asyncio
import os
import socket
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from threading import Thread
from types import FrameType

import uvicorn
from starlette.types import ASGIApp, Receive, Scope, Send

from litemedsam_jax.imaging.opened_image import import_readers
from litemedsam_jax.imaging.postprocess import Step
from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.inference.strategies import Strategy
from litemedsam_jax.serving.app import create_app, new_token
from litemedsam_jax.serving.events import Events
from litemedsam_jax.serving.learning import Learning
from litemedsam_jax.serving.model_worker import ModelWorker
from litemedsam_jax.serving.workspace import Workspace

__all__ = ["listen", "new_token", "serve"]


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, so that the port is known before anything else; 0: any free one.

    Raises:
        OSError: The port is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    if os.name == "posix":  # a server that was killed may be started again at once
        listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        error.filename = f"port {port}"
        raise
    listening.listen(64)
    return listening


def serve(
    workspace: Workspace,
    weights: Path | None,
    strategy: Strategy,
    token: str,
    listening: socket.socket,
    postprocess: Sequence[Step] | None = None,
) -> None:
    """Serves until the process is interrupted.

    Args:
        workspace: The cases.
        weights: Of the model; None: the default ones. Where they cannot be loaded the page says so
            and works without.
        strategy: Of masks that are kept.
        token: What every request must carry.
        listening: The socket to serve on.
        postprocess: Steps for masks of boxes; None: those that the weights in use name.
    """
    host, port = listening.getsockname()[:2]
    events = Events()

    def load(path: Path | None) -> LiteMedSAM:
        return LiteMedSAM.from_pretrained(path, "cpu")

    worker = ModelWorker(
        lambda: load(weights),
        lambda: events.publish(None, {"model": True}),
    )
    images = [entry.path for entry in workspace.entries]
    Thread(target=import_readers, args=(images,), daemon=True).start()  # before one is opened
    learning = Learning(workspace, worker, weights, strategy.name, load, postprocess=postprocess)
    app = create_app(workspace, worker, events, token, port, host, strategy, learning)

    def before_exit() -> None:
        events.close()
        worker.stop()

    run(app, listening, before_exit)


def run(
    app: ASGIApp, listening: socket.socket, before_exit: Callable[[], None], keep_alive: int = 5
) -> None:
    """Serves an application until the process is interrupted.

    Args:
        app: What answers.
        listening: The socket to serve on.
        before_exit: Ends what requests may wait for, else the server would wait with them.
        keep_alive: Seconds that a client's connection is kept without a request.
    """

    async def cut_short(scope: Scope, receive: Receive, send: Send) -> None:
        # What is not done when the server ends is cancelled, which uvicorn would call a failure.
        with suppress(asyncio.CancelledError):
            await app(scope, receive, send)

    config = uvicorn.Config(
        cut_short,
        log_level="error",
        access_log=False,  # addresses of requests say what somebody looks at
        server_header=False,
        timeout_graceful_shutdown=2,
        timeout_keep_alive=keep_alive,
        lifespan="on",
    )
    with suppress(KeyboardInterrupt):  # the way to end it
        _Server(config, before_exit).run(sockets=[listening])


class _Server(uvicorn.Server):
    def __init__(self, config: uvicorn.Config, before_exit: Callable[[], None]):
        super().__init__(config)
        self._before_exit = before_exit

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        self._before_exit()
        super().handle_exit(sig, frame)
