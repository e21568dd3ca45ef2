"""The command that follows a workflow until it ends."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from time import monotonic
from typing import Annotated

import typer

from bluestreak_cli.command import Session, add
from bluestreak_cli.exit_code import ExitCode
from bluestreak_cli.failure import CommandError
from bluestreak_cli.json_form import dumped, instant_form, record_form, value_form
from bluestreak_cli.option import WorkflowId
from bluestreak_core import (
    EventKind,
    Status,
    Timeline,
    TimelineEvent,
    WaitTimeout,
    WorkflowAborted,
    WorkflowCancelled,
)
from bluestreak_core.errors.text import printable
from bluestreak_core.model import Published

_WIDTH = 200
_SHARE = 10
"""How many times longer than a look the pause behind it is, at least."""


async def tail(
    session: Session,
    *,
    workflow_id: WorkflowId,
    pause: Annotated[
        float, typer.Option("--pause", metavar="SECONDS", help="Between two looks.")
    ] = 0.5,
) -> ExitCode:
    """Follow a workflow until it ends.

    Exits with 1 if it is aborted or cancelled.
    """
    if not pause > 0:
        raise CommandError(f"--pause {pause} is not above 0", "give the seconds between two looks")
    seen: set[object] = set()
    async with session.target.open() as client:
        while True:
            began = monotonic()
            timeline = await client.describe(workflow_id)
            took = monotonic() - began
            for key, line in _lines(timeline, as_json=session.output.as_json):
                if key not in seen:
                    seen.add(key)
                    session.output.line(line)
            session.output.flush()
            status = timeline.workflow.status
            if status.ended:
                return ExitCode.DONE if status is Status.FINISHED else ExitCode.REFUSED
            with suppress(WaitTimeout, WorkflowAborted, WorkflowCancelled):
                await client.wait(workflow_id, timeout=pause_after(took, pause))


def pause_after(took: float, least: float) -> float:
    """Seconds until the next look. Each reads all records, so long looks come less often."""
    return max(least, _SHARE * took)


def _lines(timeline: Timeline, *, as_json: bool) -> Iterator[tuple[object, str]]:
    """What has happened so far, each with what it is recognised by."""
    workflow = timeline.workflow
    begun = (workflow.generation, workflow.retries)
    for latest in workflow.published:
        key = ("published", latest.generation, latest.name, latest.number)
        yield key, _published_json(latest) if as_json else _published(latest)
    for event in timeline.events:
        yield (*begun, _key(event, workflow.failures)), _json(event) if as_json else str(event)


def _key(event: TimelineEvent, failures: int) -> object:
    number = getattr(event.record, "number", None)
    # The failure of a handler has no time by which it could be told from the one before.
    return event.kind, event.at, event.name, number, failures * (event.kind is EventKind.FAILED)


def _json(event: TimelineEvent) -> str:
    at = record_form(event.at)
    record = record_form(event.record)
    return dumped({"kind": event.kind.value, "at": at, "name": event.name, "record": record})


def _published_json(latest: Published) -> str:
    at, value = instant_form(latest.at), value_form(latest.value)
    return dumped({"kind": "published", "at": at, "name": latest.name, "value": value})


def _published(latest: Published) -> str:
    at = instant_form(latest.at).replace("T", " ")
    text = repr(latest.value)
    shown = text if len(text) <= _WIDTH else f"{text[:_WIDTH]}..."
    return printable(f"{at}  published {latest.name!r}: {shown}")


def register(app: typer.Typer) -> None:
    """Add this command."""
    add(app, tail, example="bluestreak tail order-17")
