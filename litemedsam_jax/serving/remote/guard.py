"""Who may speak to the server: programs that know the key; never a web page."""

import hmac
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Receive, Scope, Send

from litemedsam_jax.serving.remote.answers import refusal

_LOOPBACK = {"127.0.0.1", "localhost", "::1"}


class Guard:
    """Checks every request before anything else sees it.

    Browsers send `Origin` with what a page posts: refused. Without a key the server listens to this
    machine alone, and `Host` must be a name of it, else a page elsewhere could have its own name
    mean this machine (DNS rebinding). The port is not looked at: it differs behind an SSH tunnel.
    """

    def __init__(self, app: ASGIApp, key: str | None, host: str = "127.0.0.1"):
        self._app, self._key, self._names = app, key, _LOOPBACK | {host}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] == "http":
            refused = self._refusal(Headers(scope=scope), scope["path"])
            if refused is not None:
                await refused(scope, receive, send)
                return
        elif scope["type"] != "lifespan":
            return
        await self._app(scope, receive, send)

    def _refusal(self, headers: Headers, path: str):
        if "origin" in headers or headers.get("sec-fetch-site", "none") != "none":
            return refusal(403, "a web page must not speak to this server")
        if self._key is None:
            if _name(headers.get("host", "")) not in self._names:
                return refusal(400, "this server does not answer to that name")
            return None
        if path == "/healthz":
            return None
        scheme, _, given = headers.get("authorization", "").partition(" ")
        if scheme.lower() != "bearer":
            return refusal(401, "this server wants an API key; enter the one it was started with")
        if not hmac.compare_digest(given.strip().encode(), self._key.encode()):
            return refusal(401, "this is not the API key that the server was started with")
        return None


def _name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""
