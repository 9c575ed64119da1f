"""Servers and pages for these tests."""

from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.support.browser import Page, Server


@pytest.fixture
def serve(weights_file, tmp_path) -> Iterator[Callable[..., Server]]:
    """Starts servers; all end with the test. Masks go to tmp_path / "out"."""
    started: list[Server] = []

    def start(*inputs: Path, options: tuple[object, ...] = ()) -> Server:
        output = ("--output", tmp_path / "out", "--weights", weights_file)
        started.append(Server(*inputs, *output, *options))
        return started[-1]

    yield start
    complaints = [server.stop() for server in started]
    assert not any("Traceback" in text for text in complaints), complaints


@pytest.fixture
def open_page(browser, serve) -> Iterator[Callable[..., Page]]:
    """Opens a page of images in the browser; at the end the browser must not have complained."""
    pages: list[Page] = []

    def start(*inputs: Path, options: tuple[object, ...] = ()) -> Page:
        pages.append(Page(browser, serve(*inputs, options=options)))
        return pages[-1]

    yield start
    for page in pages[-1:]:
        assert page.errors() == []
