"""Handlers and steps that are annotated with types of the program, on both stores."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from enum import Enum
from functools import partial
from typing import TYPE_CHECKING, Any, Self
from uuid import UUID

import pytest
from pydantic import BaseModel
from typing_extensions import TypedDict

from bluestreak_core import (
    Bluestreak,
    Context,
    HandlerNotRegistered,
    InvalidArgument,
    InvalidHandler,
    InvalidId,
    InvalidValue,
    Retry,
    Start,
    Status,
    UnstorableValue,
    WorkflowAborted,
    WorkflowConflict,
)
from bluestreak_core.testing import Environment, RecordingStore
from bluestreak_memory import MemoryStore
from bluestreak_pydantic import PydanticCodec
from tests.engine.arrange import Fleet

if TYPE_CHECKING:
    from bluestreak_core import Missing  # type: ignore[attr-defined]


class Colour(Enum):
    RED = "red"


@dataclass(frozen=True)
class Order:
    item: str
    price: Decimal = Decimal("1.10")


class Row(TypedDict):
    on: date


class Model(BaseModel):
    order: Order
    colour: Colour


async def of_order(ctx: Context, input: Order) -> Order:
    return await ctx.step("s", as_order, input)


async def of_model(ctx: Context, input: Model) -> Model:
    return await ctx.step("s", as_model, input)


async def of_row(ctx: Context, input: Row) -> Row:
    return await ctx.step("s", as_row, input)


async def of_colour(ctx: Context, input: Colour) -> Colour:
    return await ctx.step("s", as_colour, input)


async def of_many(ctx: Context, input: dict[str, list[Order]]) -> dict[str, list[Order]]:
    return await ctx.step("s", as_many, input)


async def of_set(ctx: Context, input: set[UUID]) -> set[UUID]:
    return await ctx.step("s", as_set, input)


async def of_instant(ctx: Context, input: datetime | None) -> datetime | None:
    return await ctx.step("s", as_instant, input)


async def of_dict(ctx: Context, input: dict[str, Any]) -> dict[str, Any]:
    return await ctx.step("s", as_dict, input)


def as_order(value: Order) -> Order:
    return value


async def as_model(value: Model) -> Model:
    return value


def as_row(value: Row) -> Row:
    return value


async def as_colour(value: Colour) -> Colour:
    return value


def as_many(value: dict[str, list[Order]]) -> dict[str, list[Order]]:
    return value


def as_set(value: set[UUID]) -> set[UUID]:
    return value


def as_instant(value: datetime | None) -> datetime | None:
    return value


def as_dict(value: dict[str, Any]) -> dict[str, Any]:
    return value


ROUNDS: list[tuple[Any, Any]] = [
    (of_order, Order("book")),
    (of_model, Model(order=Order("book"), colour=Colour.RED)),
    (of_row, Row(on=date(2030, 1, 31))),
    (of_colour, Colour.RED),
    (of_many, {"a": [Order("book"), Order("pen", Decimal(2))]}),
    (of_set, {UUID(int=1), UUID(int=2)}),
    (of_instant, datetime(2030, 1, 31, tzinfo=UTC)),
    (of_instant, None),
    (of_dict, {"a": [1, b"2", None]}),
]


def _name(value: object) -> str:
    return getattr(value, "__name__", type(value).__name__)


async def typed(fleet: Fleet, *handlers: Callable[..., Any], **options: Any) -> Bluestreak:
    bluestreak = await fleet.engine(codec=PydanticCodec(), **options)
    for handler in handlers:
        bluestreak.register_handler(handler.__name__, handler)
    return bluestreak


@pytest.mark.asyncio
@pytest.mark.parametrize(("handler", "value"), ROUNDS, ids=_name)
async def test_an_input_an_output_and_a_result_are_of_their_types(
    fleet: Fleet, handler: Any, value: Any
) -> None:
    seen: list[Any] = []

    async def watched(ctx: Context, input: Any) -> Any:
        seen.append(input)
        seen.append(result := await handler(ctx, input))
        return result

    watched.__annotations__ |= {
        "input": handler.__annotations__["input"],
        "return": handler.__annotations__["return"],
    }
    bluestreak = await typed(fleet, watched)
    async with fleet.polling(bluestreak):
        assert await bluestreak.start("w", watched, value)
        result = await bluestreak.wait("w", handler=watched)
    for given in (*seen, result):
        assert given == value
        assert type(given) is type(value)


@pytest.mark.asyncio
@pytest.mark.parametrize(("handler", "value"), ROUNDS, ids=_name)
async def test_a_replay_equals_the_first_run(fleet: Fleet, handler: Any, value: Any) -> None:
    seen: list[Any] = []

    async def twice(ctx: Context, input: Any) -> None:
        seen.append(await handler(ctx, input))
        if len(seen) == 1:
            raise RuntimeError("run me again")

    twice.__annotations__["input"] = handler.__annotations__["input"]
    bluestreak = await typed(fleet, twice, wait_retry_interval=0)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", twice, value)
        await bluestreak.wait("w")
    first, replayed = seen
    assert first == replayed == value
    assert type(first) is type(replayed) is type(value)
    assert fleet.store.begun["save_step"] == 1


@pytest.mark.asyncio
async def test_what_is_stored_is_plain(fleet: Fleet) -> None:
    bluestreak = await typed(fleet, of_model)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", of_model, Model(order=Order("book"), colour=Colour.RED))
        result = await bluestreak.wait("w")
    form = {"order": {"item": "book", "price": "1.10"}, "colour": "red"}
    workflow = await bluestreak.find_workflow("w")
    step = await bluestreak.find_step("w", "s")
    assert workflow is not None
    assert step is not None
    assert workflow.input == step.output == workflow.result == result == form


@pytest.mark.asyncio
@pytest.mark.parametrize("by", ["function", "id"])
async def test_an_input_that_does_not_fit_creates_nothing(
    fleet: Fleet, store: RecordingStore, by: str
) -> None:
    bluestreak = await typed(fleet, of_many)
    before = store.begun.copy()
    handler: Any = of_many if by == "function" else "of_many"
    with pytest.raises(InvalidValue) as refused:
        await bluestreak.start("w", handler, {"a": [{"item": 1}]})
    assert refused.value.what == "input of workflow 'w'"
    assert refused.value.path == "['a'][0]['item']"
    assert refused.value.reason == "Input should be a valid string"
    assert store.begun == before


@pytest.mark.asyncio
async def test_an_input_that_no_store_holds_creates_nothing(fleet: Fleet) -> None:
    bluestreak = await typed(fleet, of_dict)
    with pytest.raises(UnstorableValue, match=r"input of workflow 'w' at \['a'\]: int"):
        await bluestreak.start("w", of_dict, {"a": 2**64})
    assert await bluestreak.find_workflow("w") is None


@pytest.mark.asyncio
async def test_a_client_without_the_handler_passes_plain_values_on(fleet: Fleet) -> None:
    bluestreak = await typed(fleet, of_order)
    client = await fleet.engine(codec=PydanticCodec())
    with pytest.raises(UnstorableValue):
        await client.start("w", "of_order", Order("book"))
    await client.start("w", "of_order", {"item": "book", "price": "2"})
    async with fleet.polling(bluestreak):
        assert await bluestreak.wait("w", handler=of_order) == Order("book", Decimal(2))


@pytest.mark.asyncio
async def test_a_stored_input_that_does_not_fit_aborts_before_the_handler(fleet: Fleet) -> None:
    bluestreak = await typed(fleet, of_order)
    client = await fleet.engine()
    await client.start("w", "of_order", {"title": "book"})
    async with fleet.polling(bluestreak):
        with pytest.raises(
            WorkflowAborted,
            match=r"InvalidValue: stored input of workflow 'w' at \['item'\]: Field required",
        ):
            await bluestreak.wait("w")
    workflow = await bluestreak.find_workflow("w")
    assert workflow is not None
    assert workflow.failures == 1
    assert fleet.store.begun["save_step"] == 0


@pytest.mark.asyncio
async def test_an_output_that_does_not_fit_is_not_recorded(fleet: Fleet) -> None:
    caught: list[InvalidValue] = []

    async def handle(ctx: Context, input: None) -> None:
        try:
            await ctx.step("s", as_order, "no order")  # type: ignore[arg-type]
        except InvalidValue as error:
            caught.append(error)

    bluestreak = await typed(fleet, handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", handle)
        with pytest.raises(WorkflowAborted, match="InvalidValue: output of step 's' of workflow"):
            await bluestreak.wait("w")
    assert await bluestreak.find_step("w", "s") is None
    assert len(caught) == 1


@pytest.mark.asyncio
async def test_a_recorded_output_that_does_not_fit_any_more_aborts(fleet: Fleet) -> None:
    changed: list[bool] = []

    async def handle(ctx: Context, input: None) -> None:
        if not changed:
            changed.append(True)
            await ctx.step("s", as_dict, {"title": "book"})
            raise RuntimeError("deploy the next version")
        try:
            await ctx.step("s", as_order, Order("book"))
        except InvalidValue:
            return

    bluestreak = await typed(fleet, handle, wait_retry_interval=0)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", handle)
        with pytest.raises(WorkflowAborted, match="InvalidValue: stored output of step 's' of"):
            await bluestreak.wait("w")


@pytest.mark.asyncio
async def test_a_result_that_does_not_fit_is_not_stored(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> Order:
        return "no order"  # type: ignore[return-value]

    bluestreak = await typed(fleet, handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", handle)
        with pytest.raises(WorkflowAborted, match="InvalidValue: result of workflow 'w': Input"):
            await bluestreak.wait("w")
    workflow = await bluestreak.find_workflow("w")
    assert workflow is not None
    assert workflow.result is None


@pytest.mark.asyncio
async def test_a_stored_result_that_does_not_fit_is_an_error_for_those_who_wait(
    fleet: Fleet,
) -> None:
    async def handle(ctx: Context, input):  # type: ignore[no-untyped-def]
        return {"title": "book"}

    bluestreak = await typed(fleet, handle)
    other = await fleet.engine(codec=PydanticCodec())
    other.register_handler("handle", of_order)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", handle)
        assert await bluestreak.wait("w", handler=handle) == {"title": "book"}
        with pytest.raises(InvalidValue, match=r"^stored result of workflow 'w' at \['item'\]"):
            await other.wait("w", handler=of_order)


@pytest.mark.asyncio
async def test_what_is_not_annotated_stays_plain(fleet: Fleet) -> None:
    async def handle(ctx, input):  # type: ignore[no-untyped-def]
        given = await ctx.step("lambda", lambda: (input, 1))
        return await ctx.step("partial", partial(lambda first, second: [first, second], given), 2)

    bluestreak = await typed(fleet, handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", handle, {"a": 1})
        assert await bluestreak.wait("w", handler=handle) == [[{"a": 1}, 1], 2]


@pytest.mark.asyncio
async def test_a_partial_a_method_and_a_class_have_their_annotations(fleet: Fleet) -> None:
    class Service:
        def find(self, item: str) -> Order:
            return Order(item)

    @dataclass(frozen=True)
    class Rush(Order):
        @classmethod
        def of(cls, item: str) -> Self:
            return cls(item)

    async def handle(ctx: Context, input: str) -> list[Order]:
        return [
            await ctx.step("partial", partial(as_order, Order(input))),
            await ctx.step("method", Service().find, input),
            await ctx.step("class", Order, input),
            await ctx.step("partial class", partial(Order, input)),
        ]

    async def rush(ctx: Context, input: str) -> None:
        assert await ctx.step("self", Rush.of, input) == Rush(input)
        model = await ctx.step(
            "model", Model.model_validate, {"order": {"item": input}, "colour": "red"}
        )
        assert model == Model(order=Order(input), colour=Colour.RED)

    bluestreak = await typed(fleet, handle, rush)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", handle, "book")
        await bluestreak.start("w2", rush, "book")
        assert await bluestreak.wait("w", handler=handle) == [Order("book")] * 4
        await bluestreak.wait("w2")


@pytest.mark.asyncio
async def test_the_error_about_what_is_not_plain_asks_for_an_annotation(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("lambda", lambda: Order("book"))

    bluestreak = await typed(fleet, handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", handle)
        with pytest.raises(WorkflowAborted, match=r"Order cannot be .* annotate it and use"):
            await bluestreak.wait("w")


@pytest.mark.asyncio
async def test_a_step_whose_annotation_says_nothing_is_plain(fleet: Fleet) -> None:
    def missing() -> Missing:
        return [1]

    class NoModel(str):
        __slots__ = ()

    def unknown() -> NoModel:
        return NoModel("a")

    async def handle(ctx: Context, input: None) -> list[Any]:
        return [await ctx.step("missing", missing), await ctx.step("unknown", unknown)]

    bluestreak = await typed(fleet, handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", handle)
        assert await bluestreak.wait("w") == [[1], "a"]


@pytest.mark.asyncio
async def test_the_error_about_a_set_of_dataclasses_says_what_to_do(fleet: Fleet) -> None:
    def orders() -> set[Order]:
        return {Order("book")}

    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("s", orders)

    bluestreak = await typed(fleet, handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", handle)
        with pytest.raises(
            WorkflowAborted, match=r"output of step 's' .* in a set, .*: use a list"
        ):
            await bluestreak.wait("w")
    assert await bluestreak.find_step("w", "s") is None


@pytest.mark.asyncio
async def test_a_step_with_retries_is_converted(fleet: Fleet) -> None:
    failures = [OSError("no"), None]

    def flaky() -> Order:
        if error := failures.pop(0):
            raise error
        return Order("book")

    async def handle(ctx: Context, input: None) -> Order:
        output = await ctx.step("s", flaky, retry=Retry(max_attempts=2, initial=0))
        assert output == Order("book")
        return output

    bluestreak = await typed(fleet, handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", handle)
        assert await bluestreak.wait("w", handler=handle) == Order("book")


@pytest.mark.asyncio
async def test_many_are_converted_before_any_is_created(fleet: Fleet) -> None:
    bluestreak = await typed(fleet, of_order)
    good = Start("w1", of_order, Order("book"))
    with pytest.raises(InvalidValue, match=r"^input of workflow 'w2' at \['item'\]"):
        await bluestreak.start_many([good, Start("w2", "of_order", {"item": 1})])
    assert await bluestreak.find_workflow("w1") is None
    assert await bluestreak.start_many([good]) == [True]
    async with fleet.polling(bluestreak):
        assert await bluestreak.wait("w1", handler=of_order) == Order("book")


@pytest.mark.asyncio
async def test_a_strict_start_compares_what_is_stored(fleet: Fleet) -> None:
    bluestreak = await typed(fleet, of_order)
    assert await bluestreak.start("w", of_order, Order("book"), strict=True)
    assert not await bluestreak.start("w", of_order, Order("book"), strict=True)
    with pytest.raises(WorkflowConflict, match="exists with another input"):
        await bluestreak.start("w", of_order, Order("pen"), strict=True)


def test_a_transaction_is_converted_and_its_replay_equals_the_first_run() -> None:
    seen: list[Order] = []

    async def pay(session: object, item: str) -> Order:
        return Order(item)

    async def handle(ctx: Context, input: str) -> None:
        seen.append(await ctx.transaction("t", pay, input))
        await ctx.sleep("long", 3600)

    with Environment(codec=PydanticCodec()) as env:
        outcome = env.run(handle, "book")
    assert seen == [Order("book")] * 2
    assert outcome.steps == {"t": {"item": "book", "price": "1.10"}}


def test_a_transaction_whose_output_does_not_fit_leaves_nothing() -> None:
    async def pay(session: object) -> Order:
        return "no order"  # type: ignore[return-value]

    async def handle(ctx: Context, input: None) -> None:
        await ctx.transaction("t", pay)

    with Environment(codec=PydanticCodec()) as env:
        outcome = env.run(handle)
    assert outcome.status is Status.ABORTED
    assert outcome.steps == {}
    assert isinstance(outcome.errors[0], InvalidValue)


def test_a_compensation_is_converted() -> None:
    def refund(item: str) -> Order:
        return Order(item)

    async def handle(ctx: Context, input: str) -> None:
        await ctx.compensate("refund", refund, input)
        await ctx.sleep("short", 4)

    with Environment(codec=PydanticCodec()) as env:
        env.register_handler("h", handle)
        env.start("w", "h", "book")
        env.advance(1)
        assert env.call(env.bluestreak.cancel("w"))
        env.advance(1)
        assert env.outcome("w").steps == {"refund": {"item": "book", "price": "1.10"}}


# Which handler is meant -----------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_function_that_is_not_registered_is_named(
    fleet: Fleet, store: RecordingStore
) -> None:
    bluestreak = await fleet.engine()
    before = store.begun.copy()
    with pytest.raises(HandlerNotRegistered, match="function 'of_dict' is not a registered"):
        await bluestreak.start("w", of_dict, {})
    with pytest.raises(HandlerNotRegistered, match="function 'of_dict' is not a registered"):
        await bluestreak.wait("w", handler=of_dict)
    assert store.begun == before


@pytest.mark.asyncio
async def test_a_function_of_two_ids_is_not_guessed(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    bluestreak.register_handler("a", of_dict)
    bluestreak.register_handler("b", of_dict)
    with pytest.raises(HandlerNotRegistered, match="the handler of 'a' and 'b': give the id"):
        await bluestreak.start("w", of_dict, {})
    assert await bluestreak.find_workflow("w") is None


@pytest.mark.asyncio
async def test_a_method_is_found_whenever_it_is_asked_for(fleet: Fleet) -> None:
    class Service:
        async def handle(self, ctx: Context, input: str) -> str:
            return input

    service = Service()
    bluestreak = await fleet.engine()
    bluestreak.register_handler("h", service.handle)
    assert await bluestreak.start("w", service.handle, "a")
    with pytest.raises(HandlerNotRegistered, match=r"Service\.handle'"):
        await bluestreak.start("w", Service().handle, "a")


@pytest.mark.asyncio
async def test_a_result_is_not_read_by_another_handler(fleet: Fleet) -> None:
    bluestreak = await typed(fleet, of_order, of_dict)
    await bluestreak.start("w", of_order, Order("book"))
    with pytest.raises(WorkflowConflict, match="workflow 'w' exists with another handler"):
        await bluestreak.wait("w", handler=of_dict)


@pytest.mark.asyncio
async def test_a_function_does_without_a_codec(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    bluestreak.register_handler("h", of_dict)
    async with fleet.polling(bluestreak):
        assert await bluestreak.start("w", of_dict, {"a": 1})
        assert await bluestreak.wait("w", handler=of_dict) == {"a": 1}


# What is refused beforehand -------------------------------------------------------------------


@pytest.mark.parametrize("handler", [of_order, of_model, of_colour, of_many])
def test_without_a_codec_such_a_handler_is_refused(handler: Any) -> None:
    bluestreak = Bluestreak(MemoryStore())
    with pytest.raises(
        InvalidHandler,
        match=r"^handler 'h' .*: the annotation of its input: .* is not a plain value; use "
        r"codec=PydanticCodec\(\), from the extra 'pydantic'$",
    ):
        bluestreak.register_handler("h", handler)
    assert bluestreak.handlers == {}


def test_without_a_codec_such_a_result_is_refused() -> None:
    async def handle(ctx: Context, input: None) -> Order | None: ...

    with pytest.raises(InvalidHandler, match="annotation of its result: Order is not a plain"):
        Bluestreak(MemoryStore()).register_handler("h", handle)


async def unresolved(ctx: Context, input: Missing) -> None: ...


async def foreign(ctx: Context, input: range) -> None: ...


async def hashing(ctx: Context, input: set[Order]) -> None: ...


def test_without_a_codec_no_annotation_has_to_be_resolved() -> None:
    Bluestreak(MemoryStore()).register_handler("h", unresolved)


@pytest.mark.parametrize(
    ("handler", "reason"),
    [
        (unresolved, "'Missing' cannot be resolved: name 'Missing' is not defined"),
        (foreign, "Unable to generate pydantic-core schema for <class 'range'>"),
        (hashing, "dataclasses and models cannot be stored in a set, .*: use a list"),
    ],
)
def test_a_handler_that_cannot_be_converted_is_refused(handler: Any, reason: str) -> None:
    bluestreak = Bluestreak(MemoryStore(), codec=PydanticCodec())
    with pytest.raises(InvalidHandler, match=f"the annotation of its input: {reason}"):
        bluestreak.register_handler("h", handler)
    assert bluestreak.handlers == {}


@pytest.mark.parametrize("bad", [None, "pydantic", 7, PydanticCodec, object(), MemoryStore()])
def test_what_is_no_codec_is_refused(bad: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^codec "):
        Bluestreak(MemoryStore(), codec=bad)


@pytest.mark.asyncio
@pytest.mark.parametrize("bad", ["of_dict", 7, {}, object(), True])
async def test_a_handler_to_wait_for_is_a_function(
    fleet: Fleet, store: RecordingStore, bad: Any
) -> None:
    bluestreak = await fleet.engine()
    before = store.begun.copy()
    with pytest.raises(InvalidArgument, match=r"^handler "):
        await bluestreak.wait("w", handler=bad)
    assert store.begun == before


@pytest.mark.asyncio
async def test_a_function_that_is_not_async_is_no_handler(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    with pytest.raises(InvalidId, match=r"<function as_order .*: neither an id nor an async"):
        await bluestreak.start("w", as_order)  # type: ignore[arg-type]
    assert await bluestreak.find_workflow("w") is None
