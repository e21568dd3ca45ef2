"""The list of workflows."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from bluestreak_console.access import Visitor
from bluestreak_console.filters import Filters
from bluestreak_console.site import Link, Site
from bluestreak_core import Status

PAGE = 50


async def page(site: Site, request: Request, visitor: Visitor) -> Response:
    """One page of the list. An id that is looked for leads to its workflow, if there is one."""
    looked_for = request.query_params.get("id", "").strip()
    if looked_for:
        return await _look_for(site, request, looked_for)
    filters = Filters.of(request.query_params)
    after = request.query_params.get("after")
    found = filters.list(site.client, now=datetime.now(UTC), limit=PAGE + 1, after=after)
    summaries = [summary async for summary in found]
    has_more = len(summaries) > PAGE
    values = {
        "page": "workflows",
        "filters": filters,
        "statuses": list(Status),
        "workflows": summaries[:PAGE],
        "after": after,
        "next": summaries[PAGE - 1].cursor if has_more else None,
        "now": datetime.now(UTC),
    }
    is_fragment = "hx-request" in request.headers and after is not None
    template = "workflow_rows.html" if is_fragment else "workflows.html"
    return site.page(template, request, visitor, values)


async def _look_for(site: Site, request: Request, text: str) -> Response:
    link = Link.of(request)
    exact = [summary async for summary in site.client.list(id_prefix=text, limit=1)]
    if exact and exact[0].workflow_id == text:
        return RedirectResponse(link("workflow", id=text), 303)
    return RedirectResponse(link("workflows", prefix=text), 303)
