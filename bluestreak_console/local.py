"""The console of one person at one machine, for `bluestreak console`."""

from __future__ import annotations

import hmac
import secrets
from collections.abc import Sequence

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.middleware.trustedhost import TrustedHostMiddleware
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Mount

from bluestreak_console.access import Decision, Visitor
from bluestreak_console.application import app
from bluestreak_core import Client

_KEY = "key"
_COOKIE = "bluestreak_key"
_LOOPBACK = ("localhost", "127.0.0.1", "[::1]")


def local_app(
    client: Client, key: str, *, user: str, may_act: bool = True, hosts: Sequence[str] = ()
) -> Starlette:
    """A console behind a key, which the address of the first visit carries: `/?key=`.

    Other users of the machine can reach its port, but not the key. `hosts` are the names under
    which it may be called besides those of loopback; others are refused, since a page of a stranger
    may have its name resolved to this machine.
    """
    visitor = Visitor(name=user, may_see_values=True, may_act=may_act)

    def authorise(request: Request) -> Decision:
        given = request.query_params.get(_KEY)
        if given is not None and _is_same(given, key):
            response: Response = RedirectResponse(request.url.path, 303)
            response.set_cookie(_COOKIE, key, httponly=True, samesite="strict")
            return response
        return visitor if _is_same(request.cookies.get(_COOKIE, ""), key) else None

    return Starlette(
        routes=[Mount("/", app(client, authorise=authorise))],
        middleware=[Middleware(TrustedHostMiddleware, allowed_hosts=[*_LOOPBACK, *hosts])],
    )


def new_key() -> str:
    """A key that nobody can guess."""
    return secrets.token_urlsafe(24)


def _is_same(given: str, key: str) -> bool:
    return hmac.compare_digest(given.encode(), key.encode())
