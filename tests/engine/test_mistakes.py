"""What cannot succeed on another try is not tried again, and its message says what to write."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

import pytest

from bluestreak_core import (
    Backoff,
    Bluestreak,
    Context,
    InvalidArgument,
    InvalidId,
    Retry,
    Unsupported,
    UsageError,
    WorkflowAborted,
)
from bluestreak_core.testing import Environment, StoreWrapper
from bluestreak_memory import MemoryStore
from tests.engine.arrange import Fleet

Use = Callable[[Any], Awaitable[object]]


@dataclass
class Receipt:
    cents: int


async def _charge(*_: Any) -> None: ...


async def _twice(ctx: Context) -> None:
    for _ in range(2):
        await ctx.step("charge", _charge)


async def _two_naps(ctx: Context) -> None:
    for _ in range(2):
        await ctx.sleep("nap", 0)


async def _in_a_group(ctx: Context) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.step("", _charge))


async def _within_a_transaction(ctx: Context) -> None:
    async def write(_: object) -> None:
        await ctx.step("charge", _charge)

    await ctx.transaction("t", write)


async def _within_an_attempt(ctx: Context) -> None:
    async def attempt() -> None:
        await ctx.step("", _charge)

    await ctx.step("attempt", attempt, retry=Retry(max_attempts=None))


def _receipt() -> Any:
    return Receipt(1)


BUILD = "in a loop, build the id from the loop's data"
MISTAKES: dict[str, tuple[Use, str]] = {
    "a coroutine": (
        lambda ctx: ctx.step("charge", _charge(1)),
        "write ctx.step('charge', fn, *args), not ctx.step('charge', fn(*args))",
    ),
    "the result of a function": (
        lambda ctx: ctx.step("charge", 7),
        "step 'charge' 7: expected a function: write ctx.step('charge', fn, *args)",
    ),
    "a coroutine for a transaction": (
        lambda ctx: ctx.transaction("charge", _charge(1)),
        "write ctx.transaction('charge', fn, *args)",
    ),
    "a coroutine for a compensation": (
        lambda ctx: ctx.compensate("undo", _charge(1)),
        "write ctx.compensate('undo', fn, *args), not ctx.compensate('undo', fn(*args))",
    ),
    "rules that are none for a compensation": (
        lambda ctx: ctx.compensate("undo", _charge, retry=3),
        "retry of compensation 'undo' 3: expected a Retry",
    ),
    "a time-out that is none for a compensation": (
        lambda ctx: ctx.compensate("undo", _charge, timeout=0),
        "timeout of compensation 'undo' 0",
    ),
    "a function that is not async for a transaction": (
        lambda ctx: ctx.transaction("charge", str),
        "expected an async function",
    ),
    "a step id that was used": (_twice, BUILD),
    "a nap id that was used": (_two_naps, BUILD),
    "an empty id in a branch": (_in_a_group, "an id is not empty"),
    "an empty id in an attempt": (_within_an_attempt, "an id is not empty"),
    "a time-out that is none": (
        lambda ctx: ctx.step("charge", _charge, timeout=-1),
        "a duration is neither negative",
    ),
    "rules that are none": (
        lambda ctx: ctx.step("charge", _charge, retry=3),
        "expected a Retry",
    ),
    "rules that cannot be": (
        lambda ctx: ctx.step("charge", _charge, retry=Retry(max_attempts=0)),
        "max_attempts 0",
    ),
    "a nap that is none": (lambda ctx: ctx.sleep("nap", -1), "a duration is neither negative"),
    "a step in a transaction": (_within_a_transaction, "within transaction 't'"),
    "an id of an idempotency key": (
        lambda ctx: asyncio.sleep(0, ctx.idempotency_key("")),
        "an id is not empty",
    ),
    "a dataclass without a codec": (lambda ctx: ctx.step("s", _receipt), "PydanticCodec"),
}


@pytest.mark.asyncio
@pytest.mark.parametrize("name", MISTAKES)
async def test_a_handler_is_not_tried_again_after(fleet: Fleet, name: str) -> None:
    use, message = MISTAKES[name]
    bluestreak = await fleet.engine(wait_retry_interval=0)
    runs: list[str] = []

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        runs.append(name)
        await use(ctx)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted) as aborted:
            await bluestreak.wait("w")
    assert message in aborted.value.error_traceback
    assert runs == [name]


class _WithoutTransactions(StoreWrapper):
    async def check_transactions(self, call: str) -> None:
        raise Unsupported(call, "the server is standalone")


def test_a_transaction_on_a_server_without_them_is_not_tried_again() -> None:
    with Environment(worker_store=_WithoutTransactions) as env:
        outcome = env.run(_transact)
        assert [type(error) for error in outcome.errors] == [Unsupported]


async def _transact(ctx: Context, input: None) -> None:
    await ctx.transaction("t", _charge)


def test_a_mistake_that_the_handler_catches_is_its_own_affair() -> None:
    async def handle(ctx: Context, input: None) -> str:
        try:
            await ctx.step("", _charge)
        except InvalidId:
            return "caught"
        return "missed"

    with Environment() as env:
        assert env.run(handle).result == "caught"


def test_a_mistake_in_what_a_step_does_elsewhere_may_pass() -> None:
    async def call_another_engine() -> None:
        calls.append(1)
        if len(calls) < 3:
            await Bluestreak(MemoryStore()).start("w", "h")  # before init()

    async def handle(ctx: Context, input: None) -> int:
        await ctx.step("s", call_another_engine)
        return len(calls)

    calls: list[int] = []
    with Environment() as env:
        outcome = env.run(handle)
        assert outcome.result == 3
        assert [isinstance(error, UsageError) for error in outcome.errors] == [True, True]


def test_a_url_for_a_store_is_refused_with_what_to_write_and_without_its_password() -> None:
    with pytest.raises(InvalidArgument, match=r"write MongoStore\(url\)") as refused:
        Bluestreak("mongodb://user:secret@host")  # type: ignore[arg-type]
    assert "secret" not in repr(refused.value) + str(refused.value)


class _Hasty(Backoff):
    def delay(self, number: int) -> timedelta:
        raise LookupError("no delay")


def test_a_backoff_that_fails_is_logged_and_its_workflow_is_tried_again(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def handle(ctx: Context, input: None) -> int:
        runs.append(1)
        if len(runs) == 1:
            raise LookupError
        return len(runs)

    runs: list[int] = []
    with Environment(wait_retry_interval=_Hasty()) as env:
        begun_at = env.now
        assert env.run(handle).result == 2
        assert env.now - begun_at == timedelta(minutes=1)
    assert "a Backoff raised" in caplog.text


class _OddCodec:
    """Fails at the values that it is asked to fail at."""

    def refusal(self, annotation: Any) -> str | None:
        return None

    def encode(self, value: Any, annotation: Any, what: str) -> Any:
        return self._unless("encode", value)

    def decode(self, value: Any, annotation: Any, what: str) -> Any:
        return self._unless("decode", value)

    @staticmethod
    def _unless(failing: str, value: Any) -> Any:
        if value == failing:
            raise KeyError(f"cannot {failing}")
        return value


@pytest.mark.parametrize("value", ["encode", "decode"])
def test_a_codec_that_fails_fails_the_workflow_and_nothing_else(value: str) -> None:
    async def handle(ctx: Context, input: str) -> str:
        return "encode"

    with Environment(codec=_OddCodec(), max_failures=1) as env:
        env.register_handler("h", handle)
        env.start("w", "h", "decode" if value == "decode" else "fine")
        outcome = env.wait("w")
        assert [type(error) for error in outcome.errors] == [KeyError, KeyError]
