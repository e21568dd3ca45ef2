"""Bad input gets an error that names it, before anything is written."""

from __future__ import annotations

import functools
import math
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import UTC, datetime
from enum import Enum
from typing import Any

import pytest

from bluestreak_core import (
    Backoff,
    Bluestreak,
    Context,
    HandlerAlreadyRegistered,
    InvalidArgument,
    InvalidDuration,
    InvalidHandler,
    InvalidId,
    Retry,
    Start,
    SystemClock,
    UnstorableValue,
    ValueTooLarge,
    WorkflowAborted,
)
from bluestreak_core.testing import RecordingStore
from bluestreak_memory import MemoryStore
from tests.engine.arrange import Fleet
from tests.engine.bad_input import (
    BAD_COUNTS,
    BAD_DURATIONS,
    BAD_IDS,
    BAD_INSTANTS,
    BAD_VALUES,
    Raises,
)

pytestmark = pytest.mark.usefixtures("unmeasured")

NOT_CALLABLE: dict[str, Any] = {
    "none": None,
    "int": 42,
    "bool": True,
    "str": "print",
    "bytes": b"print",
    "dict": {},
    "list": [len],
    "raises": Raises(),
}
NO_CHOICE: list[Any] = ["ignore", "", "RAISE", None, True, [], {}, Raises()]
NO_OPTION = [bad for bad in NOT_CALLABLE.values() if bad is not None]


def _type_name(value: object) -> str:
    return type(value).__name__


async def _async() -> bool:
    return False


async def _nothing(session: Any) -> None: ...


NO_RETRIES: list[Any] = [1, "x", {}, Backoff(), Retry, Raises()]
NO_PREDICATE: list[Any] = [*NO_OPTION, _async]


class _Callable:
    async def __call__(self, ctx: Context, input: Any) -> None: ...


CALLS: dict[str, Callable[[Bluestreak, Any], Awaitable[Any]]] = {
    "start": lambda bluestreak, bad: bluestreak.start(bad, "h"),
    "start handler": lambda bluestreak, bad: bluestreak.start("w", bad),
    "wait": lambda bluestreak, bad: bluestreak.wait(bad),
    "find_workflow": lambda bluestreak, bad: bluestreak.find_workflow(bad),
    "find_step": lambda bluestreak, bad: bluestreak.find_step(bad, "s"),
    "find_step step": lambda bluestreak, bad: bluestreak.find_step("w", bad),
    "find_nap": lambda bluestreak, bad: bluestreak.find_nap(bad, "n"),
    "find_nap nap": lambda bluestreak, bad: bluestreak.find_nap("w", bad),
    "describe": lambda bluestreak, bad: bluestreak.describe(bad),
    "start_many": lambda bluestreak, bad: bluestreak.start_many([Start("v", "h"), Start(bad, "h")]),
    "start_many handler": lambda bluestreak, bad: bluestreak.start_many([Start("v", bad)]),
    "cancel": lambda bluestreak, bad: bluestreak.cancel(bad),
    "pause": lambda bluestreak, bad: bluestreak.pause(bad),
    "resume": lambda bluestreak, bad: bluestreak.resume(bad),
    "retry": lambda bluestreak, bad: bluestreak.retry(bad),
    "fork": lambda bluestreak, bad: bluestreak.fork(bad, "f"),
    "fork new id": lambda bluestreak, bad: bluestreak.fork("w", bad),
}

in_memory = pytest.mark.parametrize("store", ["memory"], indirect=True)
"""For what no store is asked: one of them will do."""

BAD_REASONS: dict[str, Any] = {
    "int": 1,
    "bytes": b"why",
    "list": ["why"],
    "query": {"$ne": 1},
    "lone surrogate": "\ud800",
    "much too long": "x" * 1_000_000,
    "raises": Raises(),
}

BOTH = {"delay": 1, "at": datetime(2030, 1, 1, tzinfo=UTC)}

OPTIONS: list[tuple[str, dict[str, Any]]] = [
    *[("delay", {"delay": bad}) for bad in BAD_DURATIONS.values() if bad is not None],
    *[("at", {"at": bad}) for bad in BAD_INSTANTS.values()],
    ("at", BOTH),
]
"""What is given to a start, and the name that it is refused by."""


@in_memory
@pytest.mark.asyncio
@pytest.mark.parametrize("call", CALLS)
async def test_a_bad_id_never_reaches_the_store(
    store: RecordingStore, fleet: Fleet, subtests: pytest.Subtests, call: str
) -> None:
    bluestreak = await fleet.engine()
    before = store.begun.copy()
    of_an_id = r"^(starts\[[01]\]: )?(workflow|handler|step|nap|new) id "
    for name, bad in BAD_IDS.items():
        with subtests.test(name):
            with pytest.raises(InvalidId, match=of_an_id) as refused:
                await CALLS[call](bluestreak, bad)
            assert refused.value.value is bad
            assert len(str(refused.value)) < 300
            assert store.begun == before


@pytest.mark.asyncio
async def test_an_enum_of_strings_is_the_id_that_it_stands_for(fleet: Fleet) -> None:
    class Old(str, Enum):  # noqa: UP042 - whose str() is not its value
        ID = "w"

    bluestreak = await fleet.engine()
    assert await bluestreak.start(Old.ID, "h")
    assert await bluestreak.find_workflow("w") is not None


@pytest.mark.asyncio
@pytest.mark.parametrize("nested", [False, True])
async def test_a_bad_input_creates_nothing(
    fleet: Fleet, subtests: pytest.Subtests, nested: bool
) -> None:
    bluestreak = await fleet.engine()
    for name, (value, place) in BAD_VALUES.items():
        with subtests.test(name):
            with pytest.raises(UnstorableValue, match=r"^input of workflow 'w'") as refused:
                await bluestreak.start("w", "h", {"deep": [value]} if nested else value)
            if place is not None:
                assert refused.value.path == ("['deep'][0]" if nested else "") + place
            assert await bluestreak.find_workflow("w") is None


@pytest.mark.asyncio
async def test_a_bad_output_is_not_recorded_and_a_bad_result_neither(
    fleet: Fleet, subtests: pytest.Subtests
) -> None:
    bluestreak = await fleet.engine()

    @bluestreak.handler("step")
    async def step(ctx: Context, input: str) -> None:
        await ctx.step("s", lambda: BAD_VALUES[input][0])

    @bluestreak.handler("result")
    async def result(ctx: Context, input: str) -> Any:
        return BAD_VALUES[input][0]

    async with fleet.polling(bluestreak):
        for number, name in enumerate(BAD_VALUES):
            with subtests.test(name):
                first, second = f"{number} a", f"{number} b"
                await bluestreak.start(first, "step", name)
                with pytest.raises(WorkflowAborted, match="UnstorableValue: output of step 's' of"):
                    await bluestreak.wait(first)
                assert await bluestreak.find_step(first, "s") is None
                await bluestreak.start(second, "result", name)
                of_result = f"UnstorableValue: result of workflow '{second}'"
                with pytest.raises(WorkflowAborted, match=of_result):
                    await bluestreak.wait(second)
                found = await bluestreak.find_workflow(second)
                assert found is not None
                assert found.result is None


@in_memory
@pytest.mark.asyncio
async def test_a_bad_option_of_a_start_creates_nothing(
    fleet: Fleet, store: RecordingStore, subtests: pytest.Subtests
) -> None:
    bluestreak = await fleet.engine()
    before = store.begun.copy()
    for name, options in OPTIONS:
        with subtests.test(name, options=options):
            with pytest.raises(InvalidArgument, match=f"^{name} "):
                await bluestreak.start("w", "h", **options)
            with pytest.raises(InvalidArgument, match=rf"^starts\[1\]: {name} "):
                await bluestreak.start_many([Start("v", "h"), Start("w", "h", **options)])
            assert store.begun == before


@pytest.mark.asyncio
async def test_a_bad_input_of_many_creates_none_of_them(
    fleet: Fleet, subtests: pytest.Subtests
) -> None:
    bluestreak = await fleet.engine()
    for name, (value, _) in BAD_VALUES.items():
        with subtests.test(name):
            with pytest.raises(UnstorableValue, match=r"^input of workflow 'w'"):
                await bluestreak.start_many([Start("v", "h"), Start("w", "h", value)])
            assert await bluestreak.find_workflow("v") is None


@in_memory
@pytest.mark.asyncio
@pytest.mark.parametrize("bad", [None, "w", 7, Start("w", "h"), [None], ["w"], [("w", "h")]])
async def test_what_are_no_starts_is_refused(fleet: Fleet, store: RecordingStore, bad: Any) -> None:
    bluestreak = await fleet.engine()
    before = store.begun.copy()
    with pytest.raises(InvalidArgument, match=r"^starts"):
        await bluestreak.start_many(bad)
    assert store.begun == before


@in_memory
@pytest.mark.asyncio
@pytest.mark.parametrize("name", BAD_REASONS)
async def test_a_bad_reason_cancels_nothing(fleet: Fleet, store: RecordingStore, name: str) -> None:
    bluestreak = await fleet.engine()
    before = store.begun.copy()
    with pytest.raises(InvalidArgument, match=r"^reason ") as refused:
        await bluestreak.cancel("w", BAD_REASONS[name])
    assert len(str(refused.value)) < 300
    assert store.begun == before


@in_memory
@pytest.mark.asyncio
async def test_a_fork_before_a_bad_id_creates_nothing(
    fleet: Fleet, store: RecordingStore, subtests: pytest.Subtests
) -> None:
    bluestreak = await fleet.engine()
    before = store.begun.copy()
    for name, bad in BAD_IDS.items():
        if bad is not None:
            with subtests.test(name), pytest.raises(InvalidId, match=r"^before "):
                await bluestreak.fork("w", "f", bad)
    assert store.begun == before


@pytest.mark.asyncio
async def test_a_large_input_creates_nothing(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    with pytest.raises(ValueTooLarge, match=r"input of workflow 'w' takes 17000005 bytes"):
        await bluestreak.start("w", "h", "x" * 17_000_000)
    assert await bluestreak.find_workflow("w") is None


@in_memory
@pytest.mark.asyncio
@pytest.mark.parametrize("kind", ["step", "sleep", "compensation", "transaction", "key"])
async def test_a_bad_id_in_a_handler_records_nothing(
    fleet: Fleet, subtests: pytest.Subtests, kind: str
) -> None:
    bluestreak = await fleet.engine(max_failures=0)
    calls: list[int] = []

    @bluestreak.handler("h")
    async def handle(ctx: Context, name: str) -> None:
        match kind:
            case "step":
                await ctx.step(BAD_IDS[name], calls.append, 1)
            case "sleep":
                await ctx.sleep(BAD_IDS[name], 1)
            case "compensation":
                await ctx.compensate(BAD_IDS[name], calls.append, 1)
            case "transaction":
                await ctx.transaction(BAD_IDS[name], _nothing)
            case "key":
                ctx.idempotency_key(BAD_IDS[name])

    async with fleet.polling(bluestreak):
        for number, name in enumerate(BAD_IDS):
            with subtests.test(name):
                await bluestreak.start(str(number), "h", name)
                with pytest.raises(WorkflowAborted, match=r"InvalidId: (step|nap) id"):
                    await bluestreak.wait(str(number))
    assert calls == []
    assert fleet.store.begun["save_step"] == fleet.store.begun["save_nap"] == 0
    assert fleet.store.begun["transact"] == fleet.store.begun["promise"] == 0


@in_memory
@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("policy", "message"),
    [
        *[({"retry": bad}, "retry of step 's'") for bad in NO_RETRIES],
        *[
            ({"timeout": bad}, "timeout of step 's'")
            for bad in [0, *BAD_DURATIONS.values()]
            if bad is not None
        ],
    ],
)
async def test_a_step_is_not_called_by_a_bad_policy(
    fleet: Fleet, policy: dict[str, Any], message: str
) -> None:
    bluestreak = await fleet.engine(max_failures=0)
    calls: list[int] = []

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("s", calls.append, 1, **policy)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match=message):
            await bluestreak.wait("w")
    assert calls == []


NO_NUMBERS: list[Any] = [-1, math.nan, math.inf, "2", None, True, [], Raises()]
NO_EXCEPTIONS: list[Any] = [None, "ValueError", ValueError(), 1, [ValueError], (ValueError, 1)]


@pytest.mark.parametrize(
    ("option", "bad"),
    [
        *[("max_attempts", bad) for bad in (0, *BAD_COUNTS.values())],
        *[("initial", bad) for bad in BAD_DURATIONS.values()],
        *[("max_delay", bad) for bad in BAD_DURATIONS.values() if bad is not None],
        *[("factor", bad) for bad in (0.5, *NO_NUMBERS)],
        *[("jitter", bad) for bad in (1.5, *NO_NUMBERS)],
        *[("retry_on", bad) for bad in (BaseException, Raises(), *NO_EXCEPTIONS)],
        *[("give_up_on", bad) for bad in (BaseException, Raises(), *NO_EXCEPTIONS)],
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_bad_retry_policy_is_refused_by_its_name(option: str, bad: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"^{option} "):
        Retry(**{option: bad})


@pytest.mark.parametrize(
    ("option", "bad"),
    [
        *[("max_failures", bad) for bad in BAD_COUNTS.values()],
        *[("max_crashes", bad) for bad in BAD_COUNTS.values()],
        *[("timeout_interval", bad) for bad in (0, *BAD_DURATIONS.values())],
        *[("wait_retry_interval", bad) for bad in BAD_DURATIONS.values()],
        *[("deadline", bad) for bad in (0, *BAD_DURATIONS.values()) if bad is not None],
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_handler_with_a_bad_rule_is_not_registered(option: str, bad: Any) -> None:
    async def handle(ctx: Context, input: None) -> None: ...

    bluestreak = Bluestreak(MemoryStore())
    with pytest.raises(InvalidArgument, match=f"^{option} "):
        bluestreak.register_handler("h", handle, **{option: bad})
    assert bluestreak.handlers == {}


@in_memory
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
    assert fleet.store.begun["save_nap"] == 0


@in_memory
@pytest.mark.asyncio
@pytest.mark.parametrize("name", NOT_CALLABLE)
async def test_a_step_needs_something_to_call(fleet: Fleet, name: str) -> None:
    bluestreak = await fleet.engine(max_failures=0)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("s", NOT_CALLABLE[name])

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match=r"step 's' .*: expected a function"):
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
        ("max_concurrency", 0),
        ("max_concurrency", None),
        *[("unknown_handler", bad) for bad in NO_CHOICE],
        *[("error_callback", bad) for bad in NO_OPTION],
        *[("should_stop", bad) for bad in NO_PREDICATE],
        *[
            (option, bad)
            for option in ("max_failures", "max_crashes", "max_concurrency")
            for bad in BAD_COUNTS.values()
        ],
    ],
    ids=lambda value: value if isinstance(value, str) else type(value).__name__,
)
def test_a_bad_option_is_refused_by_its_name(option: str, value: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"^{option} "):
        Bluestreak(MemoryStore(), **{option: value})


BAD_WAITS: list[tuple[str, Any]] = [
    ("retries", 0),
    *[("retries", bad) for bad in BAD_COUNTS.values()],
    *[
        (name, bad)
        for name in ("pause_interval", "timeout")
        for bad in BAD_DURATIONS.values()
        if bad is not None  # nothing is said
    ],
]


@in_memory
@pytest.mark.asyncio
async def test_a_bad_wait_is_refused_by_its_name(
    store: RecordingStore, fleet: Fleet, subtests: pytest.Subtests
) -> None:
    bluestreak = await fleet.engine()
    before = store.begun.copy()
    for name, bad in BAD_WAITS:
        with subtests.test(name, bad=bad):
            with pytest.raises(InvalidArgument, match=f"^{name} "):
                await bluestreak.wait("w", **{name: bad})
            assert store.begun == before


@pytest.mark.asyncio
@pytest.mark.parametrize("bad", NO_PREDICATE, ids=_type_name)
async def test_a_bad_should_stop_is_refused_wherever_it_is_given(
    store: RecordingStore, fleet: Fleet, bad: Any
) -> None:
    bluestreak = await fleet.engine()
    before = store.begun.copy()
    with pytest.raises(InvalidArgument, match=r"^should_stop "):
        await bluestreak.poll(should_stop=bad)
    with pytest.raises(InvalidArgument, match=r"^should_stop "):
        bluestreak.should_stop = bad
    assert bluestreak.should_stop is None
    assert store.begun == before


@pytest.mark.parametrize(
    "bad",
    [None, "mongodb://localhost", 7, {}, object(), MemoryStore, Raises(), SystemClock()],
    ids=_type_name,
)
def test_what_is_no_store_is_refused(bad: Any) -> None:
    with pytest.raises(InvalidArgument, match=r"^store "):
        Bluestreak(bad)


@pytest.mark.parametrize("bad", [0, "", 7, False, SystemClock, time.time, Raises()], ids=_type_name)
@pytest.mark.parametrize("argument", ["clock", "rules"])
def test_what_is_no_clock_and_what_are_no_rules_are_refused(argument: str, bad: Any) -> None:
    with pytest.raises(InvalidArgument, match=f"^{argument} "):
        MemoryStore(**{argument: bad})


def _sync(ctx: Context, input: Any) -> None: ...


async def _too_few(ctx: Context) -> None: ...


async def _too_many(ctx: Context, input: Any, more: Any) -> None: ...


async def _generator(ctx: Context, input: Any) -> AsyncIterator[int]:
    yield 1


async def _keyword(ctx: Context, *, input: Any) -> None: ...


NO_HANDLERS: dict[str, Any] = {
    **NOT_CALLABLE,
    "function": _sync,
    "builtin": len,
    "lambda": lambda *_: None,
    "type": dict,
    "class of handlers": _Callable,
    "too few": _too_few,
    "too many": _too_many,
    "async generator": _generator,
    "keyword only": _keyword,
    "partial of too few": functools.partial(_too_many, more=1, input=1),
    "partial of a function": functools.partial(_sync, input=1),
}


@pytest.mark.parametrize("handler", NO_HANDLERS.values(), ids=NO_HANDLERS)
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
    with pytest.raises(InvalidId, match=r"^handler id "):
        bluestreak.handler(BAD_IDS[name])
    assert bluestreak.handlers == {}


def test_the_decorator_wants_the_id_of_the_handler() -> None:
    bluestreak = Bluestreak(MemoryStore())
    with pytest.raises(InvalidId, match=r"^handler id <function .*: an id is a str, not function"):
        bluestreak.handler(_handle)  # type: ignore[arg-type]


async def _handle(ctx: Context, input: Any, more: int = 0) -> None: ...


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


@pytest.mark.asyncio
async def test_the_largest_counts_are_served(fleet: Fleet) -> None:
    largest = 2**31 - 1
    options: Any = dict.fromkeys(["max_concurrency", "max_failures", "max_crashes"], largest)
    bluestreak = await fleet.engine(**options)
    bluestreak.register_handler("h", _handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w", retries=largest) is None
