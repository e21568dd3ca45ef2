"""The page of one workflow."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime

from starlette.requests import Request
from starlette.responses import Response

from bluestreak_console import text
from bluestreak_console.access import Visitor
from bluestreak_console.action import offered
from bluestreak_console.events import HIDDEN, PAGE, Fold, rows, told_of_error
from bluestreak_console.site import Site
from bluestreak_console.workers import find_workers
from bluestreak_core import RunInFlight, Status, Timeline, Workflow

_CHILDREN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """The worker that runs a workflow, as it last reported."""

    worker: str
    host: str
    pid: int
    run: RunInFlight


async def page(site: Site, request: Request, visitor: Visitor) -> Response:
    """The head of the page, and the first events."""
    workflow_id = request.query_params.get("id", "")
    timeline = await site.client.describe(workflow_id)
    workflow, now = timeline.workflow, datetime.now(UTC)
    values = _events(timeline, visitor, now, first=0) | {
        "page": "workflow",
        "workflow": workflow,
        "values": _values(workflow, visitor),
        "error": None
        if workflow.error is None
        else told_of_error(workflow.error, with_values=visitor.may_see_values),
        "reason": _reason(workflow, visitor),
        "children": timeline.children[:_CHILDREN],
        "child_count": len(timeline.children),
        "holder": await _holder(site, workflow),
        "now": now,
        "actions": offered(workflow.status),
        "did": request.query_params.get("did", ""),
    }
    return site.page("workflow.html", request, visitor, values)


async def events(site: Site, request: Request, visitor: Visitor) -> Response:
    """The next rows of the table of events, as one scrolls."""
    workflow_id = request.query_params.get("id", "")
    given = request.query_params.get("first", "")
    first = int(given) if given.isdecimal() and len(given) < _DIGITS else 0
    timeline = await site.client.describe(workflow_id)
    values = _events(timeline, visitor, datetime.now(UTC), first=first)
    values |= {"workflow": timeline.workflow}
    return site.page("event_rows.html", request, visitor, values)


_DIGITS = 9


def _events(
    timeline: Timeline, visitor: Visitor, now: datetime, *, first: int
) -> dict[str, object]:
    total = len(timeline.events)
    more = first + PAGE
    return {
        "rows": rows(timeline, now, with_values=visitor.may_see_values, first=first),
        "total": total,
        "more": more if more < total else None,
    }


def _values(workflow: Workflow, visitor: Visitor) -> list[Fold]:
    """The input, the result and what it has published."""
    found = {"input": workflow.input}
    if workflow.status is Status.FINISHED:
        found["result"] = workflow.result
    found |= {
        f"published {text.line(latest.name, 40)}": latest.value for latest in workflow.published
    }
    if not visitor.may_see_values:
        return [Fold(title=title, text=HIDDEN) for title in found]
    return [Fold(title=title, text=text.value(value)) for title, value in found.items()]


def _reason(workflow: Workflow, visitor: Visitor) -> str:
    if workflow.reason is None:
        return ""
    return text.line(workflow.reason, 600) if visitor.may_see_values else HIDDEN


async def _holder(site: Site, workflow: Workflow) -> Holder | None:
    if workflow.status not in (Status.RUNNING, Status.COMPENSATING):
        return None
    for worker in await find_workers(site.client) or ():
        for run in worker.in_flight:
            if run.workflow_id == workflow.workflow_id and worker.name == workflow.worker:
                return Holder(worker=worker.name, host=worker.host, pid=worker.pid, run=run)
    return None
