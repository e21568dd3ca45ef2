"""What a worker reports of itself: whether it is ready, and what it has done."""

from __future__ import annotations

from datetime import timedelta

import pytest

from bluestreak_core import Context, RunEnd, StoreUnavailable, WorkflowAborted
from bluestreak_core.testing import ManualClock
from tests.arrange import eventually, pass_time
from tests.engine.arrange import DAY, Fleet, Gate, end_at_once, on_memory

SECOND = timedelta(seconds=1)

pytestmark = [pytest.mark.asyncio, on_memory]


async def test_a_worker_is_ready_from_its_first_claim_until_it_drains(fleet: Fleet) -> None:
    gate = Gate()
    bluestreak = await fleet.handling(gate.handle, drain_timeout=DAY)
    await bluestreak.start("w", "h")
    assert not bluestreak.health().is_ready
    async with fleet.polling(bluestreak):
        assert not bluestreak.health().is_ready
        await gate.inside.wait()
        assert bluestreak.health().is_ready
        bluestreak.stop()
        assert not bluestreak.health().is_ready


async def test_a_worker_is_not_ready_while_its_store_fails(
    fleet: Fleet, clock: ManualClock
) -> None:
    bluestreak = await fleet.engine()
    async with fleet.polling(bluestreak):
        await eventually(lambda: bluestreak.health().is_ready)
        fleet.store.failing["claim"] = StoreUnavailable("no route to host")
        await pass_time(clock, lambda: not bluestreak.health().is_ready)
        assert bluestreak.health().store_failures == 1
        fleet.store.failing.clear()
        await pass_time(clock, lambda: bluestreak.health().is_ready)


async def test_a_worker_is_not_ready_once_its_store_is_silent_for_a_lease_longer_than_usual(
    fleet: Fleet, clock: ManualClock
) -> None:
    bluestreak = await fleet.engine(timeout_interval=9, poll_interval=20)
    async with fleet.polling(bluestreak):
        await eventually(lambda: bluestreak.health().is_ready)
        clock.advance(29 * SECOND)
        assert bluestreak.health().is_ready
        clock.advance(timedelta(milliseconds=1))
        assert not bluestreak.health().is_ready
        assert bluestreak.health().store_failures == 0
        await pass_time(clock, lambda: bluestreak.health().is_ready)


async def test_a_worker_whose_slots_are_taken_for_long_stays_ready(
    fleet: Fleet, clock: ManualClock
) -> None:
    gate = Gate()
    bluestreak = await fleet.engine(timeout_interval=9, max_concurrency=1)
    bluestreak.register_handler("h", gate.handle, timeout_interval=DAY)
    bluestreak.register_handler("other", end_at_once)
    await bluestreak.start("w", "h")
    async with fleet.polling(bluestreak):
        await gate.inside.wait()
        until = clock.now() + timedelta(minutes=1)
        await pass_time(clock, lambda: clock.now() > until or not bluestreak.health().is_ready)
        assert bluestreak.health().is_ready
        renewed_at = bluestreak.health().last_contact_at
        assert renewed_at is not None
        assert until - renewed_at > timedelta(seconds=50)


async def test_a_worker_counts_its_claims_and_how_their_runs_end(
    fleet: Fleet, clock: ManualClock
) -> None:
    bluestreak = await fleet.handling(end_at_once, park_after=0, max_failures=1)

    @bluestreak.handler("doomed")
    async def doomed(ctx: Context, input: None) -> None:
        raise ValueError("broken")

    @bluestreak.handler("patient")
    async def patient(ctx: Context, input: None) -> None:
        await ctx.sleep("night", DAY)

    for workflow_id, handler in (("a", "h"), ("b", "h"), ("c", "doomed"), ("d", "patient")):
        await bluestreak.start(workflow_id, handler)
    assert (bluestreak.health().claims, bluestreak.health().ends) == (0, {})
    async with fleet.polling(bluestreak):
        await pass_time(clock, lambda: sum(bluestreak.health().ends.values()) == 5)
        with pytest.raises(WorkflowAborted):
            await bluestreak.wait("c")
        health = bluestreak.health()
        assert health.claims == 5
        assert health.ends == {
            RunEnd.FINISHED: 2,
            RunEnd.FAILED: 1,
            RunEnd.ABORTED: 1,
            RunEnd.PARKED: 1,
        }


async def test_a_run_whose_claim_is_taken_counts_as_lost(fleet: Fleet, clock: ManualClock) -> None:
    gate = Gate()
    bluestreak = await fleet.handling(gate.handle)
    await bluestreak.start("w", "h")
    async with fleet.polling(bluestreak):
        await gate.inside.wait()
        await bluestreak.cancel("w")
        await pass_time(clock, lambda: not bluestreak.health().runs)
        assert bluestreak.health().ends == {RunEnd.LOST: 1}
