"""Servers of the remote protocol, and the client that 3D Slicer, napari and MITK use."""

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from tests.support.fake_engine import FakeEngine
from tests.support.remote_server import RemoteServer

SHAPE = (12, 40, 50)


@pytest.fixture
def serve() -> Iterator[Callable[..., RemoteServer]]:
    """Starts servers, on a fake engine but where a real one is given; all end with the test."""
    started: list[RemoteServer] = []

    def start(engine: Any = None, **options: Any) -> RemoteServer:
        started.append(RemoteServer(engine or FakeEngine(), **options))
        return started[-1]

    yield start
    for server in started:
        server.stop()


@pytest.fixture
def connect() -> Iterator[Callable[..., Any]]:
    """Opens sessions with the real client; all are closed with the test."""
    remote = pytest.importorskip(
        "nnInteractive.inference.remote",
        reason="nninteractive-client is missing: the protocol is NOT tested with its real client",
    )
    opened: list[Any] = []

    def start(server: RemoteServer, path: str = "", **options: Any) -> Any:
        address = server.address + path
        session = remote.nnInteractiveRemoteInferenceSession(address, **options)
        opened.append(session)
        return session

    yield start
    for session in opened:
        session.close()


@pytest.fixture
def volume() -> np.ndarray:
    """Bytes from 0 to 255, each slice another."""
    values = np.random.default_rng(0).integers(0, 256, SHAPE, np.uint8)
    values[0, 0, :2] = 0, 255
    return values


@pytest.fixture
def begin(connect) -> Callable[..., tuple[Any, np.ndarray]]:
    """A session with an image and an empty buffer; returns both."""

    def start(server: RemoteServer, image: np.ndarray, **options: Any) -> tuple[Any, np.ndarray]:
        session = connect(server, **options)
        session.set_image(image[None], {"spacing": [1, 1, 1]})
        buffer = np.zeros(image.shape, np.uint8)
        session.set_target_buffer(buffer)
        return session, buffer

    return start
