"""`ctx.log`: what it says, when it is silent, and the fields of its records."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import pytest

from bluestreak_core import Context, Handler, WorkflowAborted
from bluestreak_core.testing import Environment, ManualClock
from tests.engine.arrange import DAY, Fleet, on_memory


@pytest.fixture(autouse=True)
def _shown(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, __name__)


def lines(caplog: pytest.LogCaptureFixture) -> list[logging.LogRecord]:
    """The records of this module's logger, where the handlers are."""
    return [record for record in caplog.records if record.name == __name__]


def messages(caplog: pytest.LogCaptureFixture) -> list[str]:
    """The messages of these records."""
    return [record.getMessage() for record in lines(caplog)]


async def run_past_a_nap(fleet: Fleet, clock: ManualClock, handle: Handler) -> None:
    """Run a workflow that is parked once, for a day."""
    bluestreak = await fleet.parking(handle, poll_interval=1)
    await bluestreak.start("w", "h")
    async with fleet.polling(bluestreak):
        await fleet.store.until_returned("park", 1)
        clock.advance(DAY)
        await bluestreak.wait("w")


@on_memory
@pytest.mark.asyncio
async def test_a_parked_workflow_logs_each_line_once(
    fleet: Fleet, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        ctx.log.info("begins")
        await ctx.step("s", int)
        ctx.log.info("has a step")
        await ctx.sleep("nap", DAY)
        ctx.log.info("wakes")

    await run_past_a_nap(fleet, clock, handle)
    assert messages(caplog) == ["begins", "has a step", "wakes"]
    facts: list[tuple[Any, ...]] = [
        (line.workflow_id, line.handler_id, line.claim, line.attempt, line.filename)  # type: ignore[attr-defined]
        for line in lines(caplog)
    ]
    assert facts == [("w", "h", claim, 1, "test_context_log.py") for claim in (1, 1, 2)]


@on_memory
@pytest.mark.asyncio
async def test_only_lines_after_the_last_record_are_repeated_after_a_failure(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        ctx.log.info("before")
        await ctx.step("s", int)
        ctx.log.info("after")
        raise LookupError

    bluestreak = await fleet.handling(handle, max_failures=1, wait_retry_interval=0)
    await bluestreak.start("w", "h")
    async with fleet.polling(bluestreak):
        with pytest.raises(WorkflowAborted):
            await bluestreak.wait("w")
    assert messages(caplog) == ["before", "after", "after"]


@on_memory
@pytest.mark.asyncio
async def test_a_scope_and_a_step_are_named_also_in_a_thread(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        scope = ctx.scope("a").scope("b")
        scope.log.info("in the scope", extra={"mine": 1})
        await scope.step("s", lambda: scope.log.info("in a thread"))

    async with fleet.polling(await fleet.handling(handle)) as bluestreak:
        await bluestreak.start("w", "h")
        await bluestreak.wait("w")
    outside, inside = map(vars, lines(caplog))
    assert (outside["scope"], outside["mine"], "step_id" in outside) == ("a/b", 1, False)
    assert (inside["scope"], inside["step_id"]) == ("a/b", "a/b/s")


@on_memory
@pytest.mark.asyncio
async def test_branches_that_have_ended_are_silent_and_hold_nothing_up(
    fleet: Fleet, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def branch(ctx: Context) -> None:
        ctx.log.info("in a branch")
        await ctx.step("s", int)

    async def handle(ctx: Context, input: None) -> None:
        await ctx.parallel("p", {"x": branch, "y": branch})
        await ctx.map("m", abs, [1, 2])
        await ctx.sleep("nap", DAY)
        ctx.log.info("wakes")

    await run_past_a_nap(fleet, clock, handle)
    assert messages(caplog) == ["in a branch", "in a branch", "wakes"]


@on_memory
@pytest.mark.asyncio
async def test_the_records_of_a_losing_branch_keep_no_line_from_being_logged(
    fleet: Fleet, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.race("r", won=lambda: ctx.step("s", int), lost=lambda: ctx.sleep("long", 9 * DAY))
        await ctx.sleep("nap", DAY)
        ctx.log.info("wakes")

    await run_past_a_nap(fleet, clock, handle)
    assert messages(caplog) == ["wakes"]


@on_memory
@pytest.mark.asyncio
async def test_a_replay_is_silent_and_a_compensation_is_not(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        ctx.log.info("before")
        await ctx.compensate("undo", lambda: ctx.log.info("undoing"))
        raise LookupError

    bluestreak = await fleet.handling(handle, max_failures=0)
    await bluestreak.start("w", "h")
    async with fleet.polling(bluestreak):
        with pytest.raises(WorkflowAborted):
            await bluestreak.wait("w")
    assert messages(caplog) == ["before", "undoing"]


def test_after_a_crash_only_lines_after_the_last_record_are_repeated(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with Environment() as env:
        crashes = [env.crash]

        async def crash_once() -> None:
            if crashes:
                crashes.pop()()
                await asyncio.sleep(0)

        async def handle(ctx: Context, input: None) -> None:
            ctx.log.info("first")
            await ctx.step("a", int)
            ctx.log.info("second")
            await ctx.step("b", crash_once)
            ctx.log.info("third")

        env.run(handle)
    assert messages(caplog) == ["first", "second", "second", "third"]


@on_memory
@pytest.mark.asyncio
async def test_a_changed_handler_logs_again_once_it_begins_something_new(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        if ctx.info.claims == 1:
            await ctx.step("old", int)
            raise LookupError
        ctx.log.info("replays")
        await ctx.step("new", int)
        ctx.log.info("goes on")

    bluestreak = await fleet.handling(handle, wait_retry_interval=0)
    await bluestreak.start("w", "h")
    async with fleet.polling(bluestreak):
        await bluestreak.wait("w")
    assert messages(caplog) == ["goes on"]
