"""Time limits of what waits for a message."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta, timezone
from typing import Any

import pytest

from bluestreak_core import Context, Message, MessageTimeout, Receipt, WorkflowAborted
from bluestreak_core.testing import Environment, ManualClock
from tests.arrange import pass_time
from tests.engine.arrange import (
    Fleet,
    aborted_by,
    on_memory,
    receipt_of,
    receive_one,
    workflow_of,
)

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)
APPROVED = Message("approved", str)


@pytest.mark.asyncio
async def test_a_timeout_is_recorded_and_raised_again_in_each_replay(
    fleet: Fleet, clock: ManualClock
) -> None:
    seen: list[TimeoutError] = []

    async def handle(ctx: Context, input: None) -> str:
        try:
            await ctx.receive_any("get", [APPROVED, "rejected"], timeout=DAY)
        except TimeoutError as timeout:
            seen.append(timeout)
        if len(seen) < 3:
            raise ValueError
        return "gave up"

    bluestreak = await fleet.parking(handle, wait_retry_interval=0)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
        assert (await workflow_of(bluestreak)).timeout_at == clock.now() + DAY
        clock.advance(DAY)
        assert await bluestreak.wait("w") == "gave up"
    assert [(type(timeout), timeout.args) for timeout in seen] == [
        (MessageTimeout, ("w", "get", ("approved", "rejected")))
    ] * 3
    assert str(seen[0]) == "workflow 'w': 'get' received no 'approved' or 'rejected' in time"
    assert await receipt_of(bluestreak) == Receipt()
    assert fleet.store.begun["park_until_message"] == 1


@pytest.mark.asyncio
async def test_a_short_timeout_ends_in_memory(fleet: Fleet, clock: ManualClock) -> None:
    async def handle(ctx: Context, input: None) -> str:
        try:
            return str(await ctx.receive("get", "paid", timeout=4))
        except MessageTimeout:
            return "gave up"

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_begun("wait_for_message")
        await pass_time(clock, lambda: fleet.store.returned["finish"] == 1)
        assert await bluestreak.wait("w") == "gave up"
    assert fleet.store.begun["park_until_message"] == 0


@pytest.mark.asyncio
@on_memory
async def test_a_timeout_that_is_not_caught_aborts_the_workflow_without_another_try(
    fleet: Fleet,
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.receive("get", "paid", timeout=0))

    bluestreak = await fleet.handling(handle)
    bluestreak.register_handler("plain", _in_no_time)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "plain")
        await aborted_by(bluestreak, MessageTimeout)
        await bluestreak.start("in a group", "h")
        await aborted_by(bluestreak, ExceptionGroup, "in a group")


async def _in_no_time(ctx: Context, input: None) -> Any:
    return await ctx.receive("get", "paid", timeout=0)


@pytest.mark.asyncio
@on_memory
async def test_the_timeout_of_another_workflow_is_an_error_like_any_other(fleet: Fleet) -> None:
    runs: list[None] = []

    async def handle(ctx: Context, input: None) -> int:
        runs.append(None)
        if len(runs) == 1:
            raise MessageTimeout("another", "get", ("paid",))
        return len(runs)

    bluestreak = await fleet.handling(handle, wait_retry_interval=0)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == 2


@pytest.mark.asyncio
async def test_a_timeout_of_0_receives_what_is_there(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> list[Any]:
        got = [await ctx.receive(name, "paid", timeout=0) for name in ("first", "second")]
        with pytest.raises(MessageTimeout):
            await ctx.receive("third", "paid", timeout=0)
        return got

    bluestreak = await fleet.parking(handle)
    await bluestreak.start("w", "h")
    for number in range(2):
        await bluestreak.send("w", "paid", number)
    async with fleet.polling(bluestreak):
        assert await bluestreak.wait("w") == [0, 1]
    assert (await workflow_of(bluestreak)).claims == 1
    assert fleet.store.begun["wait_for_message"] == 0
    assert fleet.store.begun["park_until_message"] == 0


@pytest.mark.asyncio
async def test_a_deadline_ends_the_wait_at_an_instant(fleet: Fleet, clock: ManualClock) -> None:
    deadline = clock.now() + DAY

    async def handle(ctx: Context, input: None) -> str:
        try:
            in_japan = deadline.astimezone(timezone(9 * HOUR))
            return str(await ctx.receive("get", "paid", deadline=in_japan))
        except MessageTimeout:
            return "gave up"

    bluestreak = await fleet.parking(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
        parked = await workflow_of(bluestreak)
        assert (parked.timeout_at, parked.waiting_for) == (deadline, ("paid",))
        clock.advance(DAY)
        assert await bluestreak.wait("w") == "gave up"
    assert (await workflow_of(bluestreak)).waiting_for == ()
    assert (await bluestreak.describe("w")).attempts == ()


@pytest.mark.asyncio
@on_memory
async def test_a_deadline_in_the_past_receives_what_is_there(fleet: Fleet) -> None:
    deadline = fleet.clock.now() - DAY

    async def handle(ctx: Context, input: None) -> Any:
        first = await ctx.receive("first", "paid", deadline=deadline)
        try:
            await ctx.receive("second", "paid", deadline=deadline)
        except MessageTimeout:
            return first
        raise AssertionError

    bluestreak = await fleet.handling(handle)
    await bluestreak.start("w", "h")
    await bluestreak.send("w", "paid", 500)
    async with fleet.polling(bluestreak):
        assert await bluestreak.wait("w") == 500


@pytest.mark.asyncio
async def test_a_timeout_counts_from_the_first_run(fleet: Fleet, clock: ManualClock) -> None:
    began = clock.now()

    async def handle(ctx: Context, input: None) -> Any:
        try:
            return await ctx.receive("get", "paid", timeout=DAY)
        except MessageTimeout:
            return "gave up"

    async with fleet.polling(await fleet.staying(handle)) as first:
        await first.start("w", "h")
        await fleet.store.until_begun("wait_for_message")
    clock.advance(HOUR)
    async with fleet.polling(await fleet.parking(handle)) as second:
        await fleet.store.until_returned("park_until_message")
        assert (await workflow_of(second)).timeout_at == began + DAY
        clock.advance(23 * HOUR)
        assert await second.wait("w") == "gave up"


def test_a_timeout_goes_on_while_the_worker_is_dead() -> None:
    async def handle(ctx: Context, input: None) -> None:
        try:
            await ctx.receive("get", "paid", timeout=90)
        except MessageTimeout:
            ended.append(env.now)

    ended: list[datetime] = []
    with Environment(park_after=HOUR) as env:
        began = env.now
        env.register_handler("h", handle)
        env.start("w", "h")
        env.advance(30)
        env.crash()
        env.wait("w")
    assert ended == [began + timedelta(seconds=90)]


@pytest.mark.asyncio
async def test_a_message_that_is_there_needs_no_record_of_a_timeout(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.receive("get", "paid", timeout=DAY)

    bluestreak = await fleet.handling(handle)
    await bluestreak.start("w", "h")
    await bluestreak.send("w", "paid", 500)
    async with fleet.polling(bluestreak):
        assert await bluestreak.wait("w") == 500
    assert fleet.store.begun["receive"] == 1
    life = await bluestreak.describe("w")
    assert (life.naps, life.attempts) == ((), ())


@pytest.mark.asyncio
@on_memory
async def test_a_message_that_comes_after_the_timeout_waits_for_the_next_receive(
    fleet: Fleet, clock: ManualClock
) -> None:
    async def handle(ctx: Context, input: None) -> Any:
        try:
            return await ctx.receive("first", "paid", timeout=DAY)
        except MessageTimeout:
            return ["late", await ctx.receive("second", "paid")]

    bluestreak = await fleet.parking(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
        clock.advance(DAY)
        await fleet.store.until_returned("park_until_message", 2)
        await bluestreak.send("w", "paid", 500)
        assert await bluestreak.wait("w") == ["late", 500]
    assert await receipt_of(bluestreak, "first") == Receipt()


@pytest.mark.asyncio
async def test_a_message_in_time_ends_the_wait_and_its_timeout(
    fleet: Fleet, clock: ManualClock
) -> None:
    async def handle(ctx: Context, input: None) -> Any:
        first = await ctx.receive("first", "paid", timeout=DAY)
        return [first, await ctx.receive("second", "paid")]

    bluestreak = await fleet.parking(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
        await bluestreak.send("w", "paid", 1)
        await fleet.store.until_returned("park_until_message", 2)
        assert (await workflow_of(bluestreak)).timeout_at > clock.now() + 365 * DAY
        clock.advance(2 * DAY)
        await bluestreak.send("w", "paid", 2)
        assert await bluestreak.wait("w") == [1, 2]


@pytest.mark.asyncio
async def test_a_deadline_of_the_workflow_ends_a_wait_without_a_limit(
    fleet: Fleet, clock: ManualClock
) -> None:
    bluestreak = await fleet.engine(timeout_interval=DAY, park_after=0)
    bluestreak.register_handler("limited", receive_one, deadline=DAY)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "limited")
        await fleet.store.until_returned("park_until_message")
        clock.advance(DAY)
        with pytest.raises(WorkflowAborted, match="DeadlineExceeded"):
            await bluestreak.wait("w")
