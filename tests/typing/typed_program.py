"""A user's program with types of its own. It is only type-checked, by mypy and by pyright."""

# pyright: strict, reportUnnecessaryTypeIgnoreComment=true

from __future__ import annotations

from collections.abc import Coroutine, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import Enum
from functools import partial
from typing import Any, Literal, NoReturn, TypedDict, assert_type

from pydantic import BaseModel

from bluestreak_core import (
    Bluestreak,
    ChildHandle,
    Client,
    Codec,
    Context,
    Done,
    Handler,
    Message,
    Outcomes,
    Published,
    Received,
    Resolution,
    Retry,
    Send,
    Start,
    Winner,
)
from bluestreak_memory import MemoryStore
from bluestreak_pydantic import PydanticCodec


class Size(Enum):
    SMALL = "small"


@dataclass
class Order:
    item: str
    size: Size


class Row(TypedDict):
    item: str


class Receipt(BaseModel):
    number: int


codec: Codec = PydanticCodec()
bluestreak = Bluestreak(MemoryStore(), codec=PydanticCodec())


async def charge(order: Order) -> Receipt:
    return Receipt(number=len(order.item))


def pack(order: Order, receipt: Receipt, *, gift: bool = False) -> Row:
    return Row(item=f"{order.item}{receipt.number}{gift}")


@bluestreak.handler("buy")
async def buy(ctx: Context, input: Order) -> Receipt:
    receipt = await ctx.step("charge", charge, input)
    assert_type(receipt, Receipt)
    assert_type(await ctx.step("pack", pack, input, receipt), Row)
    assert_type(await ctx.step("gift", partial(pack, input, receipt, gift=True)), Row)
    assert_type(await ctx.step("size", lambda: input.size), Size)
    assert_type(await ctx.step("retry", charge, input, retry=Retry(), timeout=9), Receipt)
    await ctx.step("wrong", charge, "book")  # type: ignore[arg-type]
    return receipt


async def ask(ctx: Context) -> Receipt:
    return await ctx.scope("inner").step("charge", charge, BOOK)


async def look(state: int | None, order: Order) -> Done[Receipt] | int:
    return Done(Receipt(number=1)) if state else 1


@bluestreak.handler("branching")
async def branching(ctx: Context, input: list[Order]) -> None:
    assert_type(ctx.scope("scope"), Context)
    assert_type(await ctx.map("charge", charge, input), list[Receipt])
    assert_type(await ctx.map("show", str, input, key=lambda order: order.item), list[str])
    outcomes = await ctx.map("try", charge, input, tolerate=0.5, retry=Retry(), timeout=9)
    assert_type(outcomes, Outcomes[Receipt])
    assert_type(outcomes[0].value, Receipt | None)
    assert_type(outcomes.results(), list[Receipt])
    assert_type(await ctx.map("some", charge, input, enough=1), Outcomes[Receipt])
    assert_type(await ctx.parallel("both", {"a": ask, "b": ask}), dict[str, Receipt])
    assert_type(await ctx.parallel("one", {"a": ask}, enough=1), Outcomes[Receipt])
    winner = await ctx.race("race", a=lambda: ctx.step("a", charge, BOOK), b=lambda: ask(ctx))
    assert_type(winner, Winner[Receipt])
    assert_type(winner.name, str)
    assert_type(await ctx.poll("poll", look, BOOK, every=60, timeout=timedelta(days=1)), Any)
    assert_type(await ctx.step("once", charge, BOOK, at_most_once=True), Receipt)
    assert_type(await ctx.map_children("all", buy, input), list[Receipt])
    assert_type(await ctx.map_children("ids", "buy", [1], key=str, limit=2), list[Any])
    assert_type(await ctx.map_children("few", buy, input, enough=1), Outcomes[Receipt])
    assert_type(await ctx.map_children("few ids", "buy", [1], tolerate=0.1), Outcomes[Any])
    await ctx.map_children("wrong", buy, ["book"])  # type: ignore[arg-type]
    await ctx.map("wrong", charge, ["book"])  # type: ignore[arg-type]
    await ctx.parallel("wrong", {"a": charge})  # type: ignore[dict-item]
    await ctx.poll("wrong", look, "book", every=60)  # type: ignore[arg-type]
    await ctx.poll("without", look, BOOK)  # type: ignore[call-arg]
    await ctx.map("items", charge, 7)  # type: ignore[call-overload]
    await ctx.map("limit", charge, input, limit="7")  # type: ignore[call-overload]
    await ctx.race("wrong", a=ask)  # type: ignore[arg-type]
    await ctx.race("not async", a=lambda: 7)  # type: ignore[arg-type, return-value]
    ctx.scope(7)  # type: ignore[arg-type]


@bluestreak.handler("optional")
async def optional(ctx: Context, input: Order | None) -> None: ...


@bluestreak.handler("nothing")
async def nothing(ctx: Context, input: None) -> list[Size]:
    return [Size.SMALL]


@bluestreak.handler("row")
async def row(ctx: Context, input: Row) -> int:
    return len(input["item"])


@bluestreak.handler("plain")
async def plain(ctx: Context, input: dict[str, Any]) -> str:
    return str(input)


class Service:
    async def handle(self, ctx: Context, input: int) -> float:
        return input / 2


service = Service()
bluestreak.register_handler("service", service.handle)
BOOK = Order("book", Size.SMALL)


async def starting() -> None:
    assert_type(await bluestreak.start("w", "buy", BOOK), bool)
    assert_type(await bluestreak.start("w", "buy"), bool)
    assert_type(await bluestreak.start("w", buy, BOOK), bool)
    await bluestreak.start("w", buy, BOOK, delay=timedelta(days=1), strict=True)
    await bluestreak.start("w", optional)
    await bluestreak.start("w", optional, None)
    await bluestreak.start("w", optional, BOOK)
    await bluestreak.start("w", nothing)
    await bluestreak.start("w", row, Row(item="book"))
    await bluestreak.start("w", plain, {"item": "book", "count": 1})
    await bluestreak.start("w", service.handle, 7)
    await bluestreak.start_many([Start("w", buy, BOOK), Start("v", "buy", BOOK)])


async def refused() -> None:
    await bluestreak.start("w", buy)  # type: ignore[arg-type]
    await bluestreak.start("w", buy, "book")  # type: ignore[arg-type]
    await bluestreak.start("w", buy, None)  # type: ignore[arg-type]
    await bluestreak.start("w", optional, "book")  # type: ignore[arg-type]
    await bluestreak.start("w", nothing, BOOK)  # type: ignore[arg-type]
    await bluestreak.start("w", row, "book")  # type: ignore[arg-type]
    await bluestreak.start("w", service.handle, "seven")  # type: ignore[arg-type]
    await bluestreak.start("w", charge, BOOK)  # type: ignore[arg-type]
    await bluestreak.start("w", pack, BOOK)  # type: ignore[arg-type]
    await bluestreak.start("w", buy, BOOK, later=1)  # type: ignore[call-overload]
    await bluestreak.start(1, "buy", BOOK)  # type: ignore[call-overload]
    await bluestreak.wait("w", handler=charge)  # type: ignore[arg-type]
    await bluestreak.wait("w", timeout="1 s")  # type: ignore[call-overload]
    await bluestreak.wait("w", handler="buy")  # type: ignore[call-overload]
    Bluestreak(MemoryStore(), codec=MemoryStore())  # type: ignore[arg-type]


async def waiting() -> None:
    assert_type(await bluestreak.wait("w"), Any)
    assert_type(await bluestreak.wait("w", 3, 0.5), Any)
    assert_type(await bluestreak.wait("w", timeout=2.5), Any)
    assert_type(await bluestreak.wait("w", timeout=timedelta(hours=1), handler=buy), Receipt)
    assert_type(await bluestreak.wait("w", handler=buy), Receipt)
    assert_type(await bluestreak.wait("w", 3, handler=nothing), list[Size])
    assert_type(await bluestreak.wait("w", handler=optional), None)
    assert_type(await bluestreak.wait("w", handler=row), int)
    assert_type(await bluestreak.wait("w", handler=service.handle), float)


# A process that runs nothing, and functions that serve both kinds.
async def client_only() -> None:
    async with Client(MemoryStore(), codec=codec, handlers={"buy": buy}) as client:
        assert_type(client, Client)
        assert_type(client.handlers, Mapping[str, Handler])
        assert_type(await client.start("w", buy, BOOK), bool)
        assert_type(await client.wait("w", handler=buy), Receipt)
        assert_type(await client.wait("w"), Any)
        assert_type(await client.start_many([Start("v", "buy", BOOK)]), list[bool])
        await place(client)
        await client.start("w", buy, "book")  # type: ignore[arg-type]
        await client.poll()  # type: ignore[attr-defined]
    await place(bluestreak)
    Client(MemoryStore(), handlers={"buy": charge})  # type: ignore[dict-item]
    Client(MemoryStore(), poll_interval=1)  # type: ignore[call-arg]


async def place(client: Client) -> bool:
    return await client.start("w", buy, BOOK)


# The decorator hands the function back as it was.
async def call_directly(ctx: Context) -> None:
    assert_type(await buy(ctx, BOOK), Receipt)
    await buy(ctx, "book")  # type: ignore[arg-type]


PAID = Message("paid", Receipt)
COUNTED = Message("counted", int)
CALLED_OFF = Message("called off", str)
BARE = Message("bare")
assert_type(PAID, Message[Receipt])
assert_type(Message("rows", list[Row]), Message[list[Row]])
assert_type(COUNTED.name, str)
Message("paid", "Receipt")  # type: ignore[call-overload]
AGE: Message[int | None] = Message("age", int | None)
KIND: Message[Literal["a", "b"]] = Message("kind", Literal["a", "b"])
WRONG: Message[int] = Message("counted", str)  # type: ignore[arg-type]


@bluestreak.handler("receive")
async def receive(ctx: Context, input: None) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert_type(await ctx.receive("paid", PAID), Receipt)
    assert_type(await ctx.receive("counted", COUNTED, timeout=timedelta(days=3)), int)
    assert_type(await ctx.receive("inline", Message("paid", int), deadline=tomorrow), int)
    assert_type(await ctx.receive("named", "paid", timeout=0.5), Any)
    assert_type(await ctx.receive("bare", BARE), Any)
    assert_type(await ctx.receive("age", AGE), int | None)
    assert_type(await ctx.receive("kind", KIND), Literal["a", "b"])
    await ctx.receive("number", 7)  # type: ignore[call-overload]
    await ctx.receive(7, PAID)  # type: ignore[call-overload]
    await ctx.receive("paid", PAID, timeout="3 days")  # type: ignore[call-overload]
    await ctx.receive("paid", [PAID])  # type: ignore[call-overload]


@bluestreak.handler("receive any")
async def receive_any(ctx: Context, input: None) -> None:
    received = await ctx.receive_any("one", [PAID], timeout=60)
    assert_type(received, Received[Receipt])
    assert_type(received.message, Message[Receipt] | str)
    assert_type(received.payload, Receipt)
    assert_type(received.sent_at, datetime)
    assert_type(received.message_id, str)
    assert_type(await ctx.receive_any("alike", (COUNTED, COUNTED)), Received[int])
    assert_type(await ctx.receive_any("two", [PAID, CALLED_OFF]), Received[Any])
    assert_type(await ctx.receive_any("mixed", [PAID, "called off"]), Received[Any])
    assert_type(await ctx.receive_any("named", ["paid", "called off"]), Received[Any])
    await ctx.receive_any("no list", PAID)  # type: ignore[call-overload]
    await ctx.receive_any("number", [PAID, 7])  # type: ignore[arg-type]


async def keep(token: str) -> int:
    return len(token)


@bluestreak.handler("callback")
async def callback(ctx: Context, input: None) -> None:
    tomorrow = datetime.now(UTC) + timedelta(days=1)
    assert_type(await ctx.callback("typed", keep, type=Receipt), Receipt)
    assert_type(await ctx.callback("plain", keep, timeout=timedelta(days=3)), Any)
    assert_type(await ctx.callback("lambda", lambda token: len(token) + 1, type=int), int)
    assert_type(await ctx.callback("retried", keep, retry=Retry(), deadline=tomorrow), Any)
    assert_type(await ctx.callback("alive", keep, heartbeat=60, type=str), str)
    await ctx.callback(7, keep)  # type: ignore[call-overload]
    await ctx.callback("missing")  # type: ignore[call-overload]
    await ctx.callback("called", keep("token"))  # type: ignore[call-overload]
    await ctx.callback("number", len, type=7)  # type: ignore[call-overload]
    await ctx.callback("alive", keep, heartbeat="1 min")  # type: ignore[call-overload]


async def answering(client: Client) -> None:
    resolution = await client.resolve("token", {"approved": True})
    assert_type(resolution, Resolution)
    assert_type(resolution.is_first, bool)
    assert_type(resolution.error, str | None)
    await bluestreak.resolve("token")
    await client.resolve("token", Receipt(number=1), type=Receipt)
    await client.resolve("token", error="no budget")
    assert_type(await client.beat("token"), bool)
    await client.resolve(7)  # type: ignore[arg-type]
    await client.resolve("token", error=7)  # type: ignore[arg-type]
    await client.beat(7)  # type: ignore[arg-type]


@bluestreak.handler("parent")
async def parent(ctx: Context, input: Order) -> None:
    assert_type(await ctx.child("buy", buy, input), Receipt)
    assert_type(await ctx.child("nothing", nothing), list[Size])
    assert_type(await ctx.child("optional", optional, input, on_parent_end="abandon"), None)
    assert_type(await ctx.child("by id", "buy", input, workflow_id="buy-7"), Any)
    assert_type(await ctx.child("method", service.handle, 7), float)
    handle = await ctx.start_child("started", buy, input)
    assert_type(handle, ChildHandle[Receipt])
    assert_type(handle.workflow_id, str)
    assert_type(await handle.result(), Receipt)
    assert_type(await ctx.start_child("started by id", "buy"), ChildHandle[Any])
    await ctx.child("without input", buy)  # type: ignore[arg-type]
    await ctx.child("wrong input", buy, "book")  # type: ignore[arg-type]
    await ctx.child("no handler", charge, input)  # type: ignore[arg-type]
    await ctx.child("end", buy, input, on_parent_end="stop")  # type: ignore[call-overload]
    await ctx.start_child("wrong input", buy, "book")  # type: ignore[arg-type]
    await ctx.start_child(7, "buy")  # type: ignore[call-overload]


@bluestreak.handler("saga")
async def saga(ctx: Context, input: Order) -> None:
    receipt = await ctx.step("charge", charge, input)
    assert_type(await ctx.compensate("refund", refund, input, receipt), None)
    await ctx.compensate("pack", partial(pack, input, receipt, gift=True))
    await ctx.compensate("policy", refund, input, receipt, retry=Retry(), timeout=9)
    await ctx.compensate("missing", refund, input)  # type: ignore[arg-type]
    await ctx.compensate("wrong", refund, receipt, input)  # type: ignore[arg-type]
    await ctx.compensate("called", refund(input, receipt))  # type: ignore[arg-type]
    await ctx.compensate("retry", refund, input, receipt, retry=3)  # type: ignore[arg-type]


async def refund(order: Order, receipt: Receipt) -> None: ...


@bluestreak.handler("last")
async def last(ctx: Context, month: int) -> str:
    assert_type(await ctx.publish("month", {"number": month}), None)
    await ctx.publish(7, month)  # type: ignore[arg-type]
    if month < 12:
        restart: Coroutine[Any, Any, NoReturn] = ctx.restart(month + 1)
        await restart
    return "it has returned, so the month is the last one"


async def watching(client: Client) -> None:
    assert_type(await client.published("w", "month"), Any)
    async for change in client.watch("w", pause=timedelta(seconds=1)):
        assert_type(change, Published)
        assert_type(change.number, int)
    client.watch(7)  # type: ignore[arg-type]


async def sending(client: Client) -> None:
    assert_type(await client.send("w", PAID, Receipt(number=1)), bool)
    assert_type(await bluestreak.send("w", COUNTED, 7, message_id="evt_1"), bool)
    await client.send("w", "paid", {"number": 1})
    await client.send("w", "paid")
    await client.send("w", BARE)
    await client.send("w", BARE, 7)
    sends = [Send("w", PAID, Receipt(number=1)), Send("w", "paid", message_id="evt_1")]
    assert_type(await client.send_many(sends), list[bool])
    await client.send("w", PAID, 7)  # type: ignore[misc]
    await client.send("w", COUNTED, "seven")  # type: ignore[misc]
    await client.send("w", COUNTED)  # type: ignore[arg-type]
    await client.send("w", COUNTED, 7, message_id=7)  # type: ignore[call-overload]
    await client.send("w", 7)  # type: ignore[call-overload]
    await client.send_many("paid")  # type: ignore[arg-type]
    await client.send_many([("w", PAID)])  # type: ignore[list-item]
