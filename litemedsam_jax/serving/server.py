"""Listening and serving, until the user ends it."""

import socket
from pathlib import Path

import uvicorn

from litemedsam_jax.inference.predictor import LiteMedSAM
from litemedsam_jax.serving.app import create_app, new_token
from litemedsam_jax.serving.workspace import Workspace

__all__ = ["listen", "new_token", "serve"]


def listen(host: str, port: int) -> socket.socket:
    """A listening socket, so that the port is known before anything else; 0: any free one.

    Raises:
        OSError: The port is taken, or not this machine's.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    listening = socket.socket(family, socket.SOCK_STREAM)
    try:
        listening.bind((host, port))
    except OSError as error:
        listening.close()
        error.filename = f"port {port}"
        raise
    listening.listen(64)
    return listening


def serve(workspace: Workspace, weights: Path, token: str, listening: socket.socket) -> None:
    """Serves until the process is interrupted.

    Args:
        weights: Of the model; where they cannot be loaded the page says so and works without.
        token: What every request must carry.
        listening: The socket to serve on.
    """
    host, port = listening.getsockname()[:2]
    app = create_app(
        workspace, lambda: LiteMedSAM.from_pretrained(weights, "cpu"), token, port, host
    )
    config = uvicorn.Config(
        app,
        log_level="error",
        access_log=False,  # addresses of requests say what somebody looks at
        server_header=False,
        timeout_graceful_shutdown=1,
        lifespan="on",
    )
    uvicorn.Server(config).run(sockets=[listening])
