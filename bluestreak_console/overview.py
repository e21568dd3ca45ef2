"""The first page: how many workflows there are, who works, and what fails."""

from __future__ import annotations

from starlette.requests import Request
from starlette.responses import Response

from bluestreak_console.access import Visitor
from bluestreak_console.site import Site
from bluestreak_console.workers import find_workers
from bluestreak_core import Status

_SHOWN = 10
_HANDLERS = 50


async def page(site: Site, request: Request, visitor: Visitor) -> Response:
    """The page, without the counts, which it loads by itself."""
    failing = [
        summary
        async for summary in site.client.list(status=[Status.FAILED, Status.ABORTED], limit=_SHOWN)
    ]
    values = {
        "page": "overview",
        "failing": failing,
        "workers": await find_workers(site.client),
    }
    return site.page("overview.html", request, visitor, values)


async def counts(site: Site, request: Request, visitor: Visitor) -> Response:
    """How many workflows there are by status and by handler."""
    by_status = await site.counts.by("status")
    by_handler = await site.counts.by("handler_id")
    most = sorted(by_handler.items(), key=lambda entry: (-entry[1], entry[0]))
    values = {
        "by_status": by_status,
        "total": sum(by_status.values()),
        "by_handler": most[:_HANDLERS],
        "left_out": max(0, len(most) - _HANDLERS),
        "largest": most[0][1] if most else 1,
    }
    return site.page("counts.html", request, visitor, values)
