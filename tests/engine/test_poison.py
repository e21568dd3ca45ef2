"""Workflows that do their worst: to their process, to their worker, and to whoever stops it."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import pytest
from typing_extensions import override

from bluestreak_core import (
    Bluestreak,
    Claim,
    Context,
    Failure,
    Status,
    Store,
    StoreUnavailable,
    Workflow,
)
from bluestreak_core.testing import ManualClock, RecordingStore, StoreAround
from bluestreak_memory import MemoryStore
from tests.engine.conftest import pass_time

pytestmark = pytest.mark.asyncio

T = TypeVar("T")

SECOND = timedelta(seconds=1)


# Killing the process -----------------------------------------------------------------------------


class Mortal(StoreAround):
    """A store as one process sees it. From a dead process nothing arrives any more."""

    dead = False

    @override
    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        for _ in range(20 if name == "park" else 5):  # as if the store were far away
            await asyncio.sleep(0)
        if self.dead:
            raise StoreUnavailable("this process is dead")
        return await call()


class Ends(StoreAround):
    """Counts the workflows that have ended."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.ended: set[str] = set()

    @override
    async def finish(self, claim: Claim, result: object, now: datetime) -> None:
        await super().finish(claim, result, now)
        self.ended.add(claim.workflow_id)

    @override
    async def fail(self, claim: Claim, failure: Failure, now: datetime) -> None:
        await super().fail(claim, failure, now)
        self.ended.add(claim.workflow_id)


async def _live(store: Store, clock: ManualClock, all_ended: Callable[[], bool]) -> bool:
    """Work in a new process until all have ended, or until it is killed; whether it was killed."""
    mortal = Mortal(store)
    bluestreak = Bluestreak(mortal, drain_timeout=0)

    @bluestreak.handler("deadly")
    async def deadly(ctx: Context, input: None) -> None:
        mortal.dead = True

    @bluestreak.handler("healthy")
    async def healthy(ctx: Context, input: None) -> None:
        await ctx.step("s", asyncio.sleep, 0)

    await bluestreak.init()
    poll = asyncio.create_task(bluestreak.poll())
    await pass_time(clock, lambda: mortal.dead or all_ended())
    bluestreak.stop()
    await pass_time(clock, poll.done)
    return mortal.dead


async def test_who_dies_beside_a_deadly_workflow_each_time_is_not_given_up_with_it(
    clock: ManualClock,
) -> None:
    store = Ends(MemoryStore(clock=clock))
    async with Bluestreak(store) as bluestreak:
        workflow_ids = ["deadly", *[f"healthy {number}" for number in range(99)]]
        for workflow_id in workflow_ids:
            await bluestreak.start(workflow_id, workflow_id.split()[0])
        deaths = 0
        while await _live(store, clock, lambda: len(store.ended) == len(workflow_ids)):
            deaths += 1
    workflows = await _found(store, workflow_ids)
    aborted = [one.workflow_id for one in workflows if one.status is Status.ABORTED]
    assert (aborted, deaths) == (["deadly"], 11)


async def _crashed(store: Store, clock: ManualClock, workflows: int, crashes: int) -> None:
    """Workflows whose workers have died so often."""
    async with Bluestreak(store) as bluestreak:
        for number in range(workflows):
            await bluestreak.start(f"w{number}", "h")
    for _ in range(crashes + 1):
        await store.claim("mortal", clock.now(), SECOND, workflows, None)
        clock.advance(SECOND)


@pytest.mark.parametrize(("max_crashes", "crashes", "at_once"), [(10, 5, 3), (10, 6, 1), (1, 1, 1)])
async def test_workflows_that_have_used_up_more_than_half_of_max_crashes_begin_one_at_a_time(
    clock: ManualClock, max_crashes: int, crashes: int, at_once: int
) -> None:
    store = RecordingStore(MemoryStore(clock=clock))
    await _crashed(store, clock, 3, crashes - 1)
    begun: list[str] = []
    bluestreak = Bluestreak(store, max_crashes=max_crashes, drain_timeout=0)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        begun.append(ctx.workflow_id)
        await asyncio.Event().wait()

    await bluestreak.init()
    poll = asyncio.create_task(bluestreak.poll())
    await store.until_begun("wait_for_work")
    assert (len(begun), bluestreak.health().runs) == (at_once, at_once)
    put_off = await _found(store, [f"w{n}" for n in range(3) if f"w{n}" not in begun])
    for workflow in put_off:
        assert (workflow.status, workflow.crashes) == (Status.IDLE, crashes)
        assert clock.now() <= workflow.timeout_at <= clock.now() + 10 * SECOND
    bluestreak.stop()
    await poll


@pytest.mark.parametrize("record", ["step", "nap"])
async def test_the_next_suspect_begins_when_the_one_before_has_made_progress(
    clock: ManualClock, record: str
) -> None:
    store = MemoryStore(clock=clock)
    await _crashed(store, clock, 3, 5)
    gate, running = asyncio.Event(), 0
    bluestreak = Bluestreak(store, drain_timeout=0, park_after=3600)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        nonlocal running
        running += 1
        await gate.wait()
        if record == "step":
            await ctx.step("s", asyncio.sleep, 0)
        else:
            await ctx.sleep("s", 1)
        await asyncio.Event().wait()

    await bluestreak.init()
    poll = asyncio.create_task(bluestreak.poll())
    later = clock.now() + 60 * SECOND
    await pass_time(clock, lambda: clock.now() > later)
    assert running == 1
    gate.set()
    await pass_time(clock, lambda: running == 3)
    bluestreak.stop()
    await poll


async def _found(store: Store, workflow_ids: Sequence[str]) -> list[Workflow]:
    found = [await store.find_workflow(workflow_id) for workflow_id in workflow_ids]
    return [workflow for workflow in found if workflow is not None]
