"""Workflows that wait for messages are cancelled, paused, retried and forked."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from bluestreak_core import Context, MessageTimeout, Status
from bluestreak_core.testing import ManualClock
from tests.arrange import pass_time
from tests.engine.arrange import (
    Fleet,
    aborted_by,
    on_memory,
    receive_one,
    receive_two,
    unread,
    workflow_of,
)

DAY = timedelta(days=1)


@pytest.mark.asyncio
async def test_a_workflow_that_may_be_retried_keeps_its_mail(fleet: Fleet) -> None:
    broken = [True]

    async def handle(ctx: Context, input: None) -> list[Any]:
        first = await ctx.receive("first", "paid")
        if broken:
            raise ValueError
        return [first, await ctx.receive("second", "paid"), await ctx.receive("third", "paid")]

    bluestreak = await fleet.handling(handle, max_failures=0)
    await bluestreak.start("w", "h")
    await bluestreak.send("w", "paid", 1)
    await bluestreak.send("w", "paid", 2, message_id="before")
    async with fleet.polling(bluestreak):
        await aborted_by(bluestreak, ValueError)
        assert await bluestreak.send("w", "paid", 3, message_id="after")
        assert await unread(fleet.store) == ["before", "after"]
        broken.clear()
        await bluestreak.retry("w")
        assert await bluestreak.wait("w") == [1, 2, 3]


@pytest.mark.asyncio
@on_memory
async def test_a_workflow_that_waits_in_memory_is_cancelled(fleet: Fleet) -> None:
    undone: list[str] = []

    async def handle(ctx: Context, input: None) -> None:
        await ctx.compensate("undo", undone.append, "undone")
        await ctx.receive("get", "paid")

    bluestreak = await fleet.staying(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_begun("wait_for_message")
        await bluestreak.cancel("w")
        await pass_time(fleet.clock, lambda: bool(undone) and bluestreak.health().runs == 0)
    assert undone == ["undone"]
    assert (await workflow_of(bluestreak)).status is Status.CANCELLED


@pytest.mark.asyncio
async def test_a_workflow_that_is_paused_while_it_waits_in_memory_waits_again_when_resumed(
    fleet: Fleet,
) -> None:
    bluestreak = await fleet.staying(receive_one)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_begun("wait_for_message")
        await bluestreak.pause("w")
        await pass_time(fleet.clock, lambda: bluestreak.health().runs == 0)
        await bluestreak.resume("w")
        await fleet.store.until_begun("wait_for_message", 2)
        await bluestreak.send("w", "paid", 500)
        assert await bluestreak.wait("w") == 500


@pytest.mark.asyncio
async def test_a_fork_has_what_was_received_and_its_own_mailbox(fleet: Fleet) -> None:
    bluestreak = await fleet.parking(receive_two)
    await bluestreak.start("w", "h")
    await bluestreak.send("w", "paid", 1, message_id="evt_1")  # before it could park without
    async with fleet.polling(bluestreak):
        await fleet.store.until_returned("park_until_message")
        await bluestreak.fork("w", "f")
        await fleet.store.until_returned("park_until_message", 2)
        assert await bluestreak.send("f", "paid", 3, message_id="evt_1")
        assert await bluestreak.wait("f") == [1, 3]
        await bluestreak.send("w", "paid", 2)
        assert await bluestreak.wait("w") == [1, 2]


@pytest.mark.asyncio
async def test_a_fork_from_before_a_receive_has_a_timeout_of_its_own(
    fleet: Fleet, clock: ManualClock
) -> None:
    async def handle(ctx: Context, input: None) -> Any:
        try:
            return await ctx.receive("get", "paid", timeout=DAY)
        except MessageTimeout:
            return "gave up"

    bluestreak = await fleet.parking(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
        clock.advance(DAY)
        assert await bluestreak.wait("w") == "gave up"
        await bluestreak.fork("w", "f", before="get")
        await fleet.store.until_returned("park_until_message", 2)
        assert (await workflow_of(bluestreak, "f")).timeout_at == clock.now() + DAY
        await bluestreak.send("f", "paid", 500)
        assert await bluestreak.wait("f") == 500
