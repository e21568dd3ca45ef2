"""Commands that look at workflows: list, count, show."""

from __future__ import annotations

from typing import Annotated

import typer

from bluestreak_cli.command import Session, add
from bluestreak_cli.instant import shown
from bluestreak_cli.json_form import dumped, record_form
from bluestreak_cli.option import Filters, WorkflowId, check_limit
from bluestreak_core import Status, Timeline, WorkflowSummary
from bluestreak_core.errors.text import printable

_BLOCK = 200
"""Rows of one table; the next one is read once they are printed."""

_COLUMNS = ("ID", "STATUS", "HANDLER", "CREATED", "DETAIL")


async def list_(
    session: Session,
    *,
    filters: Filters,
    limit: Annotated[int, typer.Option("--limit", metavar="N", help="How many.")] = 50,
    all: Annotated[bool, typer.Option("--all", help="Without a limit.")] = False,
    after: Annotated[
        str | None, typer.Option("--after", metavar="CURSOR", help="Continue behind this cursor.")
    ] = None,
) -> None:
    """List workflows, the newest first; by id with --prefix."""
    check_limit(limit)
    async with session.target.open() as client:
        found, last, block = 0, "", list[WorkflowSummary]()
        async for summary in filters.list(client, limit=None if all else limit, after=after):
            found, last = found + 1, summary.cursor
            if session.output.as_json:
                session.output.line(dumped(record_form(summary)))
                continue
            block.append(summary)
            if len(block) == _BLOCK:
                _print(session, block)
                block.clear()
        if block:
            _print(session, block)
    if not found:
        session.output.note("no workflow matches")
    elif found == limit and not all:
        session.output.note(f"there may be more: --after {last}")


async def count(
    session: Session,
    *,
    by_handler: Annotated[
        bool, typer.Option("--by-handler", help="By handler, instead of by status.")
    ] = False,
) -> None:
    """Count the workflows by status or by handler."""
    async with session.target.open() as client:
        counts = await client.count("handler_id" if by_handler else "status")
    if session.output.as_json:
        session.output.line(dumped(counts))
        return
    rows = [(name, str(number)) for name, number in counts.items()]
    session.output.table(("HANDLER" if by_handler else "STATUS", "WORKFLOWS"), rows)


async def show(
    session: Session,
    *,
    workflow_id: WorkflowId,
    with_traceback: Annotated[
        bool, typer.Option("--traceback", help="Add the traceback of the last error.")
    ] = False,
) -> None:
    """Show all that is known of a workflow.

    Its state, steps, attempts, naps, waits, claims, failures and children.
    """
    async with session.target.open() as client:
        timeline = await client.describe(workflow_id)
    if session.output.as_json:
        session.output.line(dumped(timeline_form(timeline)))
        return
    for line in str(timeline).split("\n"):
        session.output.line(line)
    error = timeline.workflow.error
    if with_traceback and error is not None:
        for line in error.traceback.splitlines():
            session.output.line(f"  {printable(line)}")


def timeline_form(timeline: Timeline) -> dict[str, object]:
    """A timeline in the types of JSON. Of an event, the record is in the other lists."""
    form: dict[str, object] = record_form(timeline)
    form["events"] = [
        {"kind": event.kind.value, "at": record_form(event.at), "name": event.name}
        for event in timeline.events
    ]
    return form


def _print(session: Session, block: list[WorkflowSummary]) -> None:
    session.output.table(_COLUMNS, [_row(summary) for summary in block])


def _row(summary: WorkflowSummary) -> tuple[str, ...]:
    return (
        summary.workflow_id,
        summary.status.value,
        summary.handler_id,
        shown(summary.created_at),
        _detail(summary),
    )


def _detail(summary: WorkflowSummary) -> str:
    """What one wants to know of a workflow in its state."""
    match summary.status:
        case Status.FAILED | Status.ABORTED if summary.error_type is not None:
            return _cut(f"{summary.error_type}: {summary.error_message}")
        case Status.CANCELLED if summary.reason is not None:
            return _cut(summary.reason)
        case Status.IDLE if summary.waiting_for:
            return _cut(f"waits for {', '.join(summary.waiting_for)}")
        case Status.IDLE:
            return f"due {shown(summary.timeout_at)}"
        case Status.RUNNING | Status.COMPENSATING:
            return _cut(f"on {summary.worker}")
    return ""


def _cut(text: str) -> str:
    first = text.split("\n", 1)[0]
    return first if len(first) <= 60 else f"{first[:57]}..."  # noqa: PLR2004 - characters


def register(app: typer.Typer) -> None:
    """Add these commands."""
    add(app, list_, example="bluestreak list --status aborted --handler fulfil")
    add(app, count, example="bluestreak count --by-handler")
    add(app, show, example="bluestreak show order-17")
