"""The command that looks at workers."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Annotated

import typer

from bluestreak_cli.command import Session, add
from bluestreak_cli.instant import shown
from bluestreak_cli.json_form import dumped, record_form
from bluestreak_core import WorkerRecord

_COLUMNS = ("WORKER", "STATE", "RUNS", "SLOTS", "STARTED", "SEEN")
_RUNS = ("WORKFLOW", "HANDLER", "STEP", "FOR", "WORKER")


async def workers(
    session: Session,
    *,
    runs: Annotated[
        bool, typer.Option("--runs", help="What they run, the longest in a step first.")
    ] = False,
) -> None:
    """List the live workers, as they last reported.

    A step that hangs is the first one with --runs.
    """
    async with session.target.open() as client:
        found = await client.workers()
    if session.output.as_json:
        for worker in found:
            session.output.line(dumped(record_form(worker)))
    elif not found:
        session.output.note("no worker is alive; start one with 'bluestreak worker'")
    elif runs:
        session.output.table(_RUNS, _runs(found, datetime.now(UTC)))
    else:
        session.output.table(_COLUMNS, [_row(worker) for worker in found])


def _row(worker: WorkerRecord) -> tuple[str, ...]:
    return (
        worker.name,
        worker.state.value,
        str(worker.runs),
        str(worker.max_concurrency),
        shown(worker.started_at),
        shown(worker.seen_at),
    )


def _runs(workers: Sequence[WorkerRecord], now: datetime) -> list[tuple[str, ...]]:
    pairs = [(run, worker.name) for worker in workers for run in worker.in_flight]
    pairs.sort(key=lambda pair: (pair[0].step_id is None, pair[0].since))
    return [
        (run.workflow_id, run.handler_id, run.step_id or "", _span(now - run.since), name)
        for run, name in pairs
    ]


def _span(passed: timedelta) -> str:
    """`2:05:09`, with days before it."""
    return str(timedelta(seconds=max(0, int(passed.total_seconds()))))


def register(app: typer.Typer) -> None:
    """Add this command."""
    add(app, workers, example="bluestreak workers --runs")
