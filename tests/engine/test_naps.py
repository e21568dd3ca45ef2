"""Naps outlive the process, and long ones leave memory."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from bluestreak_core import Bluestreak, Context, DuplicateNap, Status, WorkflowAborted
from bluestreak_core.testing import ManualClock, RecordingStore
from tests.arrange import eventually
from tests.engine.arrange import Fleet

pytestmark = pytest.mark.asyncio

SECOND = timedelta(seconds=1)


async def _napper(fleet: Fleet, span: Any, calls: list[str], **options: Any) -> Bluestreak:
    """An engine with a workflow of a step, a nap and a step."""
    bluestreak = await fleet.engine(**options)

    @bluestreak.handler("nap")
    async def nap(ctx: Context, input: None) -> str:
        calls.append("run")
        await ctx.step("before", calls.append, "before")
        await ctx.sleep("nap", span)
        await ctx.step("after", calls.append, "after")
        return "awake"

    return bluestreak


@pytest.mark.parametrize("span", [timedelta(days=30), timedelta(days=3653)], ids=str)
async def test_a_long_nap_wakes_when_it_should_after_a_restart(
    fleet: Fleet, clock: ManualClock, store: RecordingStore, span: timedelta
) -> None:
    calls: list[str] = []
    start = clock.now()
    async with fleet.polling(await _napper(fleet, span, calls)) as bluestreak:
        await bluestreak.start("w", "nap")
        await store.until_returned("park")
    clock.advance(span - SECOND)
    async with fleet.polling(await _napper(fleet, span, calls)) as restarted:
        await clock.until_sleeping(SECOND)
        nap = await restarted.find_nap("w", "nap")
        assert nap is not None
        assert nap.wake_up_at == start + span
        assert calls == ["run", "before"]
        clock.advance(SECOND)
        assert await restarted.wait("w") == "awake"
    assert calls == ["run", "before", "run", "after"]


async def test_a_parked_workflow_leaves_memory(
    fleet: Fleet, store: RecordingStore, clock: ManualClock
) -> None:
    calls: list[str] = []
    napper = await _napper(fleet, 60, calls, poll_interval=3600, timeout_interval=3600)
    async with fleet.polling(napper) as bluestreak:
        await bluestreak.start("w", "nap")
        await clock.until_sleeping(60 * SECOND)
        await eventually(lambda: bluestreak.health().runs == 0)
        names = {repr(task.get_coro()) for task in asyncio.all_tasks()}
        assert not [name for name in names if " Run." in name or " Context." in name]
        workflow = await bluestreak.find_workflow("w")
        assert workflow is not None
        assert (workflow.status, workflow.timeout_at) == (Status.IDLE, clock.now() + 60 * SECOND)


async def test_a_short_nap_stays_in_memory(
    fleet: Fleet, store: RecordingStore, clock: ManualClock
) -> None:
    calls: list[str] = []
    async with fleet.polling(await _napper(fleet, 4, calls, park_after=4)) as bluestreak:
        await bluestreak.start("w", "nap")
        await clock.until_sleeping(4 * SECOND)
        clock.advance(4 * SECOND)
        assert await bluestreak.wait("w") == "awake"
    assert calls == ["run", "before", "after"]
    assert store.begun["park"] == 0


async def test_a_nap_of_nothing_does_not_wait(fleet: Fleet, store: RecordingStore) -> None:
    calls: list[str] = []
    async with fleet.polling(await _napper(fleet, 0, calls, park_after=0)) as bluestreak:
        await bluestreak.start("w", "nap")
        assert await bluestreak.wait("w") == "awake"
    assert store.begun["park"] == 0


async def test_a_nap_id_is_used_once_in_a_run(fleet: Fleet) -> None:
    bluestreak = await fleet.engine(max_failures=0)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("n", int)  # steps and naps have names of their own
        await ctx.sleep("n", 0)
        await ctx.sleep("n", 0)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match="DuplicateNap") as aborted:
            await bluestreak.wait("w")
    assert aborted.value.error_message == str(DuplicateNap("w", "n"))


async def test_a_siblings_step_in_flight_holds_off_parking(
    fleet: Fleet, store: RecordingStore, clock: ManualClock
) -> None:
    bluestreak = await fleet.engine(park_after=4, timeout_interval=9999, poll_interval=9999)
    inside, go_on = asyncio.Event(), asyncio.Event()
    calls: list[str] = []

    async def slow() -> None:
        calls.append("slow")
        inside.set()
        await go_on.wait()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.sleep("nap", 3600))
            group.create_task(ctx.step("slow", slow))
        return "both"

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await inside.wait()
        for _ in range(5):
            await clock.until_sleeping(4 * SECOND)
            clock.advance(4 * SECOND)
        assert store.begun["park"] == 0
        go_on.set()
        await store.until_returned("save_step")
        await clock.until_sleeping(4 * SECOND)
        clock.advance(4 * SECOND)
        await store.until_returned("park")
        await clock.until_sleeping(3576 * SECOND)
        clock.advance(3576 * SECOND)
        assert await bluestreak.wait("w") == "both"
    assert calls == ["slow"]


async def test_naps_side_by_side_park_until_the_first_ends(
    fleet: Fleet, store: RecordingStore, clock: ManualClock
) -> None:
    bluestreak = await fleet.engine(park_after=4, timeout_interval=9999, poll_interval=9999)
    start = clock.now()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        await asyncio.gather(ctx.sleep("long", 600), ctx.sleep("short", 300))
        return "both"

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await clock.until_sleeping(4 * SECOND, count=2)
        clock.advance(4 * SECOND)
        await store.until_returned("park")
        parked = await bluestreak.find_workflow("w")
        assert parked is not None
        assert parked.timeout_at == start + 300 * SECOND
        await clock.until_sleeping(296 * SECOND)
        clock.advance(296 * SECOND)
        await clock.until_sleeping(4 * SECOND)
        clock.advance(4 * SECOND)
        await store.until_returned("park", 2)
        await clock.until_sleeping(296 * SECOND)
        clock.advance(296 * SECOND)
        assert await bluestreak.wait("w") == "both"


async def test_code_outside_steps_runs_again_on_each_resume(
    fleet: Fleet, store: RecordingStore, clock: ManualClock
) -> None:
    calls: list[str] = []
    napper = await _napper(fleet, 60, calls, poll_interval=3600, timeout_interval=3600)
    async with fleet.polling(napper) as bluestreak:
        await bluestreak.start("w", "nap")
        await clock.until_sleeping(60 * SECOND)
        clock.advance(60 * SECOND)
        assert await bluestreak.wait("w") == "awake"
    assert calls.count("run") == 2


async def test_a_handler_that_swallows_its_cancellation_meets_it_again(
    fleet: Fleet, store: RecordingStore, clock: ManualClock
) -> None:
    bluestreak = await fleet.engine(poll_interval=3600, timeout_interval=3600)
    seen: list[str] = []

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        try:
            await ctx.sleep("nap", 60)
        except asyncio.CancelledError:
            seen.append("swallowed")
            try:
                await ctx.step("after all", seen.append, "called")
            except asyncio.CancelledError:
                seen.append("again")
            return "dropped"
        return "kept"

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await store.until_returned("park")
        assert seen == ["swallowed", "again"]
        await clock.until_sleeping(60 * SECOND)
        clock.advance(60 * SECOND)
        assert await bluestreak.wait("w") == "kept"
