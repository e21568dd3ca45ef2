"""Bad input gets an error that names it, before anything is written."""

from __future__ import annotations

import functools
from collections.abc import Awaitable, Callable
from datetime import timedelta
from enum import Enum
from typing import Any

import pytest

from bluestreak_core import (
    Bluestreak,
    Context,
    HandlerAlreadyRegistered,
    InvalidArgument,
    InvalidDuration,
    InvalidHandler,
    InvalidId,
    UnstorableValue,
    ValueTooLarge,
    WorkflowAborted,
)
from bluestreak_core.testing import RecordingStore
from bluestreak_memory import MemoryStore
from tests.engine.conftest import Fleet

CYCLE: list[Any] = []
CYCLE.append(CYCLE)

BAD_IDS: dict[str, Any] = {
    "dict": {"$gt": ""},
    "list": ["w"],
    "bytes": b"w",
    "int": 1,
    "bool": True,
    "none": None,
    "empty": "",
    "NUL": "a\0b",
    "lone surrogate": "\ud800",
    "too long": "x" * 513,
}

BAD_DURATIONS: dict[str, Any] = {
    "negative": -1,
    "negative float": -0.001,
    "negative timedelta": timedelta(microseconds=-1),
    "NaN": float("nan"),
    "infinite": float("inf"),
    "bool": True,
    "str": "1",
    "none": None,
    "huge int": 10**400,
    "huge timedelta": timedelta.max,
}

BAD_VALUES: dict[str, Any] = {
    "set": {1},
    "object": object(),
    "function": len,
    "large int": 2**70,
    "non-string key": {1: 2},
    "cycle": CYCLE,
    "lone surrogate": "\ud800",
    "timedelta": timedelta(1),
}

CALLS: dict[str, Callable[[Bluestreak, Any], Awaitable[Any]]] = {
    "start": lambda bluestreak, bad: bluestreak.start(bad, "h"),
    "start handler": lambda bluestreak, bad: bluestreak.start("w", bad),
    "wait": lambda bluestreak, bad: bluestreak.wait(bad),
    "find_workflow": lambda bluestreak, bad: bluestreak.find_workflow(bad),
    "find_step": lambda bluestreak, bad: bluestreak.find_step(bad, "s"),
    "find_step step": lambda bluestreak, bad: bluestreak.find_step("w", bad),
    "find_nap": lambda bluestreak, bad: bluestreak.find_nap(bad, "n"),
    "find_nap nap": lambda bluestreak, bad: bluestreak.find_nap("w", bad),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("call", CALLS)
@pytest.mark.parametrize("name", BAD_IDS)
async def test_a_bad_id_never_reaches_the_store(
    store: RecordingStore, fleet: Fleet, call: str, name: str
) -> None:
    bluestreak = await fleet.engine()
    before = store.begun.copy()
    with pytest.raises(InvalidId, match=r"^(workflow|handler|step|nap) id ") as refused:
        await CALLS[call](bluestreak, BAD_IDS[name])
    assert refused.value.value is BAD_IDS[name]
    assert store.begun == before


@pytest.mark.asyncio
async def test_an_enum_of_strings_is_the_id_that_it_stands_for(fleet: Fleet) -> None:
    class Old(str, Enum):  # noqa: UP042 - whose str() is not its value
        ID = "w"

    bluestreak = await fleet.engine()
    assert await bluestreak.start(Old.ID, "h")
    assert await bluestreak.find_workflow("w") is not None


@pytest.mark.asyncio
@pytest.mark.parametrize("name", BAD_VALUES)
async def test_a_bad_input_creates_nothing(fleet: Fleet, name: str) -> None:
    bluestreak = await fleet.engine()
    with pytest.raises(UnstorableValue, match=r"^input of workflow 'w'"):
        await bluestreak.start("w", "h", {"deep": [BAD_VALUES[name]]})
    assert await bluestreak.find_workflow("w") is None


@pytest.mark.asyncio
async def test_a_large_input_creates_nothing(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    with pytest.raises(ValueTooLarge, match=r"input of workflow 'w' takes 17000005 bytes"):
        await bluestreak.start("w", "h", "x" * 17_000_000)
    assert await bluestreak.find_workflow("w") is None


@pytest.mark.asyncio
@pytest.mark.parametrize("name", BAD_IDS)
@pytest.mark.parametrize("kind", ["step", "sleep"])
async def test_a_bad_id_in_a_handler_records_nothing(fleet: Fleet, kind: str, name: str) -> None:
    bluestreak = await fleet.engine(max_failures=0)
    calls: list[int] = []

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        if kind == "step":
            await ctx.step(BAD_IDS[name], calls.append, 1)
        else:
            await ctx.sleep(BAD_IDS[name], 1)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match=r"InvalidId: (step|nap) id"):
            await bluestreak.wait("w")
    assert calls == []
    assert fleet.store.begun["save_step"] == fleet.store.begun["save_nap"] == 0


@pytest.mark.asyncio
@pytest.mark.parametrize("name", BAD_DURATIONS)
async def test_a_bad_nap_records_nothing(fleet: Fleet, name: str) -> None:
    bluestreak = await fleet.engine(max_failures=0)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.sleep("n", BAD_DURATIONS[name])

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match="InvalidDuration: duration of nap 'n'"):
            await bluestreak.wait("w")
    assert await bluestreak.find_nap("w", "n") is None


@pytest.mark.asyncio
async def test_a_step_needs_something_to_call(fleet: Fleet) -> None:
    bluestreak = await fleet.engine(max_failures=0)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("s", 42)  # type: ignore[call-overload]

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match="step 's' 42: expected something callable"):
            await bluestreak.wait("w")
    assert await bluestreak.find_step("w", "s") is None


@pytest.mark.parametrize("name", BAD_DURATIONS)
@pytest.mark.parametrize(
    "option",
    ["timeout_interval", "poll_interval", "wait_retry_interval", "park_after", "drain_timeout"],
)
def test_a_bad_interval_is_refused_by_its_name(option: str, name: str) -> None:
    with pytest.raises(InvalidDuration, match=f"^{option} "):
        Bluestreak(MemoryStore(), **{option: BAD_DURATIONS[name]})


@pytest.mark.parametrize("option", ["timeout_interval", "poll_interval"])
def test_an_interval_of_nothing_is_refused_where_it_would_spin(option: str) -> None:
    with pytest.raises(InvalidDuration, match=rf"^{option} 0: .* at least a millisecond"):
        Bluestreak(MemoryStore(), **{option: 0})  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("max_failures", -1),
        ("max_failures", 1.5),
        ("max_failures", True),
        ("max_crashes", "10"),
        ("max_concurrency", 0),
        ("max_concurrency", None),
        ("unknown_handler", "ignore"),
        ("error_callback", "print"),
        ("should_stop", True),
    ],
)
def test_a_bad_option_is_refused_by_its_name(option: str, value: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"^{option} "):
        Bluestreak(MemoryStore(), **{option: value})


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("arguments", "name"),
    [
        ({"retries": 0}, "retries"),
        ({"retries": 1.5}, "retries"),
        ({"pause_interval": -1}, "pause_interval"),
    ],
)
async def test_a_bad_wait_is_refused_by_its_name(arguments: dict[str, Any], name: str) -> None:
    async with Bluestreak(MemoryStore()) as bluestreak:
        with pytest.raises(InvalidArgument, match=f"^{name} "):
            await bluestreak.wait("w", **arguments)


def _sync(ctx: Context, input: Any) -> None: ...


async def _too_few(ctx: Context) -> None: ...


async def _too_many(ctx: Context, input: Any, more: Any) -> None: ...


@pytest.mark.parametrize("handler", [None, 42, "name", _sync, len, _too_few, _too_many], ids=repr)
def test_what_is_no_handler_is_not_registered(handler: Any) -> None:
    bluestreak = Bluestreak(MemoryStore())
    with pytest.raises(InvalidHandler, match=r"^handler 'h' "):
        bluestreak.register_handler("h", handler)
    assert bluestreak.handlers == {}


@pytest.mark.parametrize("name", BAD_IDS)
def test_a_handler_id_is_an_id(name: str) -> None:
    bluestreak = Bluestreak(MemoryStore())
    with pytest.raises(InvalidId, match=r"^handler id "):
        bluestreak.register_handler(BAD_IDS[name], _handle)
    assert bluestreak.handlers == {}


async def _handle(ctx: Context, input: Any, more: int = 0) -> None: ...


class _Callable:
    async def __call__(self, ctx: Context, input: Any) -> None: ...


@pytest.mark.parametrize("handler", [_handle, functools.partial(_handle, more=1), _Callable()])
def test_whatever_is_async_and_takes_two_arguments_is_a_handler(handler: Any) -> None:
    bluestreak = Bluestreak(MemoryStore())
    assert bluestreak.handler("h")(handler) is handler
    assert dict(bluestreak.handlers) == {"h": handler}


def test_a_handler_id_is_registered_once() -> None:
    bluestreak = Bluestreak(MemoryStore())
    bluestreak.register_handler("h", _handle)
    with pytest.raises(HandlerAlreadyRegistered, match="handler 'h' is already registered"):
        bluestreak.register_handler("h", _handle)


def test_the_handlers_are_read_only() -> None:
    handlers: Any = Bluestreak(MemoryStore()).handlers
    with pytest.raises(TypeError):
        handlers["h"] = _handle
