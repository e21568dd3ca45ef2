"""The console as an ASGI application."""

from __future__ import annotations

from pathlib import Path

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.routing import Mount, Route
from starlette.staticfiles import StaticFiles

from bluestreak_console import acting, bulk, live, overview, workers, workflow, workflows
from bluestreak_console.access import Authorise
from bluestreak_console.security import SecureHeaders
from bluestreak_console.site import Site
from bluestreak_core import Client

_STATIC = Path(__file__).parent / "static"


def app(
    client: Client, *, authorise: Authorise, title: str = "Bluestreak", secret: str | None = None
) -> Starlette:
    """A console of the workflows in a store, to mount into an ASGI application of yours.

    `client`, a `Bluestreak` or a `Client`, must be open in the event loop that serves requests.

    - `authorise`: who a request comes from, and what they may see and do; see `Authorise`. It is
      asked for each request, static files excepted.
    - `title`: the name of this console, such as that of its environment.
    - `secret`: signs the tokens of forms. By default each process makes its own, so give one where
      several serve the same console.
    """
    site = Site(client, authorise, title=title, secret=secret)
    return Starlette(
        routes=[
            Route("/", site.view(overview.page), name="overview"),
            Route("/counts", site.view(overview.counts)),
            Route("/workflows", site.view(workflows.page)),
            Route("/workflow", site.view(workflow.page)),
            Route("/events", site.view(workflow.events)),
            Route("/act", site.view(acting.act), methods=["POST"]),
            Route("/bulk", site.view(bulk.ask), methods=["GET"]),
            Route("/bulk", site.view(bulk.act), methods=["POST"]),
            Route("/workers", site.view(workers.page)),
            Route("/live", site.view(live.stream)),
            Mount("/static", StaticFiles(directory=_STATIC)),
        ],
        middleware=[Middleware(SecureHeaders)],
    )
