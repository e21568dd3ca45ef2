"""Workers are seen with what they run, for as long as they are alive."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from bluestreak_core import (
    Bluestreak,
    Client,
    RunInFlight,
    StoreRefused,
    StoreUnavailable,
    Unsupported,
    WorkerState,
)
from bluestreak_core.testing import ManualClock
from bluestreak_core.testing.clock import START
from tests.arrange import pass_time
from tests.engine.arrange import Bare, Fleet, Gate, end_at_once, on_memory, receive_one

SECOND = timedelta(seconds=1)
LEASE = 9 * SECOND

pytestmark = pytest.mark.asyncio


async def busy(fleet: Fleet, gate: Gate, **options: Any) -> Bluestreak:
    """An engine that will be inside a step of a workflow."""
    given: dict[str, Any] = {"timeout_interval": LEASE, "drain_timeout": 100}
    bluestreak = await fleet.engine(**given | options)
    bluestreak.register_handler("h", gate.handle)
    await bluestreak.start("w", "h")
    return bluestreak


async def reported(fleet: Fleet, clock: ManualClock, times: int = 1) -> None:
    """Let time pass until a worker has reported so many times more."""
    count = fleet.store.returned["register_worker"] + times
    await pass_time(clock, lambda: fleet.store.returned["register_worker"] >= count)


async def test_a_worker_is_seen_from_its_start_to_its_end(fleet: Fleet) -> None:
    bluestreak = await fleet.handling(end_at_once, max_concurrency=7)
    assert await bluestreak.workers() == []
    async with fleet.polling(bluestreak):
        await fleet.store.until_returned("register_worker")
        (worker,) = await bluestreak.workers()
        assert worker.name == bluestreak.health().worker
        assert (worker.state, worker.max_concurrency) == (WorkerState.POLLING, 7)
        assert (worker.runs, worker.in_flight, worker.free_slots) == (0, (), 7)
        assert worker.handlers == ("h",)
        assert worker.started_at == worker.seen_at == START
    assert await bluestreak.workers() == []


@on_memory
async def test_a_report_names_the_step_in_flight_and_since_when(
    fleet: Fleet, clock: ManualClock
) -> None:
    gate = Gate()
    async with fleet.polling(await busy(fleet, gate)) as bluestreak:
        await gate.inside.wait()
        await reported(fleet, clock)
        (worker,) = await bluestreak.workers()
        (run,) = worker.in_flight
        assert (run.workflow_id, run.handler_id, run.step_id) == ("w", "h", "gate")
        assert START <= run.since < worker.seen_at
        assert (worker.runs, worker.free_slots) == (1, 99)
        since = run.since
        await reported(fleet, clock, 2)
        (worker,) = await bluestreak.workers()
        assert worker.in_flight == (
            RunInFlight(workflow_id="w", handler_id="h", step_id="gate", since=since),
        )
        gate.go_on.set()


@on_memory
async def test_a_run_that_waits_has_no_step_in_flight(fleet: Fleet, clock: ManualClock) -> None:
    bluestreak = await fleet.engine(timeout_interval=LEASE, park_after=1000)
    bluestreak.register_handler("h", receive_one)
    await bluestreak.start("w", "h")
    async with fleet.polling(bluestreak):
        await fleet.store.until_begun("wait_for_message")
        await reported(fleet, clock)
        (worker,) = await bluestreak.workers()
        (run,) = worker.in_flight
        assert (run.step_id, run.since) == (None, START)


@on_memory
async def test_a_busy_worker_reports_every_third_of_its_lease(
    fleet: Fleet, clock: ManualClock
) -> None:
    gate = Gate()
    async with fleet.polling(await busy(fleet, gate, poll_interval=1000)) as bluestreak:
        await gate.inside.wait()
        await reported(fleet, clock)
        for _ in range(3):
            (before,) = await bluestreak.workers()
            await reported(fleet, clock)
            (after,) = await bluestreak.workers()
            assert LEASE / 3 <= after.seen_at - before.seen_at < LEASE / 2
        gate.go_on.set()


@on_memory
async def test_an_idle_worker_reports_when_it_polls(fleet: Fleet, clock: ManualClock) -> None:
    async with fleet.polling(timeout_interval=LEASE, poll_interval=5) as bluestreak:
        await reported(fleet, clock)
        (before,) = await bluestreak.workers()
        await reported(fleet, clock)
        (after,) = await bluestreak.workers()
        assert 5 * SECOND <= after.seen_at - before.seen_at < 6 * SECOND
        assert after.until == after.seen_at + 5 * SECOND + LEASE


async def test_a_worker_that_drains_reports_it_at_once(fleet: Fleet) -> None:
    gate = Gate()
    async with fleet.polling(await busy(fleet, gate)) as bluestreak:
        await gate.inside.wait()
        await fleet.store.until_returned("register_worker")
        bluestreak.stop()
        await fleet.store.until_returned("register_worker", 2)
        (worker,) = await bluestreak.workers()
        assert (worker.state, worker.runs, worker.free_slots) == (WorkerState.DRAINING, 1, 0)
        gate.go_on.set()
        await fleet.store.until_returned("unregister_worker")
    assert await bluestreak.workers() == []


@on_memory
async def test_a_report_names_a_hundred_runs_at_most(fleet: Fleet, clock: ManualClock) -> None:
    gate = Gate()
    async with fleet.polling(await busy(fleet, gate, max_concurrency=200)) as bluestreak:
        for number in range(119):
            await bluestreak.start(f"w{number}", "h")
        await pass_time(clock, lambda: gate.calls == 120)
        await reported(fleet, clock)
        (worker,) = await bluestreak.workers()
        assert (worker.runs, len(worker.in_flight)) == (120, 100)
        assert worker.in_flight[0].workflow_id == "w"
        gate.go_on.set()


@on_memory
@pytest.mark.parametrize("error", [StoreUnavailable("no primary"), StoreRefused("not authorized")])
async def test_a_worker_that_cannot_report_works_all_the_same(
    fleet: Fleet, clock: ManualClock, error: Exception
) -> None:
    fleet.store.failing |= {"register_worker": error, "unregister_worker": error}
    bluestreak = await fleet.engine(timeout_interval=LEASE, poll_interval=1)
    bluestreak.register_handler("h", end_at_once)
    async with fleet.polling(bluestreak):
        begun = fleet.store.begun
        await pass_time(clock, lambda: begun["register_worker"] >= 3)
        assert await bluestreak.workers() == []
        await bluestreak.start("w", "h")
        await bluestreak.wait("w")
        del fleet.store.failing["register_worker"]
        await reported(fleet, clock)
        assert len(await bluestreak.workers()) == 1
    assert begun["unregister_worker"] == 1


@on_memory
async def test_a_dead_worker_is_not_seen_for_long(fleet: Fleet, clock: ManualClock) -> None:
    fleet.store.failing["unregister_worker"] = StoreUnavailable("no primary")
    async with fleet.polling(timeout_interval=LEASE, poll_interval=5) as bluestreak:
        await fleet.store.until_returned("register_worker")
    assert len(await bluestreak.workers()) == 1
    clock.advance(LEASE + 5 * SECOND)
    assert await bluestreak.workers() == []


@on_memory
async def test_a_store_that_knows_no_workers_is_left_alone(fleet: Fleet) -> None:
    store: Any = Bare(fleet.store)
    async with fleet.polling(await fleet.engine(store)) as bluestreak:
        await fleet.store.until_returned("claim")
        with pytest.raises(Unsupported, match=r"workers\(\).* does not know its workers"):
            await Client.workers(bluestreak)
    assert not fleet.store.begun["register_worker"]
