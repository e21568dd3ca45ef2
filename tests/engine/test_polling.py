"""The poll loop: slots, unknown handlers, outages, stopping."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from bluestreak_core import (
    AlreadyPolling,
    Bluestreak,
    Context,
    HandlerNotFound,
    NotInitialised,
    Status,
    StoreRefused,
    StoreUnavailable,
    WorkerState,
    Workflow,
)
from bluestreak_core.model import ClaimRequest
from bluestreak_core.testing import ManualClock, RecordingStore
from bluestreak_memory import MemoryStore
from tests.arrange import eventually, pass_time
from tests.engine.arrange import Fleet, Gate

SECOND = timedelta(seconds=1)


async def _find(bluestreak: Bluestreak, workflow_id: str = "w") -> Workflow:
    workflow = await bluestreak.find_workflow(workflow_id)
    assert workflow is not None
    return workflow


# Slots ------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_worker_never_holds_more_than_it_has_slots(
    fleet: Fleet, store: RecordingStore
) -> None:
    gate = Gate()
    bluestreak = await fleet.engine(max_concurrency=3)
    bluestreak.register_handler("h", gate.handle)
    for number in range(8):
        await bluestreak.start(f"w{number}", "h")
    async with fleet.polling(bluestreak):
        await eventually(lambda: gate.calls == 3)
        running = [(await _find(bluestreak, f"w{n}")).status for n in range(8)]
        assert running.count(Status.RUNNING) == 3
        assert bluestreak.health().runs == 3
        gate.go_on.set()
        for number in range(8):
            await bluestreak.wait(f"w{number}")
    assert gate.calls == 8


@pytest.mark.asyncio
async def test_two_workers_share_the_work(fleet: Fleet) -> None:
    ran: list[str] = []

    async def engine() -> Bluestreak:
        bluestreak = await fleet.engine(max_concurrency=5)

        @bluestreak.handler("h")
        async def handle(ctx: Context, input: None) -> None:
            ran.append(ctx.workflow_id)

        return bluestreak

    first, second = await engine(), await engine()
    for number in range(40):
        await first.start(f"w{number}", "h")
    async with fleet.polling(first), fleet.polling(second):
        for number in range(40):
            await first.wait(f"w{number}")
    assert sorted(ran) == sorted(f"w{number}" for number in range(40))


# Unknown handlers -------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_an_unknown_handler_ends_polling_after_handing_back_and_draining(
    fleet: Fleet,
) -> None:
    gate = Gate()
    bluestreak = await fleet.engine()
    bluestreak.register_handler("known", gate.handle)
    await bluestreak.start("drained", "known")
    poll = asyncio.create_task(bluestreak.poll())
    await gate.inside.wait()
    await bluestreak.start("w", "unknown")
    await eventually(lambda: bluestreak.health().state is WorkerState.DRAINING)
    assert not poll.done()
    gate.go_on.set()
    with pytest.raises(HandlerNotFound, match="workflow 'w' needs handler 'unknown'"):
        await poll
    assert await bluestreak.wait("drained") == "through"
    handed_back = await _find(bluestreak)
    assert (handed_back.status, handed_back.crashes) == (Status.IDLE, 0)


@pytest.mark.asyncio
async def test_unknown_handlers_can_be_left_to_other_workers(fleet: Fleet) -> None:
    bluestreak = await fleet.engine(unknown_handler="skip")

    @bluestreak.handler("known")
    async def handle(ctx: Context, input: None) -> str:
        return "done"

    await bluestreak.start("w1", "unknown")
    await bluestreak.start("w2", "known")
    async with fleet.polling(bluestreak):
        assert await bluestreak.wait("w2") == "done"
    assert (await _find(bluestreak, "w1")).claims == 0


# Outages ----------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_loop_outlives_a_hundred_failures_in_a_row(
    fleet: Fleet, clock: ManualClock, store: RecordingStore
) -> None:
    bluestreak = await fleet.engine()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        return "done"

    store.failing["claim"] = StoreUnavailable("no route to host")
    await bluestreak.start("w", "h")
    async with fleet.polling(bluestreak):
        await pass_time(clock, lambda: bluestreak.health().store_failures == 100)
        assert bluestreak.health().last_store_error == "no route to host"
        del store.failing["claim"]
        await pass_time(clock, lambda: store.begun["claim"] == 101)
        assert await bluestreak.wait("w") == "done"
        assert bluestreak.health().store_failures == 0
        assert bluestreak.health().last_contact_at == clock.now()


@pytest.mark.asyncio
async def test_wrong_credentials_end_polling_which_is_logged(
    fleet: Fleet, store: RecordingStore, caplog: pytest.LogCaptureFixture
) -> None:
    bluestreak = await fleet.engine()
    store.failing["claim"] = StoreRefused("authentication\nfailed")
    with pytest.raises(StoreRefused, match="authentication\nfailed"):
        await bluestreak.poll()
    [line] = [record for record in caplog.records if record.levelname == "ERROR"]
    assert line.getMessage().endswith(r"poll ends: StoreRefused('authentication\nfailed')")


@pytest.mark.asyncio
@pytest.mark.parametrize("call", ["renew", "finish", "history", "save_step"])
async def test_a_refusal_anywhere_ends_polling(
    fleet: Fleet, clock: ManualClock, store: RecordingStore, call: str
) -> None:
    bluestreak = await fleet.engine(timeout_interval=9, drain_timeout=0)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        if call == "renew":
            await clock.sleep(3600 * SECOND)
        await ctx.step("s", int)

    await bluestreak.start("w", "h")
    if call == "history":  # which a first run does not read
        (claim,) = await store.claim(
            ClaimRequest(worker="earlier", now=clock.now(), lease=SECOND, limit=1)
        )
        await store.release(claim, clock.now())
    store.failing[call] = StoreRefused("not authorised")
    poll = asyncio.create_task(bluestreak.poll())
    if call == "renew":
        await clock.until_sleeping(3600 * SECOND)
        clock.advance(3 * SECOND)
    with pytest.raises(StoreRefused, match="not authorised"):
        await poll


@pytest.mark.asyncio
async def test_a_programming_error_ends_polling(fleet: Fleet, store: RecordingStore) -> None:
    bluestreak = await fleet.engine()
    store.failing["wait_for_work"] = ZeroDivisionError("a bug")
    with pytest.raises(ZeroDivisionError, match="a bug"):
        await bluestreak.poll()


# Stopping ---------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_stopping_lets_runs_go_on_for_a_while(fleet: Fleet, clock: ManualClock) -> None:
    gate = Gate()
    bluestreak = await fleet.engine(drain_timeout=7)
    bluestreak.register_handler("h", gate.handle)
    await bluestreak.start("w", "h")
    poll = asyncio.create_task(bluestreak.poll())
    await gate.inside.wait()
    bluestreak.stop()
    await clock.until_sleeping(7 * SECOND)
    assert bluestreak.health().state is WorkerState.DRAINING
    gate.go_on.set()
    await poll
    assert (await _find(bluestreak)).status is Status.FINISHED
    assert bluestreak.health().state is WorkerState.STOPPED


@pytest.mark.asyncio
async def test_stopping_hands_back_what_does_not_end_in_time(
    fleet: Fleet, clock: ManualClock
) -> None:
    gate = Gate()
    bluestreak = await fleet.engine(drain_timeout=7)
    bluestreak.register_handler("h", gate.handle)
    await bluestreak.start("w", "h")
    poll = asyncio.create_task(bluestreak.poll())
    await gate.inside.wait()
    bluestreak.stop()
    await clock.until_sleeping(7 * SECOND)
    clock.advance(7 * SECOND)
    await poll
    workflow = await _find(bluestreak)
    assert (workflow.status, workflow.timeout_at) == (Status.IDLE, clock.now())
    assert gate.cancelled


@pytest.mark.asyncio
async def test_a_second_stop_skips_the_drain(fleet: Fleet) -> None:
    gate = Gate()
    bluestreak = await fleet.engine(drain_timeout=3600)
    bluestreak.register_handler("h", gate.handle)
    await bluestreak.start("w", "h")
    poll = asyncio.create_task(bluestreak.poll())
    await gate.inside.wait()
    bluestreak.stop()
    bluestreak.stop()
    await poll
    assert (await _find(bluestreak)).status is Status.IDLE


@pytest.mark.asyncio
async def test_cancelling_poll_skips_the_drain_and_hands_back(fleet: Fleet) -> None:
    gate = Gate()
    bluestreak = await fleet.engine(drain_timeout=3600)
    bluestreak.register_handler("h", gate.handle)
    await bluestreak.start("w", "h")
    poll = asyncio.create_task(bluestreak.poll())
    await gate.inside.wait()
    poll.cancel()
    with pytest.raises(asyncio.CancelledError):
        await poll
    assert (await _find(bluestreak)).status is Status.IDLE


@pytest.mark.asyncio
@pytest.mark.parametrize("span", [3, 3600])
async def test_stopping_in_a_nap_parks_at_once(fleet: Fleet, clock: ManualClock, span: int) -> None:
    bluestreak = await fleet.engine(drain_timeout=3600, park_after=3600)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.sleep("nap", span)

    await bluestreak.start("w", "h")
    poll = asyncio.create_task(bluestreak.poll())
    await clock.until_sleeping(span * SECOND)
    bluestreak.stop()
    await poll
    workflow = await _find(bluestreak)
    assert (workflow.status, workflow.timeout_at) == (Status.IDLE, clock.now() + span * SECOND)


@pytest.mark.asyncio
async def test_stopping_in_an_outage_returns_when_the_lease_has_run_out(
    fleet: Fleet, clock: ManualClock, store: RecordingStore
) -> None:
    gate = Gate()
    bluestreak = await fleet.engine(timeout_interval=9, drain_timeout=0)
    bluestreak.register_handler("h", gate.handle)
    await bluestreak.start("w", "h")
    poll = asyncio.create_task(bluestreak.poll())
    await gate.inside.wait()
    for call in ("claim", "release", "renew"):
        store.failing[call] = StoreUnavailable("no route to host")
    bluestreak.stop()
    await store.until_begun("release")
    assert not poll.done()
    while not poll.done():
        clock.advance(SECOND)
        await asyncio.sleep(0)
    await poll
    assert gate.cancelled


@pytest.mark.asyncio
async def test_an_unknown_handler_that_cannot_be_released_still_ends_polling(
    fleet: Fleet, store: RecordingStore, caplog: pytest.LogCaptureFixture
) -> None:
    bluestreak = await fleet.engine()
    store.failing["release"] = StoreUnavailable("no route to host")
    await bluestreak.start("w", "unknown")
    with pytest.raises(HandlerNotFound):
        await bluestreak.poll()
    reason = "StoreUnavailable('no route to host')"
    assert f"workflow 'w' could not be released: {reason}" in caplog.text


@pytest.mark.asyncio
async def test_stopping_in_an_outage_of_an_idle_worker_returns_at_once(
    fleet: Fleet, store: RecordingStore
) -> None:
    bluestreak = await fleet.engine()
    store.failing["claim"] = StoreUnavailable("no route to host")
    poll = asyncio.create_task(bluestreak.poll())
    await store.until_begun("claim")
    bluestreak.stop()
    await poll


@pytest.mark.asyncio
async def test_a_handler_that_swallows_its_cancellation_is_cancelled_again(
    fleet: Fleet, clock: ManualClock
) -> None:
    bluestreak = await fleet.engine(drain_timeout=0)
    cancellations: list[int] = []
    inside = asyncio.Event()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        inside.set()
        while len(cancellations) < 3:
            try:
                await asyncio.Event().wait()
            except asyncio.CancelledError:
                cancellations.append(1)
        return "dropped"

    await bluestreak.start("w", "h")
    poll = asyncio.create_task(bluestreak.poll())
    await inside.wait()
    bluestreak.stop()
    for seen in (1, 2):
        await eventually(lambda: len(cancellations) == seen)  # noqa: B023
        await clock.until_sleeping(SECOND)
        clock.advance(SECOND)
    await poll
    assert (await _find(bluestreak)).status is Status.IDLE


@pytest.mark.asyncio
async def test_a_sync_step_that_never_returns_does_not_keep_a_worker(fleet: Fleet) -> None:
    bluestreak = await fleet.engine(drain_timeout=0)
    inside, go_on = threading.Event(), threading.Event()

    def stuck() -> None:
        inside.set()
        go_on.wait()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("s", stuck)

    await bluestreak.start("w", "h")
    poll = asyncio.create_task(bluestreak.poll())
    await asyncio.to_thread(inside.wait)
    bluestreak.stop()
    await poll
    go_on.set()
    assert (await _find(bluestreak)).status is Status.IDLE
    assert await bluestreak.find_step("w", "s") is None


@pytest.mark.asyncio
@pytest.mark.parametrize("where", ["constructor", "attribute", "argument"])
async def test_should_stop_ends_polling(fleet: Fleet, clock: ManualClock, where: str) -> None:
    stop = threading.Event()
    bluestreak = await fleet.engine(should_stop=stop.is_set if where == "constructor" else None)
    argument: Any = stop.is_set if where == "argument" else None
    poll = asyncio.create_task(bluestreak.poll(should_stop=argument))
    await clock.until_sleeping(5 * SECOND)
    if where == "attribute":
        bluestreak.should_stop = stop.is_set
    stop.set()
    clock.advance(SECOND)
    await poll


@pytest.mark.asyncio
async def test_should_stop_can_be_set_from_another_thread(fleet: Fleet, clock: ManualClock) -> None:
    bluestreak = await fleet.engine()
    poll = asyncio.create_task(bluestreak.poll())
    await clock.until_sleeping(5 * SECOND)
    await asyncio.to_thread(setattr, bluestreak, "should_stop", lambda: True)
    await poll


@pytest.mark.asyncio
async def test_polls_own_should_stop_outweighs_the_engines(
    fleet: Fleet, clock: ManualClock
) -> None:
    stop = threading.Event()
    bluestreak = await fleet.engine(should_stop=lambda: True)
    poll = asyncio.create_task(bluestreak.poll(should_stop=stop.is_set))
    await clock.until_sleeping(5 * SECOND)
    bluestreak.should_stop = lambda: True
    await pass_time(clock, lambda: clock.monotonic() > 1)
    assert not poll.done()
    stop.set()
    clock.advance(SECOND)
    await poll


@pytest.mark.asyncio
async def test_nothing_is_claimed_once_should_stop_is_true(
    fleet: Fleet, store: RecordingStore
) -> None:
    bluestreak = await fleet.engine(should_stop=lambda: True)
    await bluestreak.poll()
    assert store.begun["claim"] == 0


@pytest.mark.asyncio
async def test_a_should_stop_that_raises_ends_polling(fleet: Fleet) -> None:
    bluestreak = await fleet.engine(should_stop=lambda: 1 // 0 == 0)
    with pytest.raises(ZeroDivisionError):
        await bluestreak.poll()


@pytest.mark.asyncio
async def test_a_stop_before_polling_stops_that_poll_only(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        return "done"

    bluestreak.stop()
    await bluestreak.poll()
    await bluestreak.start("w", "h")
    async with fleet.polling(bluestreak):
        assert await bluestreak.wait("w") == "done"


@pytest.mark.asyncio
async def test_closing_stops_polling_first(fleet: Fleet) -> None:
    gate = Gate()
    bluestreak = await fleet.engine()
    bluestreak.register_handler("h", gate.handle)
    await bluestreak.start("w", "h")
    poll = asyncio.create_task(bluestreak.poll())
    await gate.inside.wait()
    closing = asyncio.create_task(bluestreak.close())
    await eventually(lambda: bluestreak.health().state is WorkerState.DRAINING)
    gate.go_on.set()
    await closing
    await poll
    await bluestreak.init()
    assert (await _find(bluestreak)).status is Status.FINISHED


@pytest.mark.asyncio
async def test_one_object_polls_once_at_a_time(fleet: Fleet) -> None:
    async with fleet.polling() as bluestreak:
        await eventually(lambda: bluestreak.health().state is WorkerState.POLLING)
        with pytest.raises(AlreadyPolling):
            await bluestreak.poll()


@pytest.mark.asyncio
async def test_calls_before_init_and_after_close_say_so(fleet: Fleet) -> None:
    bluestreak = Bluestreak(fleet.store)
    calls: dict[str, Callable[[], Awaitable[Any]]] = {
        "start()": lambda: bluestreak.start("w", "h"),
        "wait()": lambda: bluestreak.wait("w"),
        "poll()": bluestreak.poll,
        "find_workflow()": lambda: bluestreak.find_workflow("w"),
        "find_step()": lambda: bluestreak.find_step("w", "s"),
        "find_nap()": lambda: bluestreak.find_nap("w", "n"),
    }
    for name, call in calls.items():
        with pytest.raises(NotInitialised, match=rf"^{name[:-2]}\(\) needs init"):
            await call()
    async with bluestreak:
        assert await bluestreak.find_workflow("w") is None
    with pytest.raises(NotInitialised):
        await bluestreak.start("w", "h")
    await fleet.store.init()


def test_a_poll_that_its_event_loop_abandons_hands_back() -> None:
    store = MemoryStore()
    bluestreak = Bluestreak(store)

    async def main() -> None:
        gate = Gate()
        bluestreak.register_handler("h", gate.handle)
        await bluestreak.init()
        await bluestreak.start("w", "h")
        background.append(asyncio.create_task(bluestreak.poll()))
        await gate.inside.wait()

    async def status() -> Status:
        await bluestreak.init()
        return (await _find(bluestreak)).status

    background: list[asyncio.Task[None]] = []
    asyncio.run(main())
    assert asyncio.run(status()) is Status.IDLE


@pytest.mark.asyncio
async def test_an_engine_shows_its_store_and_its_state(fleet: Fleet) -> None:
    bluestreak = Bluestreak(MemoryStore())
    assert repr(bluestreak) == "<Bluestreak on <MemoryStore of 0 workflows>, stopped>"


@pytest.mark.asyncio
async def test_a_should_stop_that_was_cancelled_from_within_ends_polling(fleet: Fleet) -> None:
    def look() -> bool:
        raise asyncio.CancelledError

    bluestreak = await fleet.engine()
    with pytest.raises(RuntimeError, match="should_stop was cancelled from within"):
        await bluestreak.poll(should_stop=look)
