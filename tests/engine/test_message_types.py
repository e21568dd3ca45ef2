"""Payloads have the types of their messages, on both ends."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any, Literal, Optional

import pytest
from pydantic import ValidationError

from bluestreak_core import (
    Bluestreak,
    Client,
    Context,
    Handler,
    InvalidArgument,
    InvalidValue,
    Message,
    Received,
    Send,
)
from bluestreak_pydantic import PydanticCodec
from tests.engine.arrange import (
    Fleet,
    aborted_by,
    on_memory,
    receive_one,
    transaction,
    unread,
    workflow_of,
)

NOW = datetime(2030, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Payment:
    price: Decimal
    on: date


@dataclass(frozen=True)
class Refund:
    reason: str
    price: Decimal = Decimal(0)


PAID = Message("paid", Payment)
REFUNDED = Message("refunded", Refund)
PAYMENT = Payment(Decimal("1.10"), date(2030, 1, 31))
STORED = {"price": "1.10", "on": "2030-01-31"}


async def _typed(fleet: Fleet, handler: Handler, **options: Any) -> Bluestreak:
    return await fleet.handling(handler, codec=PydanticCodec(), **options)


@pytest.mark.asyncio
async def test_a_payload_has_its_type_on_both_ends_and_in_each_replay(fleet: Fleet) -> None:
    seen: list[Payment] = []

    async def handle(ctx: Context, input: None) -> None:
        seen.append(await ctx.receive("get", PAID))
        if len(seen) < 2:
            raise ValueError

    bluestreak = await _typed(fleet, handle, wait_retry_interval=0)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await bluestreak.send("w", PAID, PAYMENT)
        await bluestreak.wait("w")
    assert seen == [PAYMENT] * 2
    step = await bluestreak.find_step("w", "get")
    assert step is not None
    assert step.output == STORED


@pytest.mark.asyncio
@on_memory
async def test_a_payload_of_any_of_several_has_the_type_of_the_one_that_came(fleet: Fleet) -> None:
    seen: list[Received[Any]] = []

    async def handle(ctx: Context, input: None) -> None:
        asked: list[Message[Any] | str] = [PAID, REFUNDED, "cancelled"]
        seen.extend([await ctx.receive_any(f"get {number}", asked) for number in range(3)])

    bluestreak = await _typed(fleet, handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await bluestreak.send("w", REFUNDED, Refund("broken"))
        await bluestreak.send("w", "cancelled", {"by": "ada"})
        await bluestreak.send("w", PAID, PAYMENT)
        await bluestreak.wait("w")
    assert [received.payload for received in seen] == [Refund("broken"), {"by": "ada"}, PAYMENT]
    assert [received.message for received in seen] == [REFUNDED, "cancelled", PAID]


@pytest.mark.asyncio
@on_memory
async def test_a_client_without_handlers_converts_payloads_by_their_types(fleet: Fleet) -> None:
    client = Client(fleet.store, codec=PydanticCodec())
    await client.init()
    await client.start("w", "h")
    await client.send("w", PAID, PAYMENT)
    async with fleet.polling(await fleet.handling(receive_one)) as untyped:
        assert await untyped.wait("w") == STORED


@pytest.mark.asyncio
async def test_a_payload_that_does_not_fit_is_refused_when_it_is_sent(fleet: Fleet) -> None:
    bluestreak = await _typed(fleet, receive_one)
    await bluestreak.start("w", "h")
    wrong: Any = {"price": "free", "on": "2030-01-31"}
    of_it = r"^payload of message 'paid' to workflow 'w' at \['price'\]"
    with pytest.raises(InvalidValue, match=of_it):
        await bluestreak.send("w", PAID, wrong)
    with pytest.raises(InvalidValue, match=of_it):
        await bluestreak.send_many([Send("w", PAID, PAYMENT), Send("w", PAID, wrong)])
    async with transaction(fleet.store) as session:
        with pytest.raises(InvalidValue, match=of_it):
            await bluestreak.send("w", PAID, wrong, session=session)
    assert await unread(fleet.store) == []
    assert (await workflow_of(bluestreak)).mail == 0


@pytest.mark.asyncio
@on_memory
async def test_a_stored_payload_that_does_not_fit_aborts_the_workflow_even_if_that_is_caught(
    fleet: Fleet,
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        try:
            await ctx.receive("get", PAID)
        except InvalidValue as refusal:
            caught.append(refusal)

    caught: list[InvalidValue] = []
    bluestreak = await _typed(fleet, handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await bluestreak.send("w", "paid", {"price": 1})
        aborted = await aborted_by(bluestreak, InvalidValue)
    [refusal] = caught
    assert aborted.error_message == str(refusal)
    assert refusal.what == "stored payload of message 'paid' to workflow 'w'"
    assert refusal.path == "['on']"
    assert isinstance(refusal.__cause__, ValidationError)
    assert aborted.error_traceback.count("ValidationError: ") == 1
    assert "direct cause" in aborted.error_traceback


@dataclass
class Opaque:
    handle: memoryview


OPAQUE = Message("opaque", Opaque)
CANNOT = r"^type of message 'opaque' <class '.*Opaque'>: "


@pytest.mark.asyncio
async def test_a_type_that_the_codec_cannot_convert_is_refused_by_send(fleet: Fleet) -> None:
    bluestreak = await _typed(fleet, receive_one)
    await bluestreak.start("w", "h")
    payload = Opaque(memoryview(b""))
    with pytest.raises(InvalidArgument, match=CANNOT):
        await bluestreak.send("w", OPAQUE, payload)
    with pytest.raises(InvalidArgument, match=CANNOT):
        await bluestreak.send_many([Send("w", PAID, PAYMENT), Send("w", OPAQUE, payload)])
    assert (await workflow_of(bluestreak)).mail == 0


@pytest.mark.asyncio
@on_memory
@pytest.mark.parametrize("sent", [False, True])
async def test_a_type_that_the_codec_cannot_convert_is_refused_by_receive(
    fleet: Fleet, *, sent: bool
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.receive_any("get", [PAID, OPAQUE])

    bluestreak = await _typed(fleet, handle)
    await bluestreak.start("w", "h")
    if sent:
        await bluestreak.send("w", PAID, PAYMENT)
    async with fleet.polling(bluestreak):
        aborted = await aborted_by(bluestreak, InvalidArgument)
    assert aborted.error_message.startswith("type of message 'opaque' <class '")
    assert len(await unread(fleet.store)) == sent


@pytest.mark.asyncio
@on_memory
async def test_a_payload_may_be_of_a_union_or_a_literal(fleet: Fleet) -> None:
    age: Message[int | None] = Message("age", int | None)
    kind: Message[Literal["a", "b"]] = Message("kind", Literal["a", "b"])
    on: Message[date | None] = Message("on", Optional[date])  # noqa: UP045 - the older spelling
    seen: list[Any] = []

    async def handle(ctx: Context, input: None) -> None:
        seen.append(await ctx.receive("age", age))
        seen.append(await ctx.receive("kind", kind))
        seen.append(await ctx.receive("on", on))

    bluestreak = await _typed(fleet, handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await bluestreak.send("w", age, None)
        await bluestreak.send("w", kind, "b")
        await bluestreak.send("w", on, date(2030, 1, 31))
        wrong: Any = "c"
        with pytest.raises(InvalidValue, match=r"^payload of message 'kind' to workflow 'w'"):
            await bluestreak.send("w", kind, wrong)
        await bluestreak.wait("w")
    assert seen == [None, "b", date(2030, 1, 31)]


@pytest.mark.asyncio
async def test_without_a_codec_a_payload_stays_as_it_is_stored(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.receive("get", PAID)

    bluestreak = await fleet.handling(handle)
    await bluestreak.start("w", "h")
    await bluestreak.send("w", "paid", (1, {"on": NOW}))
    async with fleet.polling(bluestreak):
        assert await bluestreak.wait("w") == [1, {"on": NOW}]
