"""Bad input about children is refused before anything is stored; and what can be seen of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from bluestreak_core import (
    Abort,
    Bluestreak,
    ChildFailed,
    Client,
    Context,
    DuplicateStep,
    HandlerNotRegistered,
    InvalidArgument,
    InvalidId,
    InvalidValue,
    NewWorkflow,
    NotAwaited,
    Parent,
    Status,
    UnstorableValue,
    Unsupported,
    UsedInStep,
    UsedInTransaction,
    ValueTooLarge,
)
from bluestreak_core.model import ClaimRequest
from bluestreak_pydantic import PydanticCodec
from tests.engine.arrange import (
    Bare,
    Fleet,
    Gate,
    aborted_by,
    end_at_once,
    listed,
    on_memory,
    workflow_of,
)

DAY = timedelta(days=1)


async def unknown(ctx: Context, input: None) -> None: ...


BAD: dict[str, tuple[type[Exception], Callable[[Context], Coroutine[Any, Any, Any]]]] = {
    "no id of a step": (InvalidId, lambda ctx: ctx.child(7, "end")),  # type: ignore[call-overload]
    "an empty id": (InvalidId, lambda ctx: ctx.child("", "end")),
    "no id of a workflow": (
        InvalidId,
        lambda ctx: ctx.child("s", "end", workflow_id=7),  # type: ignore[call-overload]
    ),
    "an id that gets too long": (InvalidId, lambda ctx: ctx.child("s" * 511, "end")),
    "no handler": (InvalidId, lambda ctx: ctx.child("s", None)),  # type: ignore[call-overload]
    "an unknown function": (HandlerNotRegistered, lambda ctx: ctx.child("s", unknown)),
    "no policy": (
        InvalidArgument,
        lambda ctx: ctx.child("s", "end", on_parent_end="leave"),  # type: ignore[call-overload]
    ),
    "a policy of another type": (
        InvalidArgument,
        lambda ctx: ctx.start_child("s", "end", on_parent_end=True),  # type: ignore[call-overload]
    ),
    "a value that no store holds": (UnstorableValue, lambda ctx: ctx.child("s", "end", object())),
    "a value that is too large": (ValueTooLarge, lambda ctx: ctx.child("s", "end", "x" * 2**24)),
    "a value that a started child gets": (
        UnstorableValue,
        lambda ctx: ctx.start_child("s", "end", {1: 2}),
    ),
}


async def handling(fleet: Fleet, handler: Any, **options: Any) -> Bluestreak:
    bluestreak = await fleet.parking(handler, **options)
    bluestreak.register_handler("end", end_at_once)
    return bluestreak


@pytest.mark.asyncio
@pytest.mark.parametrize("name", BAD)
async def test_bad_input_aborts_the_parent_and_starts_nothing(fleet: Fleet, name: str) -> None:
    error, call = BAD[name]

    async def handle(ctx: Context, input: None) -> None:
        await call(ctx)

    bluestreak = await handling(fleet, handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await aborted_by(bluestreak, error)
    assert await listed(bluestreak.list()) == ["w"]
    assert not (await workflow_of(bluestreak)).unsettled


@pytest.mark.asyncio
@on_memory
async def test_a_store_that_knows_no_children_is_refused(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.child("s", "end")

    store: Any = Bare(fleet.store)
    bluestreak = await fleet.engine(store, timeout_interval=DAY, poll_interval=DAY)
    bluestreak.register_handler("h", handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        aborted = await aborted_by(bluestreak, Unsupported)
        assert await bluestreak.cancel("w") is False
    assert "ctx.child" in aborted.error_message
    assert "does not know the children of a workflow" in aborted.error_message


@pytest.mark.asyncio
@on_memory
@pytest.mark.parametrize("within", ["step", "transaction", "its own step"])
async def test_a_step_starts_no_child(fleet: Fleet, within: str) -> None:
    async def handle(ctx: Context, input: None) -> None:
        async def ask(*_: Any) -> None:
            if within == "its own step":
                await (await ctx.start_child("s", "end")).result()
            else:
                await ctx.child("s", "end")

        if within == "transaction":
            await ctx.transaction("within", ask)
        else:
            await ctx.step("within", ask)

    bluestreak = await handling(fleet, handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        error = UsedInTransaction if within == "transaction" else UsedInStep
        await aborted_by(bluestreak, error)
    assert await listed(bluestreak.list()) == ["w"]


@pytest.mark.asyncio
@on_memory
async def test_two_children_of_one_step_id_are_refused(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.child("s", "end")
        await ctx.child("s", "end", workflow_id="another")

    bluestreak = await handling(fleet, handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        aborted = await aborted_by(bluestreak, DuplicateStep)
    assert "'s' was already used" in aborted.error_message
    assert await listed(bluestreak.list(order="id")) == ["w", "w/s"]


@pytest.mark.asyncio
@on_memory
async def test_a_result_that_is_never_awaited_is_noticed(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> None:
        started = await ctx.start_child("s", "end")
        work = started.result()
        assert work is not None

    bluestreak = await handling(fleet, handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await aborted_by(bluestreak, NotAwaited)


# Types --------------------------------------------------------------------------------------------


@dataclass
class Order:
    amount: int


@dataclass
class Shipment:
    order: Order
    boxes: int


async def ship(ctx: Context, order: Order) -> Shipment:
    assert isinstance(order, Order)
    return Shipment(order=order, boxes=2 * order.amount)


@pytest.mark.asyncio
async def test_values_are_converted_by_the_annotations_of_the_child(fleet: Fleet) -> None:
    seen: list[Shipment] = []

    async def handle(ctx: Context, input: None) -> list[Any]:
        seen.append(await ctx.child("ask", ship, Order(amount=1)))
        handle = await ctx.start_child("later", ship, Order(amount=2))
        seen.append(await handle.result())
        await ctx.sleep("nap", DAY)
        return [await ctx.child("by id", "ship", {"amount": 3})]

    bluestreak = await fleet.parking(handle, codec=PydanticCodec())
    bluestreak.register_handler("ship", ship)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park")
        fleet.clock.advance(DAY)
        assert await bluestreak.wait("w") == [{"order": {"amount": 3}, "boxes": 6}]
    assert Shipment(order=Order(amount=1), boxes=2) in seen
    assert {type(shipment) for shipment in seen} == {Shipment}


@pytest.mark.asyncio
@on_memory
async def test_an_input_that_does_not_fit_is_refused(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.child("ask", ship, {"amount": "many"})  # type: ignore[arg-type]

    bluestreak = await fleet.parking(handle, codec=PydanticCodec())
    bluestreak.register_handler("ship", ship)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await aborted_by(bluestreak, InvalidValue)
    assert await listed(bluestreak.list()) == ["w"]


@pytest.mark.asyncio
@on_memory
async def test_a_result_that_does_not_fit_aborts_the_parent_though_it_is_caught(
    fleet: Fleet,
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        try:
            await ctx.child("ask", ship, Order(amount=1))
        except InvalidValue:
            await ctx.step("after", str)

    bluestreak = await fleet.parking(handle, codec=PydanticCodec())
    bluestreak.register_handler("ship", ship)
    await bluestreak.start("w", "h")
    parent = await workflow_of(bluestreak)
    child = NewWorkflow(
        workflow_id="w/ask",
        handler_id="ship",
        input={"amount": 1},
        created_at=fleet.clock.now(),
        parent=Parent(workflow_id="w", created_at=parent.created_at),
    )
    await fleet.store.create(child)
    elsewhere = ClaimRequest(worker="other", now=fleet.clock.now(), lease=DAY, limit=2)
    _, claim = await fleet.store.claim(elsewhere)
    await fleet.store.finish(claim, "no shipment", fleet.clock.now())
    fleet.clock.advance(DAY)
    async with fleet.polling(bluestreak):
        await aborted_by(bluestreak, InvalidValue)
    assert await bluestreak.find_step("w", "after") is None


# What is seen of them -----------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_parents_and_children_are_described(fleet: Fleet) -> None:
    gate = Gate()

    async def refuse(ctx: Context, input: None) -> None:
        raise Abort("not today")

    async def handle(ctx: Context, input: None) -> str:
        await ctx.start_child("left", "gate", on_parent_end="abandon")
        try:
            await ctx.child("ask", refuse)
        except ChildFailed:
            return await ctx.child("gate", gate.handle)
        return ""

    bluestreak = await handling(fleet, handle)
    bluestreak.register_handler("gate", gate.handle)
    bluestreak.register_handler("refuse", refuse)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        while (await workflow_of(bluestreak)).waiting_for != ("child/w/gate",):  # noqa: ASYNC110 - no event
            await asyncio.sleep(0)
        described = await bluestreak.describe("w")
        gate.go_on.set()
        await bluestreak.wait("w")
    lines = str(described).splitlines()
    assert lines[0] == "workflow 'w' of handler 'h': waiting for child 'w/gate'"
    assert [child.workflow_id for child in described.children] == ["w/ask", "w/gate", "w/left"]
    assert lines[-4:-2] == ["  children 3", "    'w/ask' of handler 'refuse': aborted"]
    assert any(
        line.endswith(
            "step failed 'ask': child 'w/ask' was aborted, bluestreak_core.errors.Abort: not today"
        )
        for line in lines
    )
    child = str(await bluestreak.describe("w/left"))
    assert "\n  child of 'w', and may outlive it\n" in child
    assert "\n  child of 'w'\n" in str(await bluestreak.describe("w/gate"))


@pytest.mark.asyncio
@on_memory
async def test_not_all_of_many_children_are_printed(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> None:
        for number in range(25):
            await ctx.child(f"c{number:02}", "end")

    bluestreak = await handling(fleet, handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await bluestreak.wait("w")
    described = await bluestreak.describe("w")
    assert len(described.children) == 25
    assert str(described).splitlines()[-1] == "    and 5 more"


@pytest.mark.asyncio
async def test_children_are_listed_by_their_parent(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> None:
        for number in range(3):
            await ctx.child(f"c{number}", "end")

    bluestreak = await handling(fleet, handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await bluestreak.wait("w")
    children = await listed(bluestreak.list(parent="w", order="id", status="finished"))
    assert children == ["w/c0", "w/c1", "w/c2"]
    assert await listed(bluestreak.list(parent="w/c0")) == []
    with pytest.raises(InvalidId):
        bluestreak.list(parent={"$ne": ""})  # type: ignore[arg-type]


@pytest.mark.asyncio
@on_memory
async def test_a_client_cancels_a_family_without_a_worker(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.start_child("s", "end", workflow_id="child")
        await ctx.receive("get", "nothing")

    bluestreak = await fleet.parking(handle, unknown_handler="skip")
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
    async with Client(fleet.store) as client:
        assert await client.cancel("w")
        child = await workflow_of(client, "child")
        assert (child.status, child.reason) == (Status.CANCELLED, "its parent has ended")
