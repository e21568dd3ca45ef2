"""What keeps others out of a visitor's browser: headers, and tokens of forms."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Mapping
from hashlib import sha256
from urllib.parse import urlsplit

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

COOKIE = "bluestreak_console"
TOKEN = "token"  # noqa: S105 - a name
"""The field of a form."""

_POLICY = "; ".join(
    [
        "default-src 'none'",
        *(f"{kind} 'self'" for kind in ("script-src", "style-src", "img-src", "connect-src")),
        *("form-action 'self'", "frame-ancestors 'none'", "base-uri 'none'"),
    ]
)
_HEADERS: Mapping[str, str] = {
    "Content-Security-Policy": _POLICY,
    "X-Content-Type-Options": "nosniff",
    "X-Frame-Options": "DENY",
    "Referrer-Policy": "same-origin",  # with "no-referrer", forms come from the origin "null"
    "Cross-Origin-Opener-Policy": "same-origin",
    "Cross-Origin-Resource-Policy": "same-origin",
}


class SecureHeaders:
    """Adds to each answer what forbids scripts of others, frames and caches."""

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def add(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                for name, value in _HEADERS.items():
                    headers[name] = value
                headers.setdefault("Cache-Control", "no-store")
            await send(message)

        await self._app(scope, receive, add if scope["type"] == "http" else send)


class Tokens:
    """The tokens without which a form is refused.

    A token belongs to a visitor and to a cookie of the browser, so nobody else can know it.
    """

    def __init__(self, secret: str | None) -> None:
        self._secret = secrets.token_bytes() if secret is None else secret.encode()

    def issue(self, request: Request, visitor: str) -> tuple[str, str]:
        """The token for a page, and the cookie that it belongs to."""
        cookie = request.cookies.get(COOKIE) or secrets.token_urlsafe(24)
        return self._sign(cookie, visitor), cookie

    def set_cookie(self, response: Response, request: Request, cookie: str) -> None:
        """Give the browser the cookie of a page."""
        response.set_cookie(
            COOKIE,
            cookie,
            path=request.scope.get("root_path", "") or "/",
            secure=request.url.scheme == "https",
            httponly=True,
            samesite="strict",
        )

    def are_valid(self, request: Request, visitor: str, token: str) -> bool:
        """Whether a form comes from a page of this console."""
        cookie = request.cookies.get(COOKIE)
        if not cookie or is_cross_origin(request):
            return False
        return hmac.compare_digest(self._sign(cookie, visitor).encode(), token.encode())

    def _sign(self, cookie: str, visitor: str) -> str:
        text = f"{cookie}\0{visitor}".encode(errors="surrogatepass")
        return hmac.new(self._secret, text, sha256).hexdigest()


def is_cross_origin(request: Request) -> bool:
    """Whether the browser says that another site's page has sent this request."""
    site = request.headers.get("sec-fetch-site")
    if site is not None:  # a proxy may change the host, and browsers say no more about it
        return site not in ("same-origin", "none")
    origin = request.headers.get("origin")
    return origin is not None and urlsplit(origin).netloc != request.headers.get("host")
