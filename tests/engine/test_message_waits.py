"""Waits side by side, and on workers that stop."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from typing_extensions import override

from bluestreak_core import AlreadyReceiving, Context, MessageTimeout, Send, Status
from bluestreak_core.testing import ManualClock, RecordingStore, StoreWrapper
from bluestreak_memory import MemoryStore
from tests.arrange import eventually, pass_time
from tests.engine.arrange import (
    Fleet,
    Gate,
    aborted_by,
    end_at_once,
    on_memory,
    receive_both,
    receive_one,
    receive_two,
    workflow_of,
)

T = TypeVar("T")
SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


# Side by side -------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_receives_of_different_names_wait_side_by_side(fleet: Fleet) -> None:
    bluestreak = await fleet.staying(receive_both)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_begun("wait_for_message", 2)
        await bluestreak.send("w", "b", "to b")
        await bluestreak.send("w", "a", "to a")
        assert await bluestreak.wait("w") == ["to a", "to b"]
    assert (await workflow_of(bluestreak)).claims == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("park_after", [0, 7])
async def test_receives_side_by_side_are_parked_until_any_of_their_messages(
    fleet: Fleet, clock: ManualClock, park_after: int
) -> None:
    bluestreak = await fleet.handling(receive_both, park_after=park_after)
    returned = fleet.store.returned
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await pass_time(clock, lambda: returned["park_until_message"] == 1)
        assert (await workflow_of(bluestreak)).waiting_for == ("a", "b")
        await bluestreak.send("w", "b", "to b")
        await pass_time(clock, lambda: returned["park_until_message"] == 2)
        assert (await workflow_of(bluestreak)).waiting_for == ("a",)
        await bluestreak.send("w", "a", "to a")
        assert await bluestreak.wait("w") == ["to a", "to b"]


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("nap", "timeout", "nap_first"),
    [(HOUR, DAY, True), (DAY, HOUR, False), (HOUR, None, False)],
    ids=str,
)
async def test_a_nap_beside_a_receive_is_parked_until_the_earlier_of_both(
    fleet: Fleet, clock: ManualClock, nap: timedelta, timeout: timedelta | None, *, nap_first: bool
) -> None:
    async def handle(ctx: Context, input: None) -> list[Any]:
        calls = [ctx.sleep("nap", nap), ctx.receive("get", "paid", timeout=timeout)]
        return await asyncio.gather(*(calls if nap_first else reversed(calls)))

    bluestreak = await fleet.handling(handle, park_after=7)
    began = clock.now()
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("save_nap")
        await fleet.store.until_begun("wait_for_message")
        await pass_time(clock, lambda: fleet.store.returned["park_until_message"] == 1)
        parked = await workflow_of(bluestreak)
        assert parked.waiting_for == ("paid",)
        assert parked.timeout_at == began + min(nap, timeout or nap)
        await bluestreak.send("w", "paid", 500)
        await pass_time(clock, lambda: fleet.store.returned["park"] == 1)
        asleep = await workflow_of(bluestreak)
        assert (asleep.waiting_for, asleep.timeout_at) == ((), began + nap)
        clock.advance(nap)
        assert 500 in await bluestreak.wait("w")


@pytest.mark.asyncio
async def test_a_nap_that_ends_first_leaves_the_receive_waiting(
    fleet: Fleet, clock: ManualClock
) -> None:
    async def handle(ctx: Context, input: None) -> list[Any]:
        return list(await asyncio.gather(ctx.sleep("nap", HOUR), ctx.receive("get", "paid")))

    bluestreak = await fleet.parking(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
        assert (await workflow_of(bluestreak)).timeout_at == clock.now() + HOUR
        clock.advance(HOUR)
        await fleet.store.until_returned("park_until_message", 2)
        assert (await workflow_of(bluestreak)).timeout_at > clock.now() + 365 * DAY
        await bluestreak.send("w", "paid", 500)
        assert 500 in await bluestreak.wait("w")


@pytest.mark.asyncio
async def test_a_step_beside_a_receive_holds_off_parking(fleet: Fleet, clock: ManualClock) -> None:
    gate = Gate()

    async def handle(ctx: Context, input: None) -> list[Any]:
        return list(await asyncio.gather(ctx.receive("get", "paid"), ctx.step("gate", gate.step)))

    bluestreak = await fleet.handling(handle, park_after=4)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await gate.inside.wait()
        began = clock.now()
        await pass_time(clock, lambda: clock.now() - began > MINUTE)
        assert fleet.store.begun["park_until_message"] == 0
        gate.go_on.set()
        await pass_time(clock, lambda: fleet.store.returned["park_until_message"] == 1)
        await bluestreak.send("w", "paid", 500)
        assert await bluestreak.wait("w") == [500, "through"]
    assert gate.calls == 1


@pytest.mark.asyncio
@pytest.mark.parametrize("in_a_step", [True, False])
async def test_a_branch_that_works_for_the_message_is_not_cut_off_by_parking(
    fleet: Fleet, clock: ManualClock, *, in_a_step: bool
) -> None:
    gate = Gate()

    async def handle(ctx: Context, input: None) -> list[Any]:
        async def ask() -> None:
            await ctx.step("prepare", end_of_step)
            await (ctx.step("ask", gate.step) if in_a_step else gate.step())
            await bluestreak.send("w", "answer", 42)

        return list(await asyncio.gather(ctx.receive("get", "answer"), ask()))

    bluestreak = await fleet.handling(handle, park_after=4)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await gate.inside.wait()
        began = clock.now()
        await pass_time(clock, lambda: clock.now() - began > MINUTE)
        gate.go_on.set()
        assert await bluestreak.wait("w") == [42, None]
    assert (gate.calls, gate.cancelled) == (1, False)
    assert fleet.store.begun["park_until_message"] == 0
    assert (await workflow_of(bluestreak)).claims == 1


async def end_of_step() -> None: ...


class _Deaf(StoreWrapper):
    """Gives no hint of a message."""

    @override
    async def wait_for_message(self, workflow_id: str, mail: int, timeout: timedelta) -> bool:
        await self.clock.sleep(timeout)
        return False


@pytest.mark.asyncio
async def test_of_receives_that_looked_at_different_times_the_earlier_look_counts(
    clock: ManualClock,
) -> None:
    gate = Gate()

    async def handle(ctx: Context, input: None) -> list[Any]:
        async def second() -> Any:
            await ctx.step("gate", gate.step)
            return await ctx.receive("get b", "b")

        return list(await asyncio.gather(ctx.receive("get a", "a"), second()))

    fleet = Fleet(RecordingStore(_Deaf(MemoryStore(clock=clock))), clock)
    bluestreak = await fleet.handling(handle, park_after=7)
    begun, returned = fleet.store.begun, fleet.store.returned
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await gate.inside.wait()
        await fleet.store.until_begun("wait_for_message")
        await bluestreak.send("w", "a", "to a")  # after the first look, and before the second
        gate.go_on.set()
        await fleet.store.until_begun("wait_for_message", 2)
        await pass_time(clock, lambda: returned["park_until_message"] == 1)
        assert (await workflow_of(bluestreak)).waiting_for != ("a", "b")
        await pass_time(clock, lambda: returned["park_until_message"] == 2)
        assert (await workflow_of(bluestreak)).waiting_for == ("b",)
        await bluestreak.send("w", "b", "to b")
        await pass_time(clock, lambda: returned["finish"] == 1)
        assert await bluestreak.wait("w") == ["to a", "to b"]
    assert begun["park_until_message"] == 2


class _Slow(StoreWrapper):
    """Answers after a turn of the event loop, as a store does that is elsewhere."""

    @override
    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        await asyncio.sleep(0)
        return await call()


@pytest.mark.asyncio
@on_memory
@pytest.mark.parametrize("timeout", [None, HOUR], ids=str)
@pytest.mark.parametrize("slow", [False, True])
async def test_two_receives_of_one_name_at_once_are_refused(
    fleet: Fleet, timeout: timedelta | None, *, slow: bool
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        first = ctx.receive_any("first", ["a", "paid"], timeout=timeout)
        await asyncio.gather(first, ctx.receive("second", "paid", timeout=timeout))

    bluestreak = await fleet.engine(_Slow(fleet.store) if slow else None, park_after=DAY)
    bluestreak.register_handler("h", handle)
    begun, returned = fleet.store.begun, fleet.store.returned
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await eventually(lambda: begun["wait_for_message"] == 2 or returned["fail"] == 1)
        assert returned["fail"] == 1
        aborted = await aborted_by(bluestreak, AlreadyReceiving)
    assert aborted.error_message == str(AlreadyReceiving("w", "second", "paid"))


@pytest.mark.asyncio
@on_memory
async def test_what_two_receives_at_once_are_refused_for_stays_in_the_mailbox(
    fleet: Fleet,
) -> None:
    async def handle(ctx: Context, input: None) -> Any:
        if broken:
            await asyncio.gather(ctx.receive("first", "paid"), ctx.receive("second", "paid"))
        return await ctx.receive("get", "paid")

    broken = [True]
    bluestreak = await fleet.staying(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await aborted_by(bluestreak, AlreadyReceiving)
        await bluestreak.send("w", "paid", 500)
        broken.clear()
        await bluestreak.retry("w")
        assert await bluestreak.wait("w") == 500


@pytest.mark.asyncio
async def test_a_name_is_free_again_once_its_receive_has_ended(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> list[Any]:
        given_up = asyncio.create_task(ctx.receive("given up", "paid"))
        await fleet.store.until_begun("wait_for_message")
        given_up.cancel()
        await asyncio.wait({given_up})
        with suppress(MessageTimeout):
            await ctx.receive("too late", "paid", timeout=0)
        return [await ctx.receive("second", "paid"), await ctx.receive("third", "paid")]

    bluestreak = await fleet.staying(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_begun("wait_for_message", 2)
        await bluestreak.send("w", "paid", 1)
        await bluestreak.send("w", "paid", 2)
        assert await bluestreak.wait("w") == [1, 2]


# Slots and stopping -------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_waiting_workflows_do_not_hold_the_slots_of_a_worker(
    fleet: Fleet, clock: ManualClock
) -> None:
    bluestreak = await fleet.handling(receive_one, max_concurrency=1)
    bluestreak.register_handler("at once", end_at_once)
    ids = ["w1", "w2", "w3"]
    async with fleet.polling(bluestreak):
        for workflow_id in ids:
            await bluestreak.start(workflow_id, "h")
        await pass_time(clock, lambda: fleet.store.returned["park_until_message"] == 3)
        await bluestreak.start("v", "at once")
        await bluestreak.wait("v")
        await bluestreak.send_many([Send(workflow_id, "paid", workflow_id) for workflow_id in ids])
        assert [await bluestreak.wait(workflow_id) for workflow_id in ids] == ids


@pytest.mark.asyncio
async def test_a_stopping_worker_parks_what_waits_at_once(fleet: Fleet, clock: ManualClock) -> None:
    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.receive("get", "paid", timeout=HOUR)

    bluestreak = await fleet.staying(handle)
    poll = asyncio.create_task(bluestreak.poll())
    await bluestreak.start("w", "h")
    await fleet.store.until_begun("wait_for_message")
    bluestreak.stop()
    await poll  # though no time passes
    parked = await workflow_of(bluestreak)
    assert (parked.status, parked.waiting_for) == (Status.IDLE, ("paid",))
    assert (parked.timeout_at, parked.crashes) == (clock.now() + HOUR, 0)
    await bluestreak.send("w", "paid", 500)
    async with fleet.polling(bluestreak):
        assert await bluestreak.wait("w") == 500


@pytest.mark.asyncio
async def test_a_message_that_is_sent_to_a_stopping_worker_is_not_lost(fleet: Fleet) -> None:
    bluestreak = await fleet.staying(receive_two)
    poll = asyncio.create_task(bluestreak.poll())
    await bluestreak.start("w", "h")
    await fleet.store.until_begun("wait_for_message")
    bluestreak.stop()
    await asyncio.gather(poll, bluestreak.send("w", "paid", 1))
    assert (await workflow_of(bluestreak)).status is Status.IDLE
    async with fleet.polling(bluestreak):
        await bluestreak.send("w", "paid", 2)
        assert await bluestreak.wait("w") == [1, 2]


@pytest.mark.asyncio
async def test_what_comes_to_wait_on_a_stopping_worker_is_due_once_any_of_its_messages_comes(
    fleet: Fleet, clock: ManualClock
) -> None:
    gate = Gate()

    async def handle(ctx: Context, input: None) -> list[Any]:
        await ctx.step("gate", gate.step)
        return await receive_both(ctx, input)

    bluestreak = await fleet.staying(handle, drain_timeout=7)
    poll = asyncio.create_task(bluestreak.poll())
    await bluestreak.start("w", "h")
    await gate.inside.wait()
    bluestreak.stop()
    await clock.until_sleeping(7 * SECOND)
    gate.go_on.set()
    await pass_time(clock, poll.done)
    await poll
    await bluestreak.send("w", "b", "to b")
    stopped = await workflow_of(bluestreak)
    assert stopped.status is Status.IDLE
    assert stopped.timeout_at <= clock.now()
    await bluestreak.send("w", "a", "to a")
    async with fleet.polling(bluestreak):
        assert await bluestreak.wait("w") == ["to a", "to b"]


@pytest.mark.asyncio
@on_memory
async def test_a_branch_beside_a_receive_is_not_put_off_until_a_message_by_a_stopping_worker(
    fleet: Fleet, clock: ManualClock
) -> None:
    """It may be what the message answers to."""
    working = asyncio.Event()

    async def handle(ctx: Context, input: None) -> None:
        async def work() -> None:
            await ctx.step("before", int)
            working.set()
            await asyncio.Event().wait()  # outside of any step

        await asyncio.gather(ctx.receive("get", "paid"), work())

    bluestreak = await fleet.staying(handle)
    poll = asyncio.create_task(bluestreak.poll())
    await bluestreak.start("w", "h")
    await asyncio.gather(working.wait(), fleet.store.until_begun("wait_for_message"))
    bluestreak.stop()
    await pass_time(clock, poll.done)
    await poll
    stopped = await workflow_of(bluestreak)
    assert stopped.status is Status.IDLE
    assert stopped.timeout_at <= clock.now()


@pytest.mark.asyncio
async def test_a_worker_that_stops_without_a_drain_loses_no_message(fleet: Fleet) -> None:
    async with fleet.polling(await fleet.staying(receive_two)) as first:
        await first.start("w", "h")
        await first.send("w", "paid", 1)
        await fleet.store.until_begun("wait_for_message")
    await first.send("w", "paid", 2)
    async with fleet.polling(await fleet.staying(receive_two)) as second:
        assert await second.wait("w") == [1, 2]
