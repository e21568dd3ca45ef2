"""A callback or an answer that cannot be meant, which leaves nothing behind."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import pytest

from bluestreak_core import (
    Bluestreak,
    Client,
    Context,
    DuplicateStep,
    Handler,
    InvalidArgument,
    InvalidDuration,
    InvalidId,
    InvalidValue,
    NotAwaited,
    NotInitialised,
    Resolution,
    Send,
    UnstorableValue,
    Unsupported,
    UsedInStep,
    UsedInTransaction,
    ValueTooLarge,
)
from bluestreak_memory import MemoryStore
from tests.engine.arrange import Bare, Fleet, aborted_by, on_memory, unread
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


def _keep(token: str) -> None: ...


def _with(**options: Any) -> Call:
    return lambda ctx: ctx.callback("ask", _keep, **options)


def _with_id(step_id: Any) -> Call:
    return lambda ctx: ctx.callback(step_id, _keep)


def _to(hand_over: Any) -> Call:
    return lambda ctx: ctx.callback("ask", hand_over)


async def _keep_async(token: str) -> None: ...


MISTAKES: list[Mistake] = [
    *((_with_id(BAD_IDS[name]), InvalidId) for name in SOME_IDS),
    (_with_id("x" * 500), InvalidId),
    *((_to(bad), InvalidArgument) for bad in (None, "a@example.org", 7)),
    (lambda ctx: ctx.callback("ask", _keep_async("token")), InvalidArgument),  # type: ignore[call-overload]
    *((_with(timeout=BAD_DURATIONS[name]), InvalidDuration) for name in SOME_DURATIONS),
    *((_with(heartbeat=BAD_DURATIONS[name]), InvalidDuration) for name in SOME_DURATIONS),
    (_with(heartbeat=0), InvalidDuration),
    *((_with(deadline=BAD_INSTANTS[name]), InvalidArgument) for name in SOME_INSTANTS),
    *((_with(retry=bad), InvalidArgument) for bad in (3, "3", MINUTE)),
]


@pytest.mark.asyncio
@on_memory
async def test_a_wrong_argument_aborts_the_workflow_and_hands_nothing_over(
    fleet: Fleet, subtests: pytest.Subtests
) -> None:
    mistakes = Mistakes(MISTAKES)
    bluestreak = await fleet.staying(mistakes.handle)
    async with fleet.polling(bluestreak):
        for number in range(len(MISTAKES)):
            with subtests.test(str(number)):
                workflow_id = f"w{number}"
                await bluestreak.start(workflow_id, "h", number)
                await mistakes.check_refused(bluestreak, workflow_id, number)


@pytest.mark.asyncio
@on_memory
async def test_a_timeout_beside_a_deadline_is_refused_by_name(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.callback("ask", _keep, timeout=DAY, deadline=fleet.clock.now())

    bluestreak = await fleet.staying(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        aborted = await aborted_by(bluestreak, InvalidArgument)
    assert aborted.error_message.startswith("deadline of callback 'ask' ")


async def _within_step(ctx: Context, input: None) -> None:
    async def ask() -> Any:
        return await ctx.callback("ask", _keep)

    await ctx.step("s", ask)


async def _within_hand_over(ctx: Context, input: None) -> None:
    async def ask(token: str) -> Any:
        return await ctx.callback("ask", _keep)

    await ctx.callback("s", ask)


@pytest.mark.asyncio
@on_memory
@pytest.mark.parametrize("handler", [_within_step, _within_hand_over])
async def test_a_step_cannot_wait_for_a_callback(fleet: Fleet, handler: Handler) -> None:
    bluestreak = await fleet.staying(handler)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        aborted = await aborted_by(bluestreak, UsedInStep)
    assert re.search(r"'w': callback 'ask' cannot be used within .*'s", aborted.error_message)
    assert await bluestreak.find_step("w", "ask/token/1") is None


@pytest.mark.asyncio
@on_memory
async def test_a_transaction_cannot_wait_for_a_callback(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> None:
        async def book(session: Any) -> None:
            await ctx.callback("ask", _keep)

        await ctx.transaction("book", book)

    bluestreak = await fleet.staying(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await aborted_by(bluestreak, UsedInTransaction)
    assert (await bluestreak.describe("w")).steps == ()


@pytest.mark.asyncio
@on_memory
@pytest.mark.parametrize("used", ["ask", "ask/token/1", "ask/hand-over/1", "ask/heartbeat"])
async def test_a_callback_shares_its_ids_with_the_steps(fleet: Fleet, used: str) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step(used, int)
        await ctx.callback("ask", _keep)

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        aborted = await aborted_by(bluestreak, DuplicateStep)
    assert aborted.error_message == str(DuplicateStep("w", used))


@pytest.mark.asyncio
@on_memory
async def test_a_step_that_has_become_a_callback_aborts_its_workflow_by_name(fleet: Fleet) -> None:
    runs: list[None] = []

    async def handle(ctx: Context, input: None) -> None:
        runs.append(None)
        if len(runs) == 1:
            await ctx.step("ask", int)
            raise ValueError
        await ctx.callback("ask", _keep)

    bluestreak = await fleet.handling(handle, wait_retry_interval=0)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        aborted = await aborted_by(bluestreak, InvalidValue, failures=2)
    assert "output of step 'ask' of workflow 'w'" in aborted.error_message


@pytest.mark.asyncio
@on_memory
async def test_a_callback_that_is_not_awaited_aborts_the_workflow_by_name(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> None:
        ctx.callback("ask", _keep)  # type: ignore[unused-coroutine]

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        aborted = await aborted_by(bluestreak, NotAwaited)
    assert aborted.error_message == str(NotAwaited("w", ("ctx.callback('ask', ...)",)))


# Answers ------------------------------------------------------------------------------------------


async def _asked(fleet: Fleet) -> tuple[Bluestreak, str]:
    """An engine, and the token of a workflow that is parked."""
    tokens: list[str] = []

    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.callback("ask", tokens.append)

    bluestreak = await fleet.parking(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
    return bluestreak, tokens[0]


@pytest.mark.asyncio
@on_memory
async def test_a_wrong_answer_is_refused_and_the_callback_stays_open(
    fleet: Fleet, subtests: pytest.Subtests
) -> None:
    bluestreak, token = await _asked(fleet)
    wrong: list[tuple[dict[str, Any], type[Exception]]] = [
        ({"payload": 1, "error": "no"}, InvalidArgument),
        *(({"error": bad}, InvalidArgument) for bad in (7, b"no", "x" * 1001, "\ud800")),
        ({"payload": object()}, UnstorableValue),
        ({"payload": "x" * (17 * 1024 * 1024)}, ValueTooLarge),
    ]
    for number, (answer, error) in enumerate(wrong):
        with subtests.test(str(number)), pytest.raises(error) as refused:
            await bluestreak.resolve(token, **answer)
        assert token not in str(refused.value)
    assert (await bluestreak.resolve(token, error="")) == Resolution(is_first=True, error="")


@pytest.mark.asyncio
@on_memory
async def test_a_callback_is_not_answered_by_a_message(fleet: Fleet) -> None:
    bluestreak, token = await _asked(fleet)
    with pytest.raises(InvalidArgument, match=r"^message 'callback/ask': .*resolve\(\)"):
        await bluestreak.send("w", "callback/ask", "forged")
    with pytest.raises(InvalidArgument, match=r"^sends\[1\]: message id 'callback/ask': "):
        await bluestreak.send_many(
            [Send("w", "paid"), Send("w", "paid", message_id="callback/ask")]
        )
    assert await unread(fleet.store) == []
    assert (await bluestreak.resolve(token)).is_first


@pytest.mark.asyncio
@on_memory
async def test_a_token_is_a_str_and_never_shown(fleet: Fleet) -> None:
    bluestreak, token = await _asked(fleet)
    for bad in (None, 7, token.encode(), [token]):
        for call in (bluestreak.resolve(bad), bluestreak.beat(bad)):  # type: ignore[arg-type]
            with pytest.raises(InvalidArgument, match=r"^token ") as refused:
                await call
            assert token not in f"{refused.value} {refused.value!r} {refused.value.args}"


@pytest.mark.asyncio
@on_memory
async def test_a_client_that_is_not_open_or_has_no_mailboxes_is_refused(fleet: Fleet) -> None:
    _, token = await _asked(fleet)
    closed = Client(MemoryStore())
    async with Client(Bare(MemoryStore())) as bare:
        for client, error in ((closed, NotInitialised), (bare, Unsupported)):
            with pytest.raises(error, match=r"resolve\(\)"):
                await client.resolve(token)
            with pytest.raises(error, match=r"beat\(\)"):
                await client.beat(token)


@pytest.mark.asyncio
@on_memory
async def test_a_store_without_mailboxes_cannot_wait_for_a_callback(fleet: Fleet) -> None:
    handed_over: list[str] = []

    async def handle(ctx: Context, input: None) -> None:
        await ctx.callback("ask", handed_over.append)

    bluestreak = await fleet.engine(Bare(MemoryStore(clock=fleet.clock)))
    bluestreak.register_handler("h", handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await aborted_by(bluestreak, Unsupported)
    assert handed_over == []
