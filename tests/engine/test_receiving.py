"""Messages reach a workflow wherever it is, once and in order."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

import pytest
from typing_extensions import override

from bluestreak_core import Claim, Context, Message, Receipt, Received, Send, Status, Step
from bluestreak_core.testing import ManualClock, RecordingStore, StoreWrapper
from bluestreak_memory import MemoryStore
from tests.arrange import eventually, pass_time
from tests.engine.arrange import (
    Fleet,
    Gate,
    on_memory,
    receipt_of,
    receive_one,
    receive_two,
    unread,
    workflow_of,
)

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)
APPROVED = Message("approved", str)
REJECTED = Message("rejected", int)


# Before and while it waits ------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_message_that_is_sent_before_the_workflow_runs_is_received(fleet: Fleet) -> None:
    bluestreak = await fleet.handling(receive_one)
    await bluestreak.start("w", "h")
    assert await bluestreak.send("w", "paid", {"cents": 500})
    async with fleet.polling(bluestreak):
        assert await bluestreak.wait("w") == {"cents": 500}
    assert await unread(fleet.store) == []


@pytest.mark.asyncio
async def test_a_message_that_is_sent_before_the_workflow_waits_is_received(fleet: Fleet) -> None:
    gate = Gate()

    async def handle(ctx: Context, input: None) -> Any:
        await ctx.step("gate", gate.step)
        return await ctx.receive("get", "paid")

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await gate.inside.wait()
        await bluestreak.send("w", "paid", 500)
        assert len(await unread(fleet.store)) == 1
        gate.go_on.set()
        assert await bluestreak.wait("w") == 500
    assert fleet.store.begun["wait_for_message"] == 0


@pytest.mark.asyncio
async def test_a_workflow_that_waits_in_memory_receives_a_message_there(fleet: Fleet) -> None:
    bluestreak = await fleet.staying(receive_two)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        for number in (1, 2):
            await fleet.store.until_begun("wait_for_message", number)
            await bluestreak.send("w", "paid", number)
        assert await bluestreak.wait("w") == [1, 2]
    assert (await workflow_of(bluestreak)).claims == 1
    assert fleet.store.begun["park_until_message"] == 0


@pytest.mark.asyncio
async def test_a_message_of_another_name_is_left_alone_while_it_waits_in_memory(
    fleet: Fleet,
) -> None:
    bluestreak = await fleet.staying(receive_one)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_begun("wait_for_message")
        await bluestreak.send("w", "other", 1, message_id="other")
        await fleet.store.until_begun("wait_for_message", 2)
        await bluestreak.send("w", "paid", 2)
        assert await bluestreak.wait("w") == 2
    assert await unread(fleet.store) == ["other"]


@pytest.mark.asyncio
async def test_a_message_wakes_a_parked_workflow(fleet: Fleet, clock: ManualClock) -> None:
    bluestreak = await fleet.parking(receive_one)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
        parked = await workflow_of(bluestreak)
        assert (parked.status, parked.waiting_for) == (Status.IDLE, ("paid",))
        assert parked.timeout_at > clock.now() + 365 * DAY
        await eventually(lambda: bluestreak.health().runs == 0)
        await bluestreak.send("w", "paid", 500)
        assert await bluestreak.wait("w") == 500
    woken = await workflow_of(bluestreak)
    assert (woken.claims, woken.crashes, woken.waiting_for) == (2, 0, ())


@pytest.mark.asyncio
async def test_it_leaves_memory_once_it_has_waited_for_longer_than_park_after(
    fleet: Fleet, clock: ManualClock
) -> None:
    bluestreak = await fleet.handling(receive_one, park_after=7)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_begun("wait_for_message")
        assert fleet.store.begun["park_until_message"] == 0
        await pass_time(clock, lambda: fleet.store.returned["park_until_message"] == 1)
        await eventually(lambda: bluestreak.health().runs == 0)
        await bluestreak.send("w", "paid", 500)
        assert await bluestreak.wait("w") == 500


@pytest.mark.asyncio
async def test_a_message_that_is_sent_while_it_is_being_parked_is_not_overlooked(
    clock: ManualClock,
) -> None:
    class Late(StoreWrapper):
        """A message is sent when the run has looked and decided to leave memory."""

        @override
        async def park_until_message(
            self,
            claim: Claim,
            wake_up_at: datetime,
            names: Collection[str],
            mail: int,
            now: datetime,
        ) -> None:
            if mail == 0:
                await bluestreak.send("w", "paid", 500)
            await super().park_until_message(claim, wake_up_at, names, mail, now)

    fleet = Fleet(RecordingStore(Late(MemoryStore(clock=clock))), clock)
    bluestreak = await fleet.parking(receive_one)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == 500
    assert fleet.store.returned["park_until_message"] == 1


@pytest.mark.asyncio
async def test_a_message_wakes_it_on_another_worker(fleet: Fleet) -> None:
    first, second = await fleet.parking(receive_one), await fleet.parking(receive_one)
    async with fleet.polling(first):
        await first.start("w", "h")
        await fleet.store.until_returned("park_until_message")
    async with fleet.polling(second):
        await first.send("w", "paid", 500)
        assert await second.wait("w") == 500


@pytest.mark.asyncio
@on_memory
async def test_a_message_may_have_no_payload(fleet: Fleet) -> None:
    bluestreak = await fleet.handling(receive_one)
    await bluestreak.start("w", "h")
    await bluestreak.send("w", "paid")
    async with fleet.polling(bluestreak):
        assert await bluestreak.wait("w") is None
    assert await receipt_of(bluestreak) != Receipt()


# Replay -------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_replay_gets_the_same_message_and_the_next_receive_the_next(fleet: Fleet) -> None:
    seen: list[list[Any]] = []

    async def handle(ctx: Context, input: None) -> list[Any]:
        got: list[Any] = []
        seen.append(got)
        for number in range(3):
            got.append(await ctx.receive(f"get {number}", "paid"))
            if len(seen) == number + 1 < 3:
                raise ValueError
        return got

    bluestreak = await fleet.handling(handle, wait_retry_interval=0)
    await bluestreak.start("w", "h")
    await bluestreak.send_many([Send("w", "paid", payload) for payload in "abc"])
    async with fleet.polling(bluestreak):
        assert await bluestreak.wait("w") == ["a", "b", "c"]
    assert seen == [["a"], ["a", "b"], ["a", "b", "c"]]
    assert await unread(fleet.store) == []


@pytest.mark.asyncio
async def test_what_was_received_is_a_step(fleet: Fleet) -> None:
    bluestreak = await fleet.handling(receive_one)
    await bluestreak.start("w", "h")
    await bluestreak.send("w", "paid", 500, message_id="evt_1")
    sent_at = fleet.clock.now()
    fleet.clock.advance(MINUTE)
    async with fleet.polling(bluestreak):
        await bluestreak.wait("w")
    step = await bluestreak.find_step("w", "get")
    assert step == Step(
        workflow_id="w",
        step_id="get",
        output=500,
        saved_at=fleet.clock.now(),
        receipt=Receipt(message_id="evt_1", name="paid", sent_at=sent_at),
    )
    assert (await bluestreak.describe("w")).steps == (step,)


# Order --------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_messages_of_one_name_are_received_in_the_order_in_which_they_were_sent(
    fleet: Fleet,
) -> None:
    async def handle(ctx: Context, input: None) -> list[Any]:
        paid = [await ctx.receive(f"paid {number}", "paid") for number in range(4)]
        return [*paid, await ctx.receive("refunded", "refunded")]

    bluestreak = await fleet.handling(handle)
    await bluestreak.start("w", "h")
    for number in range(2):
        await bluestreak.send("w", "refunded", -number)
        await bluestreak.send("w", "paid", number)
    async with fleet.polling(bluestreak):
        await fleet.store.until_begun("wait_for_message")
        await bluestreak.send("w", "paid", 2)
        await bluestreak.send("w", "paid", 3)
        assert await bluestreak.wait("w") == [0, 1, 2, 3, 0]
    assert len(await unread(fleet.store)) == 1


@pytest.mark.asyncio
async def test_what_was_sent_while_it_was_parked_is_received_in_order(fleet: Fleet) -> None:
    bluestreak = await fleet.parking(receive_two)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
    await bluestreak.send("w", "paid", 1)
    await bluestreak.send("w", "paid", 2)
    async with fleet.polling(bluestreak):
        assert await bluestreak.wait("w") == [1, 2]


@pytest.mark.asyncio
async def test_messages_to_one_workflow_do_not_reach_another(fleet: Fleet) -> None:
    bluestreak = await fleet.parking(receive_one)
    async with fleet.polling(bluestreak):
        for workflow_id in ("v", "w"):
            await bluestreak.start(workflow_id, "h")
        await fleet.store.until_returned("park_until_message", 2)
        await bluestreak.send("w", "paid", 1)
        assert await bluestreak.wait("w") == 1
        assert (await workflow_of(bluestreak, "v")).claims == 1
        await bluestreak.send("v", "paid", 2)
        assert await bluestreak.wait("v") == 2


# Any of several -----------------------------------------------------------------------------------


class Decision:
    """A handler that waits for any of several messages, and what it has received."""

    def __init__(self) -> None:
        self.seen: list[Received[Any]] = []

    async def handle(self, ctx: Context, input: None) -> None:
        self.seen.append(await ctx.receive_any("decide", [APPROVED, REJECTED]))


@pytest.mark.asyncio
@pytest.mark.parametrize("parked", [False, True])
async def test_of_several_messages_the_one_that_comes_is_received_with_its_declaration(
    fleet: Fleet, clock: ManualClock, *, parked: bool
) -> None:
    decision = Decision()
    bluestreak = await fleet.handling(decision.handle, park_after=0 if parked else DAY)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_begun("park_until_message" if parked else "wait_for_message")
        clock.advance(MINUTE)
        sent_at = clock.now()
        await bluestreak.send("w", REJECTED, 7, message_id="evt_7")
        await bluestreak.wait("w")
    [received] = decision.seen
    assert received.message is REJECTED
    assert received == Received(message=REJECTED, payload=7, sent_at=sent_at, message_id="evt_7")


@pytest.mark.asyncio
@on_memory
async def test_of_several_messages_the_first_sent_is_received_first(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> list[Any]:
        received = [await ctx.receive_any(f"get {n}", ["a", "b", "c"]) for n in range(3)]
        return [[found.message, found.payload] for found in received]

    bluestreak = await fleet.handling(handle)
    await bluestreak.start("w", "h")
    for name in ("c", "other", "a", "b"):
        await bluestreak.send("w", name, name.upper())
    async with fleet.polling(bluestreak):
        assert await bluestreak.wait("w") == [["c", "C"], ["a", "A"], ["b", "B"]]
    assert len(await unread(fleet.store)) == 1


@pytest.mark.asyncio
@on_memory
async def test_a_replay_of_any_of_several_gets_the_same_in_full(fleet: Fleet) -> None:
    seen: list[Received[Any]] = []

    async def handle(ctx: Context, input: None) -> None:
        seen.append(await ctx.receive_any("decide", (APPROVED, "rejected")))
        if len(seen) < 3:
            raise ValueError

    bluestreak = await fleet.handling(handle, wait_retry_interval=0)
    await bluestreak.start("w", "h")
    await bluestreak.send("w", APPROVED, "by ada")
    await bluestreak.send("w", REJECTED, 7)
    fleet.clock.advance(MINUTE)
    async with fleet.polling(bluestreak):
        await bluestreak.wait("w")
    assert seen[0].message is APPROVED
    assert seen[0].sent_at == fleet.clock.now() - MINUTE
    assert seen == [seen[0]] * 3


@pytest.mark.asyncio
@on_memory
async def test_a_message_without_an_id_gets_one_of_its_own(fleet: Fleet) -> None:
    decision = Decision()
    bluestreak = await fleet.handling(decision.handle)
    for workflow_id in ("v", "w"):
        await bluestreak.start(workflow_id, "h")
        await bluestreak.send(workflow_id, APPROVED, "by ada")
    async with fleet.polling(bluestreak):
        for workflow_id in ("v", "w"):
            await bluestreak.wait(workflow_id)
    first, second = decision.seen
    assert first.message_id != second.message_id
    assert first.message_id
    assert second.message_id
