"""Commands that change workflows, one or many: cancel, pause, resume, retry."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Annotated

import typer

from bluestreak_cli.command import Command, Session, add
from bluestreak_cli.exit_code import ExitCode
from bluestreak_cli.failure import CommandError
from bluestreak_cli.option import Filters, YesOption
from bluestreak_core import Client, Status
from bluestreak_core.errors import StateError
from bluestreak_core.errors.text import counted
from bluestreak_core.machine import TRANSITIONS, Transition

_AT_ONCE = 50
"""Calls that are under way at the same time."""

OptionalId = Annotated[
    str | None, typer.Argument(metavar="ID", help="One workflow; or give filters.")
]
AllOption = Annotated[bool, typer.Option("--all", help="Every workflow that can be.")]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """What is done to workflows. `call` returns False if it has changed nothing."""

    verb: str
    done: str
    event: Transition
    call: Callable[[Client, str], Awaitable[bool | None]]


async def cancel(
    session: Session,
    *,
    filters: Filters,
    workflow_id: OptionalId = None,
    all: AllOption = False,
    reason: Annotated[
        str | None, typer.Option("--reason", metavar="TEXT", help="Kept with the workflow.")
    ] = None,
    yes: YesOption = False,
) -> ExitCode:
    """Cancel a workflow, or all that match."""

    async def call(client: Client, one: str) -> bool:
        return await client.cancel(one, reason)

    change = _Change(verb="cancel", done="cancelled", event=Transition.CANCEL, call=call)
    return await _carry_out(session, change, workflow_id, filters, everything=all, yes=yes)


def _command(change: _Change, summary: str) -> Command:
    """The command for a change that takes nothing but the workflows."""

    async def command(
        session: Session,
        *,
        filters: Filters,
        workflow_id: OptionalId = None,
        all: AllOption = False,
        yes: YesOption = False,
    ) -> ExitCode:
        return await _carry_out(session, change, workflow_id, filters, everything=all, yes=yes)

    command.__name__, command.__doc__ = change.verb, summary
    return command


pause = _command(
    _Change(
        verb="pause",
        done="paused",
        event=Transition.PAUSE,
        call=lambda client, one: client.pause(one),
    ),
    "Pause a workflow, or all that match, until it is resumed.",
)
resume = _command(
    _Change(
        verb="resume",
        done="resumed",
        event=Transition.RESUME,
        call=lambda client, one: client.resume(one),
    ),
    "Let a paused workflow go on, or all that match.",
)
retry = _command(
    _Change(
        verb="retry",
        done="retried",
        event=Transition.RETRY,
        call=lambda client, one: client.retry(one),
    ),
    "Run an aborted or cancelled workflow again.",
)


async def _carry_out(
    session: Session,
    change: _Change,
    workflow_id: str | None,
    filters: Filters,
    *,
    everything: bool,
    yes: bool,
) -> ExitCode:
    is_bulk = everything or not filters.is_empty
    if is_bulk == (workflow_id is not None):
        remedy = "name one workflow, or say which by --status, --handler and the like, or --all"
        raise CommandError(f"it is not clear what to {change.verb}", remedy)
    async with session.target.open() as client:
        if workflow_id is not None:
            return await _change_one(session, client, change, workflow_id)
        return await _change_many(session, client, change, filters, yes=yes)


async def _change_one(
    session: Session, client: Client, change: _Change, workflow_id: str
) -> ExitCode:
    is_changed = await change.call(client, workflow_id) is not False
    what = f"is {change.done}" if is_changed else "has ended already, or is about to"
    data = {"workflow_id": workflow_id, change.done: is_changed}
    session.output.answer(f"workflow {workflow_id!r} {what}", data)
    return ExitCode.DONE if is_changed else ExitCode.REFUSED


async def _change_many(
    session: Session, client: Client, change: _Change, filters: Filters, *, yes: bool
) -> ExitCode:
    given = tuple(Status) if filters.status is None else filters.status
    possible = [status for status in given if change.event in TRANSITIONS[status]]
    if not possible:
        raise CommandError(f"nothing in these states can be {change.done}", "see the filter")
    which = replace(filters, status=possible)
    ids: list[str] = []
    with session.output.progress("count") as advance:
        async for summary in which.list(client):
            ids.append(summary.workflow_id)
            advance(1)
    question = f"{change.verb} {counted(len(ids), 'workflow')}?"
    if ids and not session.confirm(question, yes=yes):
        session.output.note("nothing has changed")
        return ExitCode.REFUSED
    changed = 0
    with session.output.progress(change.verb, len(ids)) as advance:
        for begin in range(0, len(ids), _AT_ONCE):
            some = ids[begin : begin + _AT_ONCE]
            changed += sum(await _change_some(client, change, some))
            advance(len(some))
    left = len(ids) - changed
    text = f"{counted(changed, 'workflow')} {change.done}"
    session.output.answer(
        f"{text}, {left} had moved on meanwhile" if left else text,
        {change.done: changed, "moved_on": left},
    )
    return ExitCode.DONE


async def _change_some(client: Client, change: _Change, ids: Sequence[str]) -> Sequence[bool]:
    async def call(workflow_id: str) -> bool:
        try:
            return await change.call(client, workflow_id) is not False
        except StateError:  # it has changed its state since it was listed
            return False

    return await asyncio.gather(*map(call, ids))


def register(app: typer.Typer) -> None:
    """Add these commands."""
    add(app, cancel, example="bluestreak cancel order-17 --reason 'out of stock'")
    add(app, pause, example="bluestreak pause --handler fulfil")
    add(app, resume, example="bluestreak resume --handler fulfil --yes")
    add(app, retry, example="bluestreak retry --status aborted --handler fulfil")
