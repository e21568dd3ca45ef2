"""What all pages of one console share."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import urlencode

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import HTMLResponse, PlainTextResponse, Response

from bluestreak_console import text
from bluestreak_console.access import Authorise, Visitor, decide
from bluestreak_console.counts import Counts
from bluestreak_console.security import Tokens
from bluestreak_core import BluestreakError, Client, __version__
from bluestreak_core.errors import (
    StateError,
    StoreRefused,
    StoreUnavailable,
    Unsupported,
    UsageError,
    WorkflowNotFound,
)

_STATUS: tuple[tuple[type[BluestreakError], int, str], ...] = (
    (WorkflowNotFound, 404, "No such workflow"),
    (Unsupported, 501, "The store cannot do this"),
    (StateError, 409, "Not in this state"),
    (UsageError, 400, "This cannot be done"),
    (StoreUnavailable, 503, "The store is unavailable"),
    (StoreRefused, 502, "The store has refused it"),
)

View = Callable[["Site", Request, Visitor], Awaitable[Response]]


@dataclass(frozen=True, slots=True)
class Link:
    """Makes the addresses of pages, wherever the console is mounted."""

    root: str

    @classmethod
    def of(cls, request: Request) -> Self:
        """Links to the pages of the console that a request came to."""
        return cls(request.scope.get("root_path", ""))

    def __call__(self, page: str = "", /, **query: Any) -> str:
        """A path. Parameters that are None or empty are left out; a list repeats its parameter."""
        given = {name: found for name, found in query.items() if found not in (None, "", [], ())}
        encoded = urlencode(given, doseq=True, errors="surrogatepass")
        return f"{self.root}/{page}" + (f"?{encoded}" if encoded else "")


class Site:
    """A console: its client, its visitors, and its templates."""

    def __init__(self, client: Client, authorise: Authorise, *, title: str, secret: str | None):
        self.client = client
        self.authorise = authorise
        self.tokens = Tokens(secret)
        self.counts = Counts(client)
        self._environment = Environment(
            loader=PackageLoader("bluestreak_console"),
            autoescape=True,
            undefined=StrictUndefined,
            trim_blocks=True,
            lstrip_blocks=True,
        )
        self._environment.filters |= {
            "line": text.line,
            "instant": text.instant,
            "span": text.span,
            "number": lambda number: f"{number:,}",
        }
        self._environment.globals |= {"title": title, "version": __version__}

    def view(self, view: View) -> Callable[[Request], Awaitable[Response]]:
        """The endpoint of a page, for visitors only."""

        async def endpoint(request: Request) -> Response:
            decision = await decide(self.authorise, request)
            if isinstance(decision, Response):
                return decision
            if not isinstance(decision, Visitor):
                return PlainTextResponse("403: you may not look at this console", 403)
            try:
                return await view(self, request, decision)
            except BluestreakError as error:
                return self._refusal(request, decision, error)

        return endpoint

    def page(
        self,
        template: str,
        request: Request,
        visitor: Visitor,
        values: Mapping[str, Any],
        status: int = 200,
    ) -> Response:
        """A rendered template."""
        token, cookie = self.tokens.issue(request, visitor.name)
        common = {
            "link": Link.of(request),
            "visitor": visitor,
            "token": token,
        }
        found = self._environment.get_template(template).render(common | dict(values))
        response = HTMLResponse(found.encode(errors="replace"), status)
        self.tokens.set_cookie(response, request, cookie)
        return response

    def refusal(
        self, request: Request, visitor: Visitor, heading: str, message: str, status: int
    ) -> Response:
        """A page that says why something cannot be done."""
        values = {"heading": heading, "message": text.line(message, 600), "page": ""}
        return self.page("refusal.html", request, visitor, values, status)

    def _refusal(self, request: Request, visitor: Visitor, error: BluestreakError) -> Response:
        status, heading = next(
            (known[1:] for known in _STATUS if isinstance(error, known[0])),
            (500, "Something is wrong"),
        )
        # What is the visitor's mistake quotes what they gave; anything else may quote a value.
        is_harmless = visitor.may_see_values or isinstance(error, UsageError | StateError)
        message = str(error) if is_harmless else type(error).__name__
        return self.refusal(request, visitor, heading, message, status)
