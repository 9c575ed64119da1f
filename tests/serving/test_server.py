"""Serving until the user ends it."""

import signal
import subprocess
import sys
import urllib.request
from contextlib import suppress
from threading import Thread

import pytest

from tests.conftest import REPOSITORY

SLOW_ANSWER = """
import asyncio
from starlette.applications import Starlette
from starlette.routing import Route
from litemedsam_jax.serving.server import listen, run

async def slow(request):
    print("asked", flush=True)
    await asyncio.sleep(60)

listening = listen("127.0.0.1", 0)
print(listening.getsockname()[1], flush=True)
run(Starlette(routes=[Route("/", slow)]), listening, lambda: None)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX signals")
def test_a_request_under_way_at_the_end_leaves_no_traceback():
    server = subprocess.Popen(
        [sys.executable, "-c", SLOW_ANSWER],
        cwd=REPOSITORY, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        address = f"http://127.0.0.1:{int(server.stdout.readline())}/"
        Thread(target=_ask, args=(address,), daemon=True).start()
        assert server.stdout.readline() == "asked\n"
        server.send_signal(signal.SIGINT)
        errors = server.communicate(timeout=30)[1]
    finally:
        server.kill()
    assert "Traceback" not in errors


def _ask(address: str) -> None:
    with suppress(OSError):  # the server ends before it answers
        urllib.request.urlopen(address, timeout=30).read()
