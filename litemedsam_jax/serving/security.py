"""Who may speak to the server: this machine's browser, with the token, on its own page."""

import hmac
from collections.abc import Iterable
from http.cookies import CookieError, SimpleCookie
from urllib.parse import parse_qs

from starlette.datastructures import Headers, MutableHeaders
from starlette.responses import PlainTextResponse, RedirectResponse, Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

MAX_REQUEST_BYTES = 32 << 20
_HEADERS = {
    "Content-Security-Policy": "default-src 'self'; frame-ancestors 'none'; base-uri 'none'; "
    "form-action 'none'; object-src 'none'",
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "no-referrer",
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
    "Cache-Control": "no-store",
}


class Guard:
    """Checks every request before anything else sees it, and adds headers to every answer.

    `Host` must be one of the server's own names (DNS rebinding), `Origin`, where a browser sends
    one, the server's own page, and the token must come as a cookie, which `/?token=...` sets, or
    as `Authorization: Bearer`.
    """

    def __init__(self, app: ASGIApp, token: str, hosts: Iterable[str], cookie: str):
        self._app, self._token, self._cookie = app, token, cookie
        self._hosts = frozenset(hosts)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The ASGI application."""
        if scope["type"] != "http":
            if scope["type"] == "lifespan":
                await self._app(scope, receive, send)
            return

        async def send_guarded(message: Message) -> None:
            if message["type"] == "http.response.start":
                MutableHeaders(scope=message).update(_HEADERS)
            await send(message)

        refused = self._refusal(scope)
        if refused is not None:
            await refused(scope, receive, send_guarded)
            return
        await self._app(scope, _Limited(receive), send_guarded)

    def _refusal(self, scope: Scope) -> Response | None:
        headers = Headers(scope=scope)
        if headers.get("host", "") not in self._hosts:
            return PlainTextResponse("this server does not answer to that name\n", 400)
        origin = headers.get("origin")
        if origin is not None and origin not in {f"http://{host}" for host in self._hosts}:
            return PlainTextResponse("another page must not speak to this server\n", 403)
        elsewhere = headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        opens_page = scope["path"] == "/" and headers.get("sec-fetch-mode") == "navigate"
        if elsewhere and not opens_page:  # a link may open the page, which has no cookie then
            return PlainTextResponse("another page must not speak to this server\n", 403)
        length = headers.get("content-length", "0")
        if not length.isdecimal() or int(length) > MAX_REQUEST_BYTES:
            return PlainTextResponse(f"at most {MAX_REQUEST_BYTES >> 20} MiB a request\n", 413)
        given = parse_qs(scope.get("query_string", b"").decode("latin-1")).get("token")
        if scope["path"] == "/" and given is not None:
            return self._enter(given[0])
        if not self._knows(headers):
            return PlainTextResponse(
                "Open the address that `litemedsam annotate` printed: it carries the token without "
                "which this server shows nothing.\n",
                403,
            )
        return None

    def _enter(self, token: str) -> Response:
        if not self._equal(token):
            return PlainTextResponse("the token in this address is not that of this server\n", 403)
        # The token leaves the address bar, so that it is in no history and no screenshot.
        response = RedirectResponse("/", 303)
        response.set_cookie(self._cookie, token, httponly=True, samesite="strict", path="/")
        return response

    def _knows(self, headers: Headers) -> bool:
        scheme, _, bearer = headers.get("authorization", "").partition(" ")
        if scheme.lower() == "bearer":
            return self._equal(bearer.strip())
        cookies: SimpleCookie = SimpleCookie()
        try:
            cookies.load(headers.get("cookie", ""))
        except CookieError:
            return False
        return self._cookie in cookies and self._equal(cookies[self._cookie].value)

    def _equal(self, token: str) -> bool:
        return hmac.compare_digest(token.encode(), self._token.encode())


class _Limited:
    """Ends a request whose body grows beyond the limit, whatever length it declared."""

    def __init__(self, receive: Receive):
        self._receive, self._size = receive, 0

    async def __call__(self) -> Message:
        message = await self._receive()
        if message["type"] == "http.request":
            self._size += len(message.get("body", b""))
            if self._size > MAX_REQUEST_BYTES:
                return {"type": "http.disconnect"}
        return message
