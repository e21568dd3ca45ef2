"""Telling open pages that something has changed, by server-sent events."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Hashable
from datetime import UTC, datetime
from time import monotonic

from starlette.requests import Request
from starlette.responses import Response, StreamingResponse

from bluestreak_console.access import Visitor
from bluestreak_console.filters import Filters
from bluestreak_console.site import Site
from bluestreak_console.workflows import PAGE
from bluestreak_core import BluestreakError, Client, Status

MAX_STREAMS = 100
"""Open pages that hear of changes; others stay as they are until they are reloaded."""

_PAUSE = 2.0  # seconds
_LIFE = 30.0  # seconds, after which the browser asks anew: a server that stops need not wait
_AT_WORK = (Status.RUNNING, Status.COMPENSATING)

_open = 0


async def stream(site: Site, request: Request, visitor: Visitor) -> Response:
    """`changed` events of what a page shows: one workflow, or a list."""
    if _open >= MAX_STREAMS:
        return Response(status_code=204)  # the browser does not reconnect
    return StreamingResponse(_told(site.client, request), media_type="text/event-stream")


async def _told(client: Client, request: Request) -> AsyncGenerator[str, None]:
    global _open  # noqa: PLW0603 - of all consoles of the process
    _open += 1
    try:
        yield "retry: 2000\n\n"
        seen = await _look(client, request)
        until = monotonic() + _LIFE
        while monotonic() < until:
            await asyncio.sleep(_PAUSE)
            found = await _look(client, request)
            yield "event: changed\ndata:\n\n" if found != seen or _moves(found) else ": same\n\n"
            seen = found
    finally:
        _open -= 1


async def _look(client: Client, request: Request) -> tuple[Hashable, ...] | None:
    """What changes if the page does, read without inputs and results."""
    query = request.query_params
    workflow_id = query.get("id")
    try:
        if workflow_id:
            found = client.list(id_prefix=workflow_id, limit=1)
        else:
            found = Filters.of(query).list(client, now=datetime.now(UTC), limit=PAGE)
        return tuple(
            [
                (each.workflow_id, each.status, each.claims, each.failures, each.timeout_at)
                async for each in found
            ]
        )
    except BluestreakError:
        return None  # as it was: the page itself says what is wrong


def _moves(found: tuple[Hashable, ...] | None) -> bool:
    """Whether it is one workflow that records steps meanwhile, which do not show in this."""
    return found is not None and len(found) == 1 and found[0][1] in _AT_WORK  # type: ignore[index]
