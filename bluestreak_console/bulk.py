"""Doing the same to many workflows, after a question."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from bluestreak_console import text
from bluestreak_console.access import Visitor
from bluestreak_console.action import BULK, allowing
from bluestreak_console.filters import Filters
from bluestreak_console.form import fields
from bluestreak_console.site import Site
from bluestreak_core import Client, InvalidArgument, Status, StoreUnavailable
from bluestreak_core.errors import StateError, WorkflowNotFound
from bluestreak_core.machine import Transition

logger = logging.getLogger(__name__)

AT_ONCE = 1000
"""The most workflows that one form is about; the next form goes on."""

_BESIDE = 20


@dataclass(slots=True)
class _Done:
    """What came of the workflows of one form."""

    done: int = 0
    refused: Counter[str] = field(default_factory=Counter)


async def ask(site: Site, request: Request, visitor: Visitor) -> Response:
    """How many workflows it is about, and whether it is meant so."""
    action, filters = request.query_params.get("action", ""), Filters.of(request.query_params)
    ids = await _ids(site.client, action, filters)
    return site.page("bulk.html", request, visitor, _values(action, filters, ids, None))


async def act(site: Site, request: Request, visitor: Visitor) -> Response:
    """Do it to the first of them, and ask again if there are more."""
    form = await fields(site, request, visitor)
    if isinstance(form, Response):
        return form
    action, filters = form.get("action", ""), Filters.of(request.query_params)
    ids = await _ids(site.client, action, filters)
    done = await _carry_out(site.client, action, ids[:AT_ONCE], form.get("reason") or None)
    logger.info(
        "%s: %s of %d workflows, %d refused",
        *(visitor.name, action, done.done, done.refused.total()),
        extra={"visitor": visitor.name, "action": action, "workflows": done.done},
    )
    left = await _ids(site.client, action, filters) if len(ids) > AT_ONCE else []
    return site.page("bulk.html", request, visitor, _values(action, filters, left, done))


def _values(action: str, filters: Filters, ids: list[str], done: _Done | None) -> dict[str, object]:
    return {
        "page": "workflows",
        "action": action,
        "filters": filters,
        "count": min(len(ids), AT_ONCE),
        "has_more": len(ids) > AT_ONCE,
        "some": ids[:10],
        "done": done,
    }


async def _ids(client: Client, action: str, filters: Filters) -> list[str]:
    """The first workflows that match, one more than a form is about if there are more."""
    if action not in BULK:
        raise InvalidArgument("action", action, f"expected one of {', '.join(BULK)}")
    wanted = filters.status or tuple(Status)
    possible = allowing(Transition(action))
    statuses = tuple(status.value for status in possible if status.value in wanted)
    if not statuses:
        return []
    narrowed = replace(filters, status=statuses)
    found = narrowed.list(client, now=datetime.now(UTC), limit=AT_ONCE + 1)
    return [summary.workflow_id async for summary in found]


async def _carry_out(client: Client, action: str, ids: list[str], reason: str | None) -> _Done:
    calls: dict[str, Callable[[str], Awaitable[object]]] = {
        "cancel": lambda workflow_id: client.cancel(workflow_id, reason),
        "pause": client.pause,
        "resume": client.resume,
        "retry": client.retry,
    }
    done, free = _Done(), asyncio.Semaphore(_BESIDE)

    async def one(workflow_id: str) -> None:
        async with free:
            try:
                await calls[action](workflow_id)
            except (StateError, WorkflowNotFound, StoreUnavailable) as error:
                done.refused[text.line(type(error).__name__)] += 1
            else:
                done.done += 1

    async with asyncio.TaskGroup() as tasks:
        for workflow_id in ids:
            tasks.create_task(one(workflow_id))
    return done
