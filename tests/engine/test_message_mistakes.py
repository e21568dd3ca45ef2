"""A receive that cannot be meant aborts its workflow, and takes no message."""

from __future__ import annotations

import asyncio
import re
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bluestreak_core import (
    Context,
    DuplicateStep,
    Handler,
    InvalidArgument,
    InvalidDuration,
    InvalidId,
    InvalidValue,
    Message,
    MessageTimeout,
    NotAwaited,
    Retry,
    Send,
    UsedInStep,
    UsedInTransaction,
)
from bluestreak_core.testing import Environment, ManualClock
from tests.engine.arrange import Fleet, aborted_by, on_memory, unread
from tests.engine.bad_input import (
    BAD_DURATIONS,
    BAD_IDS,
    BAD_INSTANTS,
    SOME_DURATIONS,
    SOME_IDS,
    SOME_INSTANTS,
)
from tests.engine.mistakes import Call, Mistake, Mistakes

MINUTE = timedelta(minutes=1)
DAY = timedelta(days=1)


async def _within_step(ctx: Context, input: None) -> None:
    async def receive() -> Any:
        return await ctx.receive("get", "paid")

    await ctx.step("s", receive)


async def _within_lambda(ctx: Context, input: None) -> None:
    await ctx.step("s", lambda: ctx.receive("get", "paid"))


async def _within_limited_step(ctx: Context, input: None) -> None:
    await ctx.step("s", lambda: ctx.receive("get", "paid"), timeout=DAY)


async def _within_retried_step(ctx: Context, input: None) -> None:
    await ctx.step("s", lambda: ctx.receive("get", "paid"), retry=Retry(initial=0))


async def _within_branch(ctx: Context, input: None) -> None:
    async def receive() -> None:
        await ctx.receive("get", "paid")

    await asyncio.gather(ctx.step("s", receive))


@pytest.mark.asyncio
@on_memory
@pytest.mark.parametrize(
    "handler",
    [
        _within_step,
        _within_lambda,
        _within_limited_step,
        _within_retried_step,
        _within_branch,
    ],
)
async def test_a_step_cannot_receive(fleet: Fleet, handler: Handler) -> None:
    bluestreak = await fleet.staying(handler)
    await bluestreak.start("w", "h")
    await bluestreak.send("w", "paid", message_id="evt_1")
    async with fleet.polling(bluestreak):
        aborted = await aborted_by(bluestreak, UsedInStep)
    assert re.search(r"'w': receive 'get' cannot be used within .*step 's'$", aborted.error_message)
    assert await unread(fleet.store) == ["evt_1"]
    assert (await bluestreak.describe("w")).steps == ()


@pytest.mark.asyncio
@on_memory
async def test_a_transaction_cannot_receive(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> None:
        async def book(session: Any) -> None:
            await ctx.receive("get", "paid")

        await ctx.transaction("book", book)

    bluestreak = await fleet.staying(handle)
    await bluestreak.start("w", "h")
    await bluestreak.send("w", "paid", message_id="evt_1")
    async with fleet.polling(bluestreak):
        aborted = await aborted_by(bluestreak, UsedInTransaction)
    assert aborted.error_message.endswith("'get' cannot be used within transaction 'book'")
    assert await unread(fleet.store) == ["evt_1"]
    assert (await bluestreak.describe("w")).steps == ()


@pytest.mark.asyncio
@on_memory
@pytest.mark.parametrize("kinds", ["rs", "sr", "rr", "ra"])
async def test_a_receive_shares_its_ids_with_the_steps(fleet: Fleet, kinds: str) -> None:
    async def handle(ctx: Context, input: None) -> None:
        for kind in kinds:
            match kind:
                case "r":
                    await ctx.receive("id", "paid")
                case "a":
                    await ctx.receive_any("id", ["paid"])
                case "s":
                    await ctx.step("id", int)

    bluestreak = await fleet.handling(handle)
    await bluestreak.start("w", "h")
    await bluestreak.send_many([Send("w", "paid", 1), Send("w", "paid", 2)])
    async with fleet.polling(bluestreak):
        aborted = await aborted_by(bluestreak, DuplicateStep)
    assert aborted.error_message == str(DuplicateStep("w", "id"))
    assert len(await unread(fleet.store)) == 2 - (kinds[0] == "r")


@pytest.mark.asyncio
@on_memory
async def test_a_receive_and_a_nap_may_have_the_same_id(fleet: Fleet, clock: ManualClock) -> None:
    async def handle(ctx: Context, input: None) -> str:
        await ctx.sleep("id", 0)
        try:
            await ctx.receive("id", "paid", timeout=DAY)
        except MessageTimeout:
            return "gave up"
        raise AssertionError

    bluestreak = await fleet.parking(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
        clock.advance(DAY)
        assert await bluestreak.wait("w") == "gave up"


@pytest.mark.asyncio
@on_memory
async def test_a_step_that_has_become_a_receive_aborts_its_workflow_by_name(fleet: Fleet) -> None:
    runs: list[None] = []

    async def handle(ctx: Context, input: None) -> None:
        runs.append(None)
        if len(runs) == 1:
            await ctx.step("get", int)
            raise ValueError
        await ctx.receive("get", "paid")

    bluestreak = await fleet.handling(handle, wait_retry_interval=0)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await bluestreak.send("w", "paid", message_id="evt_1")
        aborted = await aborted_by(bluestreak, InvalidValue, failures=2)
    assert "output of step 'get' of workflow 'w'" in aborted.error_message
    assert await unread(fleet.store) == ["evt_1"]


@pytest.mark.asyncio
@on_memory
@pytest.mark.parametrize("verb", ["receive", "receive_any"])
async def test_a_receive_that_is_not_awaited_aborts_the_workflow_by_name(
    fleet: Fleet, verb: str
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        if verb == "receive":
            ctx.receive("get", "paid")  # type: ignore[unused-coroutine]
        else:
            ctx.receive_any("get", ["paid"])  # type: ignore[unused-coroutine]

    bluestreak = await fleet.handling(handle)
    await bluestreak.start("w", "h")
    await bluestreak.send("w", "paid", message_id="evt_1")
    async with fleet.polling(bluestreak):
        aborted = await aborted_by(bluestreak, NotAwaited)
    assert aborted.error_message == str(NotAwaited("w", (f"ctx.{verb}('get', ...)",)))
    assert await unread(fleet.store) == ["evt_1"]


def test_a_receive_that_outlives_its_handler_is_cancelled_and_named(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def go_on(ctx: Context) -> None:
        await asyncio.sleep(1)
        await ctx.receive("late", "paid")

    async def handle(ctx: Context, input: None) -> str:
        left_behind.append(asyncio.create_task(go_on(ctx)))
        return "done"

    left_behind: list[asyncio.Task[None]] = []
    with Environment() as env:
        assert env.run(handle, workflow_id="w").result == "done"
        env.advance(5)
        assert left_behind[0].cancelled()
    assert "workflow 'w': receive 'late' was called after its handler had ended" in caplog.text


NO_LISTS: list[Any] = [
    "paid",
    {"paid"},
    {"paid": 1},
    None,
    7,
    (name for name in ["paid"]),
    b"paid",
    [],
    (),
]
NO_NAMES: list[Any] = [None, 7, b"paid", ["paid"], Message]
NOW = datetime(2030, 1, 1, tzinfo=UTC)


def _any_of(messages: Any) -> Call:
    return lambda ctx: ctx.receive_any("get", messages)


def _named(message: Any) -> Call:
    return lambda ctx: ctx.receive("get", message)


def _limited(**limit: Any) -> Call:
    return lambda ctx: ctx.receive("get", "paid", **limit)


def _with_id(step_id: Any) -> Call:
    return lambda ctx: ctx.receive(step_id, "paid")


MISTAKES: list[Mistake] = [
    *((_with_id(BAD_IDS[name]), InvalidId) for name in SOME_IDS),
    *((_named(bad), InvalidArgument) for bad in NO_NAMES),
    *((_named(bad), InvalidId) for bad in ("", "a\0b", "x" * 513, "\ud800")),
    *((_any_of(bad), InvalidArgument) for bad in NO_LISTS),
    *((_any_of(["paid", bad]), InvalidArgument) for bad in NO_NAMES),
    *((_limited(timeout=BAD_DURATIONS[name]), InvalidDuration) for name in SOME_DURATIONS),
    *((_limited(deadline=BAD_INSTANTS[name]), InvalidArgument) for name in SOME_INSTANTS),
    *((_limited(timeout=timeout, deadline=NOW), InvalidArgument) for timeout in (0, DAY)),
]


@pytest.mark.asyncio
@on_memory
async def test_a_wrong_argument_aborts_the_workflow_and_receives_nothing(
    fleet: Fleet, subtests: pytest.Subtests
) -> None:
    mistakes = Mistakes(MISTAKES)
    bluestreak = await fleet.staying(mistakes.handle)
    async with fleet.polling(bluestreak):
        for number in range(len(MISTAKES)):
            with subtests.test(str(number)):
                workflow_id = f"w{number}"
                await bluestreak.start(workflow_id, "h", number, delay=MINUTE)
                await bluestreak.send(workflow_id, "paid", message_id="evt_1")
                fleet.clock.advance(MINUTE)
                await mistakes.check_refused(bluestreak, workflow_id, number)
                assert await unread(fleet.store, workflow_id) == ["evt_1"]


def test_a_message_is_declared_with_a_name(subtests: pytest.Subtests) -> None:
    for name in SOME_IDS:
        with subtests.test(name):
            with pytest.raises(InvalidId, match=r"^name of a message ") as refused:
                Message(BAD_IDS[name])
            assert refused.value.value is BAD_IDS[name]
