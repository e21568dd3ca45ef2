"""Workflows that begin with the records of another one."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from bluestreak_core import (
    Bluestreak,
    Context,
    FailedStep,
    InvalidId,
    Retry,
    Status,
    StepFailed,
    StepNotRecorded,
    WorkflowNotFound,
)
from bluestreak_core.model import ClaimRequest
from bluestreak_core.testing import ManualClock, RecordingStore
from tests.engine.arrange import Fleet

pytestmark = pytest.mark.asyncio

DAY = timedelta(days=1)


class Course:
    """A handler of five steps with a nap, and the calls of its steps."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    async def handle(self, ctx: Context, input: int) -> list[Any]:
        first = [await self.take(ctx, number) for number in range(3)]
        await ctx.sleep("night", DAY)
        return [input, *first, *[await self.take(ctx, number) for number in range(3, 5)]]

    async def take(self, ctx: Context, number: int) -> str:
        return await ctx.step(f"s{number}", self.step, ctx.workflow_id, number)

    def step(self, workflow_id: str, number: int) -> str:
        self.calls.append(f"{workflow_id} {number}")
        return f"{workflow_id} {number}"


async def _run(fleet: Fleet, bluestreak: Bluestreak, course: Course) -> None:
    """A workflow that has ended after a nap, its records milliseconds apart."""
    bluestreak.register_handler("h", course.handle)
    await bluestreak.start("w", "h", 7)
    async with fleet.polling(bluestreak):
        await fleet.store.until_returned("park")
        fleet.clock.advance(DAY)
        await bluestreak.wait("w")


@pytest.mark.parametrize(
    ("before", "called", "naps"),
    [(None, 5, False), ("s4", 4, False), ("s3", 3, False), ("s2", 2, True), ("s0", 0, True)],
)
async def test_a_fork_goes_on_from_before_a_step(
    fleet: Fleet, before: str | None, called: int, *, naps: bool
) -> None:
    course = Course()
    bluestreak = await fleet.engine()
    await _run(fleet, bluestreak, course)
    source = await bluestreak.find_workflow("w")
    course.calls.clear()
    assert await bluestreak.fork("w", "f", before)
    parked = fleet.store.returned["park"]
    async with fleet.polling(bluestreak):
        if naps:
            await fleet.store.until_returned("park", parked + 1)
            fleet.clock.advance(DAY)
        result = await bluestreak.wait("f")
    own = [f"{'w' if number < called else 'f'} {number}" for number in range(5)]
    assert result == [7, *own]
    assert course.calls == [f"f {number}" for number in range(called, 5)]
    assert await bluestreak.find_workflow("w") == source
    fork = await bluestreak.find_workflow("f")
    assert fork is not None
    assert fork.forked_from == "w"


async def test_an_id_that_exists_is_not_forked_to(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    await _run(fleet, bluestreak, Course())
    assert await bluestreak.fork("w", "f")
    before = await bluestreak.find_workflow("f")
    assert not await bluestreak.fork("w", "f", "s3")
    assert not await bluestreak.fork("w", "w")
    assert await bluestreak.find_workflow("f") == before


async def test_what_cannot_be_forked_is_named(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    await bluestreak.start("w", "h")
    with pytest.raises(WorkflowNotFound, match="'v'"):
        await bluestreak.fork("v", "f")
    with pytest.raises(StepNotRecorded, match="workflow 'w' has not recorded a step 's'"):
        await bluestreak.fork("w", "f", "s")
    for bad in ("", {"$ne": None}, None):
        with pytest.raises(InvalidId, match="new id"):
            await bluestreak.fork("w", bad)  # type: ignore[arg-type]
    with pytest.raises(InvalidId, match="before"):
        await bluestreak.fork("w", "f", "")
    assert await bluestreak.find_workflow("f") is None


async def test_a_fork_begins_anew_in_all_but_its_records(
    fleet: Fleet, store: RecordingStore, clock: ManualClock
) -> None:
    bluestreak = await fleet.engine(max_failures=0)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        await ctx.step("a", lambda: "a")
        try:
            await ctx.step("b", int, "no number", retry=Retry(max_attempts=1))
        except StepFailed as failed:
            await ctx.step("c", lambda: "c")
            raise RuntimeError from failed
        return ""

    await bluestreak.start("w", "h")
    async with fleet.polling(bluestreak):
        await store.until_returned("fail")
    clock.advance(DAY)
    assert await bluestreak.fork("w", "f")
    assert await bluestreak.fork("w", "g", "b")
    fork, other = await bluestreak.find_workflow("f"), await bluestreak.find_workflow("g")
    assert fork is not None
    assert other is not None
    assert (fork.status, fork.timeout_at, fork.created_at) == (
        Status.IDLE,
        clock.now(),
        clock.now(),
    )
    assert (fork.failures, fork.claims, fork.error, fork.finished_at) == (0, 0, None, None)
    assert [failed.step_id for failed in fork.failed_steps] == ["b"]
    assert isinstance(fork.failed_steps[0], FailedStep)
    assert other.failed_steps == ()
    (claim, _) = await store.claim(
        ClaimRequest(worker="worker", now=clock.now(), lease=DAY, limit=2)
    )
    histories = await store.history([claim])
    assert histories[claim.workflow_id].attempts == {}
