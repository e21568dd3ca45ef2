"""A workflow that restarts begins anew under its id, and nothing of its past reaches it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Collection
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from typing_extensions import override

from bluestreak_core import (
    Abort,
    Bluestreak,
    Claim,
    Context,
    Handler,
    InvalidValue,
    NotAwaited,
    Retry,
    Status,
    StoreUnavailable,
    UnstorableValue,
    UsedInStep,
    UsedInTransaction,
    ValueTooLarge,
    WorkflowAborted,
    WorkflowConflict,
)
from bluestreak_core.run import frame
from bluestreak_core.testing import ManualClock, RecordingStore, StoreWrapper
from bluestreak_memory import MemoryStore
from bluestreak_pydantic import PydanticCodec
from tests.arrange import eventually, pass_time
from tests.engine.arrange import Bare, Fleet, Gate, aborted_by, on_memory, workflow_of

DAY = timedelta(days=1)


async def count_up(ctx: Context, number: int) -> int:
    await ctx.step("s", int, number)
    if number < 3:
        await ctx.restart(number + 1)
    return number


# What begins anew ---------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_the_next_run_gets_the_new_input_and_no_records(fleet: Fleet) -> None:
    runs: list[tuple[int, int]] = []

    async def handle(ctx: Context, number: int) -> int:
        runs.append((number, ctx.info.generation))
        assert await ctx.step("s", int, number) == number
        await ctx.sleep("n", 0)
        if number < 3:
            await ctx.restart(number + 1)
        return number

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h", 1)
        assert await bluestreak.wait("w") == 3
    assert runs == [(1, 0), (2, 1), (3, 2)]
    workflow = await workflow_of(bluestreak)
    assert (workflow.input, workflow.generation, workflow.claims) == (3, 2, 3)
    assert (workflow.failures, workflow.crashes) == (0, 0)
    described = await bluestreak.describe("w")
    assert [step.output for step in described.steps] == [3]
    assert "restarted 2 times" in str(described)
    assert "  restarted\n" in str(described)


@pytest.mark.asyncio
@on_memory
async def test_failures_of_the_last_generation_do_not_count(fleet: Fleet) -> None:
    failures: list[int] = []

    async def handle(ctx: Context, number: int) -> int:
        if failures.count(number) < 2:
            failures.append(number)
            raise ValueError(number)
        if number < 3:
            await ctx.restart(number + 1)
        return number

    bluestreak = await fleet.handling(handle, max_failures=2, wait_retry_interval=0)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h", 1)
        assert await bluestreak.wait("w") == 3
    assert (await workflow_of(bluestreak)).failures == 2


@pytest.mark.asyncio
@on_memory
async def test_a_step_that_was_given_up_is_tried_anew(fleet: Fleet) -> None:
    calls: list[int] = []

    async def charge(number: int) -> None:
        calls.append(number)
        raise ConnectionError

    async def handle(ctx: Context, number: int) -> int:
        with suppress(Exception):
            await ctx.step("charge", charge, number, retry=Retry(max_attempts=2, initial=0))
        if number < 2:
            await ctx.restart(number + 1)
        return number

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h", 1)
        await bluestreak.wait("w")
    assert calls == [1, 1, 2, 2]


@pytest.mark.asyncio
@on_memory
async def test_each_generation_has_idempotency_keys_of_its_own(fleet: Fleet) -> None:
    keys: list[str] = []

    async def handle(ctx: Context, number: int) -> None:
        keys.append(ctx.idempotency_key("charge"))
        await ctx.sleep("n", DAY)
        keys.append(ctx.idempotency_key("charge"))
        if number < 3:
            await ctx.restart(number + 1)

    bluestreak = await fleet.parking(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h", 1)
        for number in range(1, 4):
            await fleet.store.until_returned("park", number)
            fleet.clock.advance(DAY)
        await bluestreak.wait("w")
    assert len(set(keys)) == 3
    assert len(keys) == 9


@pytest.mark.asyncio
@on_memory
async def test_each_generation_publishes_anew(fleet: Fleet) -> None:
    async def handle(ctx: Context, number: int) -> None:
        for part in range(4 - number):
            await ctx.publish("progress", f"{number}.{part}")
        await ctx.publish("period", number)
        if number < 3:
            await ctx.restart(number + 1)

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h", 1)
        await bluestreak.wait("w")
    published = {each.name: each for each in (await workflow_of(bluestreak)).published}
    assert (published["progress"].value, published["period"].value) == ("3.0", 3)
    assert (published["progress"].number, published["progress"].generation) == (1, 2)


@pytest.mark.asyncio
async def test_messages_wait_for_the_next_generation(fleet: Fleet) -> None:
    async def handle(ctx: Context, got: list[int]) -> list[int]:
        got.append(await ctx.receive("get", "number"))
        if len(got) < 3:
            await ctx.restart(got)
        return got

    bluestreak = await fleet.handling(handle)
    await bluestreak.start("w", "h", [])
    await bluestreak.send("w", "number", 1, message_id="1")
    await bluestreak.send("w", "number", 2, message_id="2")
    async with fleet.polling(bluestreak):
        await fleet.store.until_begun("wait_for_message")
        assert not await bluestreak.send("w", "number", 1, message_id="1")
        assert await bluestreak.send("w", "number", 3, message_id="3")
        assert await bluestreak.wait("w") == [1, 2, 3]


@pytest.mark.asyncio
@on_memory
async def test_an_input_has_the_type_of_the_handler(fleet: Fleet) -> None:
    @dataclass
    class Period:
        number: int
        ends_at: datetime

    async def handle(ctx: Context, period: Any) -> int:
        if period.number < 2:
            await ctx.restart(Period(period.number + 1, period.ends_at + DAY))
        assert period.ends_at == fleet.clock.now() + DAY
        return int(period.number)

    handle.__annotations__ |= {"period": Period, "ctx": Context, "return": int}
    bluestreak = await fleet.handling(handle, codec=PydanticCodec())
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", handle, Period(1, fleet.clock.now()))
        assert await bluestreak.wait("w") == 2


# The end of the run -------------------------------------------------------------------------------


@pytest.mark.asyncio
@on_memory
async def test_a_restart_cancels_the_branches(fleet: Fleet) -> None:
    gate = Gate()

    async def handle(ctx: Context, number: int) -> int:
        if number == 2:
            return number
        step = asyncio.create_task(ctx.step("gate", gate.step))
        await gate.inside.wait()
        try:
            await ctx.restart(2)
        finally:
            assert step.cancel()

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h", 1)
        assert await bluestreak.wait("w") == 2
    assert gate.cancelled


@pytest.mark.asyncio
@on_memory
async def test_a_branch_may_restart(fleet: Fleet) -> None:
    async def handle(ctx: Context, number: int) -> int:
        if number == 2:
            return number
        await asyncio.gather(ctx.sleep("long", DAY), ctx.restart(2))
        raise AssertionError("it went on")

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h", 1)
        assert await bluestreak.wait("w") == 2


@pytest.mark.asyncio
@on_memory
async def test_a_handler_that_swallows_its_restart_restarts(fleet: Fleet) -> None:
    async def handle(ctx: Context, number: int) -> int:
        if number == 1:
            with suppress(asyncio.CancelledError):
                await ctx.restart(2)
        return number

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h", 1)
        assert await bluestreak.wait("w") == 2


@pytest.mark.asyncio
async def test_a_stopping_worker_restarts_what_asks_for_it(fleet: Fleet) -> None:
    gate = Gate()

    async def handle(ctx: Context, number: int) -> None:
        await ctx.step("gate", gate.step)
        await ctx.restart(2)

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h", 1)
        await gate.inside.wait()
        bluestreak.stop()
        await eventually(lambda: bluestreak.health().state == "draining")
        gate.go_on.set()
        await fleet.store.until_returned("restart")
    workflow = await workflow_of(bluestreak)
    assert (workflow.status, workflow.generation, workflow.input) == (Status.IDLE, 1, 2)


@pytest.mark.asyncio
async def test_a_restart_whose_answer_is_lost_happens_once(clock: ManualClock) -> None:
    class Lossy(StoreWrapper):
        calls = 0

        @override
        async def restart(
            self, claim: Claim, input: Any, received: Collection[str], now: datetime
        ) -> None:
            await super().restart(claim, input, received, now)
            self.calls += 1
            if self.calls < 3:
                raise StoreUnavailable("lost")

    fleet = Fleet(RecordingStore(Lossy(MemoryStore(clock=clock))), clock)
    bluestreak = await fleet.handling(count_up)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h", 2)
        await pass_time(clock, lambda: fleet.store.returned["finish"] == 1)
    workflow = await workflow_of(bluestreak)
    assert (workflow.generation, workflow.result) == (1, 3)


@pytest.mark.asyncio
async def test_a_cancelled_workflow_does_not_restart(fleet: Fleet) -> None:
    gate = Gate()

    async def handle(ctx: Context, number: int) -> None:
        await ctx.step("s", int, number)
        await gate.step()
        await ctx.restart(2)

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h", 1)
        await gate.inside.wait()
        await bluestreak.cancel("w")
        gate.go_on.set()
        await eventually(lambda: bluestreak.health().runs == 0)
    workflow = await workflow_of(bluestreak)
    assert (workflow.status, workflow.generation) == (Status.CANCELLED, 0)
    assert await bluestreak.find_step("w", "s") is not None


@pytest.mark.asyncio
@on_memory
async def test_a_strict_start_accepts_a_workflow_that_has_restarted(fleet: Fleet) -> None:
    bluestreak = await fleet.handling(count_up)
    async with fleet.polling(bluestreak):
        assert await bluestreak.start("w", "h", 1, strict=True)
        await bluestreak.wait("w")
    assert not await bluestreak.start("w", "h", 1, strict=True)
    with pytest.raises(WorkflowConflict):
        await bluestreak.start("w", "other", 1, strict=True)


# Many steps ---------------------------------------------------------------------------------------


@pytest.mark.asyncio
@on_memory
async def test_a_run_of_many_steps_is_warned_of_once(
    fleet: Fleet, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(frame, "MANY_STEPS", 10)

    async def handle(ctx: Context, steps: int) -> None:
        for number in range(steps):
            await ctx.step(f"{number}", int)

    bluestreak = await fleet.handling(handle)
    caplog.set_level(logging.WARNING, "bluestreak_core.run.frame")
    async with fleet.polling(bluestreak):
        for steps in (9, 30):
            await bluestreak.start(f"{steps}", "h", steps)
            await bluestreak.wait(f"{steps}")
    (warning,) = caplog.messages
    assert warning.startswith("workflow '30' uses its step number 10; ")


# Mistakes -----------------------------------------------------------------------------------------


async def _within_step(ctx: Context, input: None) -> None:
    await ctx.step("s", lambda: ctx.restart(2))


async def _within_transaction(ctx: Context, input: None) -> None:
    async def write(session: Any) -> None:
        await ctx.restart(2)

    await ctx.transaction("t", write)


async def _unstorable(ctx: Context, input: None) -> None:
    await ctx.step("s", int)
    with suppress(asyncio.CancelledError):
        await ctx.restart(object())


async def _too_large(ctx: Context, input: None) -> None:
    await ctx.step("s", int)
    await ctx.restart("x" * 2**24)


async def _not_awaited(ctx: Context, input: None) -> None:
    ctx.restart(2)  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]


@pytest.mark.asyncio
@on_memory
@pytest.mark.parametrize(
    ("handler", "error"),
    [
        (_within_step, UsedInStep),
        (_within_transaction, UsedInTransaction),
        (_unstorable, UnstorableValue),
        (_too_large, ValueTooLarge),
        (_not_awaited, NotAwaited),
    ],
)
async def test_a_restart_that_cannot_be_meant_aborts(
    fleet: Fleet, handler: Handler, error: type[Exception]
) -> None:
    bluestreak = await fleet.handling(handler)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        aborted = await aborted_by(bluestreak, error)
    assert (await workflow_of(bluestreak)).generation == 0
    if error in (UnstorableValue, ValueTooLarge):
        assert "input of workflow 'w'" in aborted.error_message
        assert await bluestreak.find_step("w", "s") is not None


@pytest.mark.asyncio
@on_memory
async def test_an_input_that_does_not_fit_the_handler_aborts(fleet: Fleet) -> None:
    async def handle(ctx: Context, number: int) -> None:
        with suppress(InvalidValue):
            await ctx.restart("two")

    bluestreak = await fleet.handling(handle, codec=PydanticCodec())
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h", 1)
        await aborted_by(bluestreak, InvalidValue)


@pytest.mark.asyncio
async def test_a_store_that_cannot_restart_is_named() -> None:
    bare: Any = Bare(MemoryStore())
    bluestreak = Bluestreak(bare, poll_interval=0.01)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.restart(2)

    async with bluestreak:
        await bluestreak.start("w", "h")
        poll = asyncio.create_task(bluestreak.poll())
        with pytest.raises(WorkflowAborted, match="Bare cannot restart workflows"):
            await bluestreak.wait("w")
        bluestreak.stop()
        await poll


@pytest.mark.asyncio
@on_memory
async def test_an_error_beside_a_restart_does_not_undo_it(fleet: Fleet) -> None:
    async def handle(ctx: Context, number: int) -> int:
        if number == 2:
            return number
        try:
            await ctx.restart(2)
        finally:
            raise Abort("too late")

    bluestreak = await fleet.handling(handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h", 1)
        assert await bluestreak.wait("w") == 2
