"""Only the owner moves a workflow, and owners keep their leases while they live."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from datetime import datetime, timedelta
from typing import TypeVar

import pytest
from typing_extensions import override

from bluestreak_core import Bluestreak, Claim, Context, Status, Store, StoreUnavailable
from bluestreak_core.model import ClaimRequest
from bluestreak_core.testing import ManualClock, RecordingStore, StoreWrapper
from bluestreak_memory import MemoryStore
from tests.arrange import eventually, pass_time
from tests.engine.arrange import Fleet, Gate

pytestmark = pytest.mark.asyncio

T = TypeVar("T")

SECOND = timedelta(seconds=1)


async def _gated(fleet: Fleet, gate: Gate) -> Bluestreak:
    bluestreak = await fleet.engine(timeout_interval=9, poll_interval=3600)
    bluestreak.register_handler("h", gate.handle)
    return bluestreak


async def test_a_step_of_three_leases_is_called_once(
    fleet: Fleet, clock: ManualClock, store: RecordingStore
) -> None:
    gate, other_gate = Gate(), Gate()
    async with fleet.polling(await _gated(fleet, gate)) as bluestreak:
        await bluestreak.start("w", "h")
        await gate.inside.wait()
        async with fleet.polling(await _gated(fleet, other_gate)):
            for third in range(9):
                await clock.until_sleeping(3 * SECOND)
                clock.advance(3 * SECOND)
                await store.until_returned("renew", third + 1)
        gate.go_on.set()
        assert await bluestreak.wait("w") == "through"
    workflow = await bluestreak.find_workflow("w")
    assert workflow is not None
    assert (workflow.claims, workflow.crashes) == (1, 0)
    assert (gate.calls, other_gate.calls) == (1, 0)


async def test_all_leases_are_renewed_in_one_call(
    fleet: Fleet, clock: ManualClock, store: RecordingStore
) -> None:
    gate = Gate()
    async with fleet.polling(await _gated(fleet, gate)) as bluestreak:
        for number in range(10):
            await bluestreak.start(f"w{number}", "h")
        await eventually(lambda: gate.calls == 10)
        await clock.until_sleeping(3 * SECOND)
        clock.advance(3 * SECOND)
        await store.until_returned("renew")
        for number in range(10):
            workflow = await bluestreak.find_workflow(f"w{number}")
            assert workflow is not None
            assert workflow.timeout_at == clock.now() + 9 * SECOND
        assert store.begun["renew"] == 1
        gate.go_on.set()
        for number in range(10):
            await bluestreak.wait(f"w{number}")


async def test_a_run_that_was_taken_over_is_stopped_and_writes_nothing(
    fleet: Fleet, clock: ManualClock, store: RecordingStore, caplog: pytest.LogCaptureFixture
) -> None:
    gate = Gate()
    async with fleet.polling(await _gated(fleet, gate)) as bluestreak:
        await bluestreak.start("w", "h")
        await gate.inside.wait()
        await clock.until_sleeping(3 * SECOND)
        (thief,) = await store.claim(
            ClaimRequest(worker="thief", now=clock.now() + 9 * SECOND, lease=99 * SECOND, limit=1)
        )
        before = await bluestreak.find_workflow("w")
        clock.advance(3 * SECOND)
        await store.until_returned("renew")
        await eventually(lambda: bluestreak.health().runs == 0)
        assert gate.cancelled
        assert await bluestreak.find_workflow("w") == before
        await store.finish(thief, "the thief's", clock.now())
        assert await bluestreak.wait("w") == "the thief's"
    assert "claim 1 was taken over; its run wrote nothing more" in caplog.text


async def test_a_run_that_outlives_its_lease_is_stopped_and_writes_nothing(
    fleet: Fleet, clock: ManualClock, store: RecordingStore
) -> None:
    gate = Gate()
    async with fleet.polling(await _gated(fleet, gate)) as bluestreak:
        await bluestreak.start("w", "h")
        await gate.inside.wait()
        store.failing["renew"] = StoreUnavailable("no route")
        before = await bluestreak.find_workflow("w")
        bluestreak.stop()  # so that it does not claim again what it loses
        await clock.until_sleeping(10 * SECOND)
        clock.advance(9 * SECOND)
        await eventually(lambda: bluestreak.health().runs == 0)
        assert gate.cancelled
        assert await bluestreak.find_workflow("w") == before


class Laptop(ManualClock):
    """Time that goes on while the machine is suspended; its timers stand still meanwhile."""

    def __init__(self) -> None:
        super().__init__()
        self._suspended = timedelta(0)

    @override
    def now(self) -> datetime:
        return super().now() + self._suspended

    @override
    def monotonic(self) -> float:
        return super().monotonic() + self._suspended.total_seconds()

    def suspend(self, span: timedelta) -> None:
        """Close it, and open it again that much later."""
        self._suspended += span


async def test_a_run_whose_machine_was_suspended_is_stopped_and_renews_nothing() -> None:
    clock = Laptop()
    store = RecordingStore(MemoryStore(clock=clock))
    bluestreak = Bluestreak(store, timeout_interval=90, poll_interval=7200)
    gate = Gate()
    bluestreak.register_handler("h", gate.handle)
    await bluestreak.init()
    poll = asyncio.create_task(bluestreak.poll())
    await bluestreak.start("w", "h")
    await gate.inside.wait()
    await store.until_returned("claim", 2)
    await clock.until_sleeping(30 * SECOND, count=2)
    bluestreak.stop()  # so that it does not claim again what it loses
    clock.suspend(timedelta(hours=1))
    clock.advance(30 * SECOND)
    await poll
    assert gate.cancelled
    assert store.begun["renew"] == 0
    await bluestreak.close()


async def test_nothing_is_called_under_a_lease_that_was_over_when_the_machine_woke_up() -> None:
    clock = Laptop()
    store = RecordingStore(MemoryStore(clock=clock))
    bluestreak = Bluestreak(store, timeout_interval=90)
    called: list[str] = []

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        called.append("handler")
        clock.suspend(timedelta(hours=1))
        bluestreak.stop()
        await ctx.step("s", called.append, "step")

    await bluestreak.init()
    await bluestreak.start("w", "h")
    await bluestreak.poll()
    assert called == ["handler"]
    assert store.begun["save_step"] == 0
    await bluestreak.close()


async def test_a_step_that_returns_after_the_lease_is_not_recorded(
    fleet: Fleet, clock: ManualClock, store: RecordingStore, caplog: pytest.LogCaptureFixture
) -> None:
    bluestreak = await fleet.engine(timeout_interval=9)

    async def step() -> str:
        clock.advance(10 * SECOND)  # as if by SIGSTOP: no other code has run meanwhile
        return "late"

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        return await ctx.step("s", step)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await eventually(lambda: "claim 1 outlived its lease" in caplog.text)
    assert store.begun["save_step"] == 0
    assert await bluestreak.find_step("w", "s") is None


class LateRenewals(StoreWrapper):
    """Carries renewals out, and holds their answers back."""

    def __init__(self, store: Store) -> None:
        super().__init__(store)
        self.carried_out = asyncio.Event()
        self.answer = asyncio.Event()

    @override
    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        result = await call()
        if name == "renew":
            self.carried_out.set()
            await self.answer.wait()
        return result


async def test_a_renewal_that_is_answered_after_the_lease_does_not_make_its_end_a_failure(
    fleet: Fleet, clock: ManualClock, store: RecordingStore
) -> None:
    renewals = LateRenewals(store)
    bluestreak = await fleet.engine(renewals, timeout_interval=9, max_failures=0)
    runs: list[None] = []

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        runs.append(None)
        if len(runs) == 1:
            await renewals.carried_out.wait()
            renewals.answer.set()
            clock.advance(6 * SECOND)
        return await ctx.step("s", lambda: "done")

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await eventually(lambda: len(runs) == 1)
        await clock.until_sleeping(3 * SECOND)
        clock.advance(3 * SECOND)
        await eventually(lambda: bluestreak.health().runs == 0)
        while len(runs) < 2:
            # Time stands still while the store is asked, however long it takes to answer.
            if all(store.begun[name] == store.returned[name] for name in ("claim", "history")):
                clock.advance(timedelta(milliseconds=10))
            await asyncio.sleep(0)
        assert await bluestreak.wait("w") == "done"
    workflow = await bluestreak.find_workflow("w")
    assert workflow is not None
    assert (workflow.claims, workflow.failures) == (2, 0)


async def test_a_write_is_tried_until_the_store_is_back(
    fleet: Fleet, clock: ManualClock, store: RecordingStore
) -> None:
    gate = Gate()
    async with fleet.polling(await _gated(fleet, gate)) as bluestreak:
        await bluestreak.start("w", "h")
        await gate.inside.wait()
        store.failing["save_step"] = store.failing["finish"] = StoreUnavailable("no route")
        gate.go_on.set()
        for name in ("save_step", "finish"):
            await pass_time(clock, lambda: store.begun[name] == 6)  # noqa: B023
            del store.failing[name]
            await pass_time(clock, lambda: store.begun[name] == 7)  # noqa: B023
            await store.until_returned(name)
        assert await bluestreak.wait("w") == "through"
    assert gate.calls == 1


async def test_an_expired_workflow_is_resumed_over_its_recorded_steps(
    fleet: Fleet, clock: ManualClock, store: RecordingStore
) -> None:
    (claim,) = await _claimed_by_a_dead_worker(store, clock)
    await store.save_step(claim, "gate", "recorded", clock.now())
    clock.advance(9 * SECOND)
    gate = Gate()
    async with fleet.polling(await _gated(fleet, gate)) as bluestreak:
        assert await bluestreak.wait("w") == "recorded"
    workflow = await bluestreak.find_workflow("w")
    assert workflow is not None
    assert (workflow.status, workflow.claims) == (Status.FINISHED, 2)
    assert gate.calls == 0


async def _claimed_by_a_dead_worker(store: RecordingStore, clock: ManualClock) -> Sequence[Claim]:
    bluestreak = Bluestreak(store)
    await bluestreak.init()
    await bluestreak.start("w", "h")
    return await store.claim(
        ClaimRequest(worker="dead", now=clock.now(), lease=9 * SECOND, limit=1)
    )
