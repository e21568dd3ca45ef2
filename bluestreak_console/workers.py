"""The page of the live workers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from bluestreak_console.access import Visitor
from bluestreak_console.site import Site
from bluestreak_core import Client, Unsupported, WorkerRecord


async def find_workers(client: Client) -> Sequence[WorkerRecord] | None:
    """The live workers; None if the store does not know them."""
    try:
        return await client.workers()
    except Unsupported:
        return None


async def page(site: Site, request: Request, visitor: Visitor) -> Response:
    """Who is alive, on what, and what they run."""
    values = {
        "page": "workers",
        "workers": await find_workers(site.client),
        "now": datetime.now(UTC),
    }
    return site.page("workers.html", request, visitor, values)
