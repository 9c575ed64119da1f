"""What the protocol's requests hold: JSON bodies, the `X-Meta` header, bodies in pieces."""

import asyncio
import json
from collections.abc import Callable
from typing import Any

from starlette.requests import ClientDisconnect, Request

from litemedsam_jax.serving.remote.wire import TooLarge

META_HEADER, LEASE_HEADER = "X-Meta", "X-Lease-Token"
MOST_JSON_BYTES = 64 << 10


class TooSlow(Exception):
    """A body that does not come."""


async def read_body(
    request: Request, most: int, silence: float, heard: Callable[[int], None]
) -> bytearray:
    """Reads a body.

    Args:
        request: Whose it is.
        most: Bytes.
        silence: Seconds after which a client that sends nothing is given up.
        heard: Called with each piece's bytes before it is kept; may raise.

    Raises:
        TooLarge: It has more bytes, or says so. TooSlow: It does not come.
        ClientDisconnect: The client is gone.
    """
    said = request.headers.get("content-length", "0")
    if not said.isdecimal() or int(said) > most:
        raise TooLarge(f"the body is larger than this server takes, {most >> 10} KiB")
    body = bytearray()
    while True:
        try:
            message = await asyncio.wait_for(request.receive(), silence)
        except TimeoutError:
            raise TooSlow from None
        if message["type"] == "http.disconnect":
            raise ClientDisconnect
        piece = message.get("body", b"")
        if len(body) + len(piece) > most:
            raise TooLarge(f"the body is larger than this server takes, {most >> 10} KiB")
        heard(len(piece))
        body += piece
        if not message.get("more_body", False):
            return body


def parse_object(text: str | bytes | bytearray, what: str) -> dict[str, Any]:
    """A JSON object; raises ValueError. `what`: its name, for the message."""
    try:
        data = json.loads(text or b"{}")
    except (ValueError, RecursionError):
        raise ValueError(f"{what} is no JSON") from None
    if not isinstance(data, dict):
        raise ValueError(f"{what} must be a JSON object")
    return data


def flag(data: dict[str, Any], name: str, default: bool | None = None) -> bool:
    """A boolean of a request; raises ValueError. Without a default it must be there."""
    value = data.get(name, default)
    if not isinstance(value, bool):
        raise ValueError(f"the field '{name}' must be true or false")
    return value
