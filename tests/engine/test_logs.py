"""What the logs say about a worker and its workflows, and the fields of their records."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import pytest

from bluestreak_core import Context, Retry, WorkflowAborted
from bluestreak_core.testing import ManualClock
from tests.arrange import eventually
from tests.engine.arrange import DAY, Fleet, Gate, on_memory

pytestmark = [pytest.mark.asyncio, on_memory]

OF_A_WORKFLOW = {"workflow_id", "handler_id", "claim", "attempt", "worker"}


def said(
    caplog: pytest.LogCaptureFixture, level: int, logger: str = "bluestreak_core"
) -> list[logging.LogRecord]:
    """The records of this level that a logger or those below it have made."""
    return [
        record
        for record in caplog.records
        if record.levelno == level and record.name.startswith(logger)
    ]


def fields(record: logging.LogRecord) -> dict[str, Any]:
    """What a record has in its `extra`."""
    plain = vars(logging.makeLogRecord({})).keys() | {"message", "asctime"}
    return {name: value for name, value in vars(record).items() if name not in plain}


@pytest.fixture
def _quiet(caplog: pytest.LogCaptureFixture) -> Iterator[None]:
    """The default level of an application that has not configured its logs."""
    with caplog.at_level(logging.WARNING):
        yield


async def test_a_worker_logs_its_start_its_drain_and_its_end(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bluestreak = await fleet.handling(Gate().handle, max_concurrency=7)
    async with fleet.polling(bluestreak):
        await eventually(lambda: bluestreak.health().last_contact_at is not None)
        worker = bluestreak.health().worker
    started, draining, stopped = said(caplog, logging.INFO)
    assert started.getMessage() == (
        f"{worker}: started on {fleet.store!r} with the handlers 'h'; timeout_interval 1 day, "
        "0:00:00, poll_interval 1 day, 0:00:00, max_concurrency 7, drain_timeout 0:00:10, "
        "unknown_handler 'raise'"
    )
    assert draining.getMessage() == f"{worker}: draining 0 runs for up to 0:00:10"
    assert stopped.getMessage() == f"{worker}: stopped"
    assert fields(started) == fields(stopped) == {"worker": worker}
    assert fields(draining) == {"worker": worker, "runs": 0}


async def test_a_worker_names_some_of_many_handlers(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    bluestreak = await fleet.engine()
    for number in range(22):
        bluestreak.register_handler(f"h{number:02}", Gate().handle)
    async with fleet.polling(bluestreak):
        await eventually(lambda: bluestreak.health().last_contact_at is not None)
    started = said(caplog, logging.INFO)[0].getMessage()
    assert "'h19' and 2 more; timeout_interval" in started
    assert "h20" not in started


async def test_a_worker_logs_what_it_releases(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    gate = Gate()
    bluestreak = await fleet.handling(gate.handle)
    await bluestreak.start("w", "h")
    async with fleet.polling(bluestreak):
        await gate.inside.wait()
    _, draining, releasing, _ = said(caplog, logging.INFO)
    assert draining.getMessage().endswith(": draining 1 run for up to 0:00:10")
    assert releasing.getMessage().endswith(": drain is over, releasing 1 run")
    assert fields(releasing)["runs"] == 1


async def test_claims_and_ends_are_logged_for_debugging(
    fleet: Fleet, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)

    async def handle(ctx: Context, input: None) -> None:
        await ctx.sleep("nap", DAY)

    bluestreak = await fleet.parking(handle, poll_interval=1)
    await bluestreak.start("w", "h")
    async with fleet.polling(bluestreak):
        await fleet.store.until_returned("park", 1)
        worker = bluestreak.health().worker
        woken_at = clock.now() + DAY
        clock.advance(DAY)
        await bluestreak.wait("w")
    lines = said(caplog, logging.DEBUG)
    assert [line.getMessage() for line in lines] == [
        "workflow 'w': claim 1 begins",
        f"workflow 'w' is parked until {woken_at}",
        "workflow 'w': claim 2 begins",
        "workflow 'w' has finished",
    ]
    facts = {"workflow_id": "w", "handler_id": "h", "attempt": 1, "worker": worker}
    assert [fields(line) for line in lines] == [facts | {"claim": n} for n in (1, 1, 2, 2)]


async def test_an_abort_is_an_error_with_its_traceback(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        raise LookupError("no such order")

    bluestreak = await fleet.handling(handle, max_failures=1, wait_retry_interval=0)
    await bluestreak.start("w", "h")
    async with fleet.polling(bluestreak):
        with pytest.raises(WorkflowAborted):
            await bluestreak.wait("w")
    (failed,) = said(caplog, logging.WARNING)
    (aborted,) = said(caplog, logging.ERROR)
    assert "failed, trying again at" in failed.getMessage()
    assert failed.exc_info is None
    assert aborted.getMessage() == "workflow 'w' failed, aborted: LookupError: no such order"
    assert aborted.exc_info is not None
    assert isinstance(aborted.exc_info[1], LookupError)
    assert aborted.filename == "ending.py"
    assert "in handle" in logging.Formatter().format(aborted)
    assert [fields(line)["attempt"] for line in (failed, aborted)] == [1, 2]
    assert fields(aborted).keys() == OF_A_WORKFLOW


async def test_the_logged_traceback_of_an_abort_has_a_limited_length(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        raise LookupError("x" * 1_000_000)

    bluestreak = await fleet.handling(handle, max_failures=0)
    await bluestreak.start("w", "h")
    async with fleet.polling(bluestreak):
        with pytest.raises(WorkflowAborted):
            await bluestreak.wait("w")
    (aborted,) = said(caplog, logging.ERROR)
    assert len(logging.Formatter("").format(aborted)) < 40_000


async def test_a_failed_attempt_names_its_step(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise LookupError

    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("s", fail, retry=Retry(max_attempts=2, initial=0))

    bluestreak = await fleet.handling(handle)
    await bluestreak.start("w", "h")
    async with fleet.polling(bluestreak):
        with pytest.raises(WorkflowAborted):
            await bluestreak.wait("w")
    attempts = said(caplog, logging.WARNING, "bluestreak_core.run.attempts")
    named = [(fields(line)["step_id"], fields(line)["step_attempt"]) for line in attempts]
    assert named == [("s", 1), ("s", 2)]


@pytest.mark.usefixtures("_quiet")
async def test_a_workflow_that_ends_well_leaves_no_line(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(ctx: Context, input: None) -> int:
        return await ctx.step("s", int)

    async with fleet.polling(await fleet.handling(handle)) as bluestreak:
        await bluestreak.start("w", "h")
        await bluestreak.wait("w")
    assert caplog.text == ""
