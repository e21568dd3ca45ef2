"""Commands that look after the database: prune and doctor."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Annotated

import typer

from bluestreak_cli.command import Session, add
from bluestreak_cli.exit_code import ExitCode
from bluestreak_cli.failure import CommandError
from bluestreak_cli.grade import Finding
from bluestreak_cli.instant import read_instant, shown
from bluestreak_cli.json_form import dumped, record_form
from bluestreak_cli.option import YesOption, check_limit
from bluestreak_cli.workforce import look_at_workers
from bluestreak_core import Client, Pruned, Status
from bluestreak_core.errors.text import counted, printable
from bluestreak_core.store import ENDED

PRUNED_AT_ONCE = 500
"""Workflows that are deleted between two looks at the progress."""


async def prune(
    session: Session,
    *,
    ended_before: Annotated[
        str, typer.Option("--ended-before", metavar="TIME", help="2026-11-30, or 90d for so long.")
    ],
    status: Annotated[
        list[Status] | None,
        typer.Option(
            "--status",
            metavar="STATUS",
            help=f"Ended in this state; repeatable: {', '.join(ENDED)}.",
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", metavar="N", help="At most so many.")
    ] = None,
    yes: YesOption = False,
) -> ExitCode:
    """Delete ended workflows and their records."""
    if limit is not None:
        check_limit(limit)
    until = read_instant(ended_before, "--ended-before")
    statuses = status or ENDED
    question = f"delete workflows that ended before {shown(until)} ({', '.join(statuses)})?"
    if not session.confirm(question, yes=yes):
        session.output.note("nothing is deleted")
        return ExitCode.REFUSED
    async with session.target.open() as client:
        pruned = await _prune(session, client, until, statuses, limit)
    deleted = f"{counted(pruned.workflows, 'workflow')}, {counted(pruned.steps, 'step')}"
    session.output.answer(
        f"deleted {deleted} and {counted(pruned.naps, 'nap')}", record_form(pruned)
    )
    return ExitCode.DONE


async def _prune(
    session: Session,
    client: Client,
    until: datetime,
    statuses: Sequence[Status],
    limit: int | None,
) -> Pruned:
    """Delete so many at a time that people see how it goes on."""
    pruned = Pruned()
    with session.output.progress("delete", limit) as advance:
        while limit is None or pruned.workflows < limit:
            most = (
                PRUNED_AT_ONCE if limit is None else min(PRUNED_AT_ONCE, limit - pruned.workflows)
            )
            some = await client.prune(ended_before=until, statuses=statuses, limit=most)
            pruned += some
            advance(some.workflows)
            if some.workflows < most:
                break
    return pruned


async def doctor(session: Session) -> ExitCode:
    """Look at a MongoDB server, or at the workers of an application, and say what to do.

    Of a server: version, replica set, clock, privileges, collections, indexes. Of an application:
    whether live workers serve its handlers. It changes nothing, and exits with 1 if it finds a
    fault.
    """
    findings = await _look(session)
    is_healthy = all(finding.grade != "fault" for finding in findings)
    if session.output.as_json:
        data = {"healthy": is_healthy, "findings": record_form(findings)}
        session.output.line(dumped(data))
    else:
        for finding in findings:
            for line in str(finding).split("\n"):
                session.output.line(printable(line))
    return ExitCode.DONE if is_healthy else ExitCode.REFUSED


async def _look(session: Session) -> Sequence[Finding]:
    if session.target.app is not None:
        async with session.target.open() as client:
            return await look_at_workers(client)
    url, database = session.target.server()
    try:
        from bluestreak_cli.diagnosis import diagnose  # noqa: PLC0415 - needs an extra
    except ImportError as error:
        raise CommandError(str(error), "install it", ExitCode.REFUSED) from error
    return await diagnose(url, database)


def register(app: typer.Typer) -> None:
    """Add these commands."""
    add(app, prune, example="bluestreak prune --ended-before 90d --status finished")
    add(app, doctor, example="bluestreak doctor --mongo mongodb://localhost --database myapp")
