"""Sending: each message once and in order, in transactions too, or not at all."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from bluestreak_core import (
    Client,
    Context,
    InvalidArgument,
    InvalidId,
    Message,
    NotInitialised,
    Send,
    UnstorableValue,
    Unsupported,
    ValueTooLarge,
    WorkflowEnded,
    WorkflowNotFound,
)
from bluestreak_core.testing import ManualClock, RecordingStore, StoreWrapper
from bluestreak_memory import MemoryStore
from tests.arrange import eventually
from tests.engine.arrange import (
    Bare,
    Fleet,
    aborted_by,
    end_at_once,
    on_memory,
    receive_one,
    receive_two,
    transaction,
    unread,
    workflow_of,
)
from tests.engine.bad_input import BAD_VALUES

# Sending ------------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_message_id_is_sent_to_a_workflow_once(fleet: Fleet) -> None:
    bluestreak = await fleet.handling(receive_two)
    for workflow_id in ("v", "w"):
        await bluestreak.start(workflow_id, "h")
    assert await bluestreak.send("w", "paid", 1, message_id="evt_1")
    assert not await bluestreak.send("w", "paid", "other payload", message_id="evt_1")
    assert not await bluestreak.send("w", "other name", 1, message_id="evt_1")
    assert await bluestreak.send("v", "paid", 1, message_id="evt_1")
    assert await unread(fleet.store) == ["evt_1"]
    async with fleet.polling(bluestreak):
        await eventually(lambda: fleet.store.begun["wait_for_message"] == 2)
        assert not await bluestreak.send("w", "paid", 1, message_id="evt_1")  # received already
        assert await bluestreak.send("w", "paid", 2, message_id="evt_2")
        assert await bluestreak.wait("w") == [1, 2]
    assert not await bluestreak.send("w", "paid", 2, message_id="evt_2")  # and finished
    assert await unread(fleet.store) == []


@pytest.mark.asyncio
async def test_many_messages_are_received_in_their_order(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> list[Any]:
        return [await ctx.receive(f"get {number}", "paid") for number in range(5)]

    bluestreak = await fleet.handling(handle)
    for workflow_id in ("v", "w"):
        await bluestreak.start(workflow_id, "h")
    sends = [Send("vw"[number % 2], "paid", number) for number in range(10)]
    assert await bluestreak.send_many(iter(sends)) == [True] * 10
    async with fleet.polling(bluestreak):
        assert await bluestreak.wait("v") == list(range(0, 10, 2))
        assert await bluestreak.wait("w") == list(range(1, 10, 2))


@pytest.mark.asyncio
async def test_more_messages_than_go_into_one_round_trip_keep_their_order(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    await bluestreak.start("w", "h")
    ids = [f"evt_{number}" for number in range(1001)]
    sends = [Send("w", "paid", message_id=message_id) for message_id in ids]
    assert await bluestreak.send_many(sends) == [True] * 1001
    assert await unread(fleet.store) == ids
    assert (await workflow_of(bluestreak)).mail == 1001


@pytest.mark.asyncio
async def test_of_many_messages_those_are_false_whose_ids_were_sent_before(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    await bluestreak.start("w", "h")
    await bluestreak.send("w", "paid", message_id="2")
    sends = [Send("w", "paid", message_id=message_id) for message_id in ("1", "2", "3", "1")]
    assert await bluestreak.send_many(sends) == [True, False, True, False]
    assert await bluestreak.send_many(sends) == [False] * 4
    assert await bluestreak.send_many([]) == []
    assert await unread(fleet.store) == ["2", "1", "3"]


@pytest.mark.asyncio
async def test_many_messages_wake_all_who_wait_for_them(fleet: Fleet) -> None:
    bluestreak = await fleet.parking(receive_one)
    ids = [f"w{number}" for number in range(5)]
    async with fleet.polling(bluestreak):
        for workflow_id in ids:
            await bluestreak.start(workflow_id, "h")
        await fleet.store.until_returned("park_until_message", 5)
        await bluestreak.send_many([Send(workflow_id, "paid", workflow_id) for workflow_id in ids])
        assert [await bluestreak.wait(workflow_id) for workflow_id in ids] == ids


@pytest.mark.asyncio
async def test_of_many_messages_those_that_cannot_be_sent_keep_back_no_others(
    fleet: Fleet,
) -> None:
    bluestreak = await fleet.handling(receive_one)
    bluestreak.register_handler("at once", end_at_once)
    await bluestreak.start("over", "at once")
    async with fleet.polling(bluestreak):
        await bluestreak.wait("over")
    await bluestreak.start("w", "h")
    sends = [
        Send("unknown", "paid"),
        Send("w", "paid", message_id="1"),
        Send("over", "paid"),
        Send("w", "paid", message_id="2"),
    ]
    with pytest.raises(ExceptionGroup, match="2 of 4 messages were not sent") as raised:
        await bluestreak.send_many(sends)
    assert [(type(error), error.args) for error in raised.value.exceptions] == [
        (WorkflowNotFound, ("unknown",)),
        (WorkflowEnded, ("over",)),
    ]
    assert await unread(fleet.store) == ["1", "2"]
    assert await unread(fleet.store, "over") == await unread(fleet.store, "unknown") == []


# In a transaction ---------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_workflow_is_started_with_its_first_message_in_one_transaction(
    fleet: Fleet,
) -> None:
    bluestreak = await fleet.handling(receive_one)
    async with fleet.polling(bluestreak):
        async with transaction(fleet.store) as session:
            assert await bluestreak.start("w", "h", session=session)
            assert await bluestreak.send("w", "paid", 500, session=session)
            assert await bluestreak.find_workflow("w") is None
        assert await bluestreak.wait("w") == 500


@pytest.mark.asyncio
async def test_a_message_in_a_transaction_wakes_its_workflow_at_the_commit(fleet: Fleet) -> None:
    bluestreak = await fleet.parking(receive_one)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
        async with transaction(fleet.store) as session:
            assert await bluestreak.send("w", "paid", 500, session=session)
            parked = await workflow_of(bluestreak)
            assert (parked.waiting_for, parked.mail) == (("paid",), 0)
            assert await unread(fleet.store) == []
        assert await bluestreak.wait("w") == 500


@pytest.mark.asyncio
async def test_a_transaction_of_one_workflow_sends_to_another(fleet: Fleet) -> None:
    bluestreak = await fleet.parking(receive_one, max_failures=0)
    attempts: list[None] = []

    @bluestreak.handler("sender")
    async def send_on(ctx: Context, input: None) -> bool:
        async def send(session: Any) -> bool:
            return await bluestreak.send("w", "paid", 500, message_id="once", session=session)

        async def fail(session: Any) -> None:
            attempts.append(None)
            await bluestreak.send("w", "paid", "never", session=session)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await ctx.transaction("fail", fail)
        return await ctx.transaction("send", send)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
        await bluestreak.start("v", "sender")
        assert await bluestreak.wait("v") is True
        assert await bluestreak.wait("w") == 500
    assert len(attempts) == 1
    assert await unread(fleet.store) == []


# Mistakes of senders ------------------------------------------------------------------------------

SENDS: dict[str, tuple[Send, type[Exception]]] = {
    "workflow id": (Send(7, "paid"), InvalidId),  # type: ignore[arg-type]
    "empty workflow id": (Send("", "paid"), InvalidId),
    "no message": (Send("w", 7), InvalidArgument),  # type: ignore[arg-type]
    "class": (Send("w", Message), InvalidArgument),  # type: ignore[arg-type]
    "empty name": (Send("w", ""), InvalidId),
    "NUL in the name": (Send("w", "a\0b"), InvalidId),
    "number as id": (Send("w", "paid", message_id=7), InvalidId),  # type: ignore[arg-type]
    "query as id": (Send("w", "paid", message_id={"$gt": ""}), InvalidId),  # type: ignore[arg-type]
    "empty id": (Send("w", "paid", message_id=""), InvalidId),
    "long id": (Send("w", "paid", message_id="x" * 513), InvalidId),
    "object": (Send("w", "paid", [object()]), UnstorableValue),
    "decimal": (Send("w", Message("paid", Decimal), Decimal(1)), UnstorableValue),
}


@pytest.mark.asyncio
@on_memory
async def test_what_cannot_be_sent_is_refused_alone_and_among_others_and_nothing_stored(
    fleet: Fleet, subtests: pytest.Subtests
) -> None:
    bluestreak = await fleet.engine()
    await bluestreak.start("w", "h")
    good = Send("w", "paid", 1)
    for name, (bad, error) in SENDS.items():
        with subtests.test(name):
            with pytest.raises(error) as alone:
                await bluestreak.send(
                    bad.workflow_id, bad.message, bad.payload, message_id=bad.message_id
                )
            with pytest.raises(error) as among_others:
                await bluestreak.send_many([good, bad, good])
            assert type(alone.value) is type(among_others.value) is error
            assert len(str(alone.value)) < 300
            if issubclass(error, InvalidArgument):
                assert "sends[1]" in str(among_others.value)
            assert await unread(fleet.store) == []
            assert (await workflow_of(bluestreak)).mail == 0


@pytest.mark.asyncio
async def test_of_many_messages_none_is_sent_if_one_is_too_large(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    await bluestreak.start("w", "h")
    large = Send("w", "paid", b"x" * 17_000_000)
    with pytest.raises(ValueTooLarge) as refused:
        await bluestreak.send_many([Send("w", "paid", 1), large, Send("w", "paid", 2)])
    assert len(str(refused.value)) < 300
    assert await unread(fleet.store) == []
    assert (await workflow_of(bluestreak)).mail == 0


@pytest.mark.asyncio
@on_memory
async def test_an_unstorable_payload_is_refused_with_its_place(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    await bluestreak.start("w", "h")
    for name in ("object", "raises", "lone surrogate", "NUL in a key", "ring", "deep inside"):
        value, place = BAD_VALUES[name]
        of_it = r"^payload of message 'paid' to workflow 'w'"
        with pytest.raises(UnstorableValue, match=of_it) as refused:
            await bluestreak.send("w", "paid", value)
        assert refused.value.path == place
    assert await unread(fleet.store) == []


@pytest.mark.asyncio
@on_memory
async def test_only_several_sends_are_many_messages(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    await bluestreak.start("w", "h")
    no_several: list[Any] = ["text", 7, None, Send("w", "paid")]
    no_sends: list[Any] = [b"bytes", [("w", "paid")], [None], ["w"], [Send]]
    for named, bad in (("sends", no_several), ("sends[0]", no_sends)):
        for sends in bad:
            with pytest.raises(InvalidArgument) as refused:
                await bluestreak.send_many(sends)
            assert refused.value.name == named
    assert fleet.store.begun["send"] == 0


@pytest.mark.asyncio
async def test_sending_needs_an_open_store(store: RecordingStore) -> None:
    client = Client(store)
    with pytest.raises(NotInitialised, match=r"^send\(\) "):
        await client.send("w", "paid")
    with pytest.raises(NotInitialised, match=r"^send_many\(\) "):
        await client.send_many([Send("w", "paid")])


@pytest.mark.asyncio
@on_memory
@pytest.mark.parametrize("wrapped", [False, True])
async def test_a_store_without_mailboxes_is_refused_by_its_name(
    fleet: Fleet, clock: ManualClock, *, wrapped: bool
) -> None:
    bare: Any = Bare(MemoryStore(clock=clock))
    bluestreak = await fleet.engine(StoreWrapper(bare) if wrapped else bare)
    await bluestreak.start("w", "h")
    with pytest.raises(Unsupported, match=r"^send\(\) is not possible here: Bare has no mailboxes"):
        await bluestreak.send("w", "paid")
    with pytest.raises(Unsupported, match=r"^send\(\) "):
        await bluestreak.send("w", "paid", session=object())
    with pytest.raises(Unsupported, match=r"^send_many\(\) "):
        await bluestreak.send_many([])


@pytest.mark.asyncio
@on_memory
@pytest.mark.parametrize("timeout", [None, 0, 1])
async def test_a_receive_on_a_store_without_mailboxes_aborts_its_workflow(
    fleet: Fleet, clock: ManualClock, timeout: int | None
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.receive("get", "paid", timeout=timeout)

    bare: Any = Bare(MemoryStore(clock=clock))
    bluestreak = await fleet.engine(bare, wait_retry_interval=0)
    bluestreak.register_handler("h", handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        aborted = await aborted_by(bluestreak, Unsupported)
    assert aborted.error_message == "ctx.receive is not possible here: Bare has no mailboxes"
    assert await bluestreak.find_step("w", "get") is None
