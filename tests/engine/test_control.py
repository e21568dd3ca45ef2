"""Workflows that somebody cancels, pauses, resumes and retries."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from typing_extensions import override

from bluestreak_core import (
    Bluestreak,
    Context,
    Retry,
    Status,
    StepFailed,
    StoreUnavailable,
    TransitionRefused,
    WaitTimeout,
    WorkflowAborted,
    WorkflowCancelled,
    WorkflowNotFound,
)
from bluestreak_core.testing import Environment, ManualClock, RecordingStore
from bluestreak_memory import MemoryStore
from tests.arrange import eventually, pass_time
from tests.engine.arrange import Fleet

SECOND = timedelta(seconds=1)
LEASE = timedelta(hours=1)
DAY = timedelta(days=1)


async def _status(bluestreak: Bluestreak) -> Status:
    workflow = await bluestreak.find_workflow("w")
    assert workflow is not None
    return workflow.status


class Ward:
    """A handler whose step never ends by itself, and what becomes of it."""

    def __init__(self) -> None:
        self.inside = asyncio.Event()
        self.told: list[str] = []

    async def hang(self) -> None:
        self.inside.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.told.append("step ended")

    async def handle(self, ctx: Context, input: None) -> None:
        try:
            await ctx.step("first", lambda: 1)
            await ctx.compensate("undo", self.told.append, "undone")
            await ctx.compensate("tell", self.tell, "told")
            await ctx.step("hang", self.hang)
        finally:
            self.told.append("handler ended")

    async def tell(self, what: str) -> str:
        await asyncio.sleep(0)
        self.told.append(what)
        return what


async def _until(fleet: Fleet, condition: Callable[[], bool]) -> None:
    """Let time pass until a condition holds, which it does before the next renewal."""
    began = fleet.clock.now()
    await pass_time(fleet.clock, condition)
    assert fleet.clock.now() - began < LEASE / 3


# Cancelling --------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_workflow_that_is_not_running_is_cancelled_at_once(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    await bluestreak.start("w", "h")
    assert await bluestreak.cancel("w", "no longer wanted")
    with pytest.raises(WorkflowCancelled, match="'w' was cancelled: no longer wanted") as raised:
        await bluestreak.wait("w")
    assert raised.value.reason == "no longer wanted"
    workflow = await bluestreak.find_workflow("w")
    assert workflow is not None
    assert (workflow.status, workflow.finished_at) == (Status.CANCELLED, fleet.clock.now())


@pytest.mark.asyncio
async def test_what_has_ended_is_not_cancelled(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        return "done"

    await bluestreak.start("w", "h")
    async with fleet.polling(bluestreak):
        await bluestreak.wait("w")
    assert not await bluestreak.cancel("w")
    assert await bluestreak.wait("w") == "done"
    await bluestreak.start("v", "h")
    assert await bluestreak.cancel("v", "first")
    assert not await bluestreak.cancel("v", "second")
    with pytest.raises(WorkflowCancelled, match="first"):
        await bluestreak.wait("v")
    with pytest.raises(WorkflowNotFound):
        await bluestreak.cancel("u")


@pytest.mark.asyncio
async def test_a_busy_worker_does_not_ask_again_for_what_was_taken_long_ago(
    clock: ManualClock,
) -> None:
    asked: list[datetime] = []

    class Asked(MemoryStore):
        @override
        async def wait_for_control(self, worker: str, since: datetime, timeout: timedelta) -> bool:
            asked.append(since)
            return await super().wait_for_control(worker, since, timeout)

    fleet, ward = Fleet(RecordingStore(Asked(clock=clock)), clock), Ward()
    bluestreak = await fleet.engine(timeout_interval=10)
    bluestreak.register_handler("h", ward.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await pass_time(clock, lambda: len(asked) > 3)
        assert asked[3] - asked[0] >= 20 * SECOND


@pytest.mark.asyncio
async def test_a_running_workflow_hears_of_it_and_compensates(
    fleet: Fleet, store: RecordingStore, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ward = Ward()
    bluestreak = await fleet.engine(timeout_interval=LEASE)
    bluestreak.register_handler("h", ward.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await ward.inside.wait()
        assert await bluestreak.cancel("w", "enough\nERROR all is lost \x1b[31m")
        await _until(fleet, lambda: "undone" in ward.told and bluestreak.health().runs == 0)
        replayed = ["handler ended"]
        assert ward.told == ["step ended", "handler ended", *replayed, "told", "undone"]
        assert await _status(bluestreak) is Status.CANCELLED
    assert await bluestreak.find_step("w", "hang") is None
    for step_id, output in (("tell", "told"), ("undo", None)):
        step = await bluestreak.find_step("w", step_id)
        assert step is not None
        assert step.output == output
    reason = r"'enough\nERROR all is lost \x1b[31m'"
    assert f"workflow 'w' was cancelled: {reason}" in caplog.text


@pytest.mark.asyncio
async def test_a_worker_in_another_process_hears_of_it(fleet: Fleet, store: RecordingStore) -> None:
    ward = Ward()
    there, here = await fleet.engine(timeout_interval=LEASE), await fleet.engine()
    there.register_handler("h", ward.handle)
    async with fleet.polling(there):
        await here.start("w", "h")
        await ward.inside.wait()
        await here.cancel("w")
        await _until(fleet, lambda: "undone" in ward.told and there.health().runs == 0)
    assert ward.told[-1] == "undone"


@pytest.mark.asyncio
async def test_what_a_thread_returns_after_a_cancellation_is_dropped(fleet: Fleet) -> None:
    inside, release, ended = threading.Event(), threading.Event(), threading.Event()
    bluestreak = await fleet.engine(timeout_interval=LEASE)

    def block() -> str:
        inside.set()
        release.wait(30)
        ended.set()
        return "too late"

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        return await ctx.step("block", block)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await eventually(inside.is_set)
        await bluestreak.cancel("w")
        await _until(fleet, lambda: bluestreak.health().runs == 0)
        release.set()
        await eventually(ended.is_set)
    assert await bluestreak.find_step("w", "block") is None


# Pausing -----------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_paused_workflow_is_left_alone_until_it_is_resumed(
    fleet: Fleet, clock: ManualClock
) -> None:
    bluestreak = await fleet.engine()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        return "done"

    await bluestreak.start("w", "h")
    await bluestreak.pause("w")
    async with fleet.polling(bluestreak):
        for _ in range(3):
            await clock.until_sleeping(5 * SECOND)
            clock.advance(5 * SECOND)
        with pytest.raises(WaitTimeout, match="still 'paused'"):
            await bluestreak.wait("w", retries=1)
        await bluestreak.resume("w")
        assert await bluestreak.wait("w") == "done"


@pytest.mark.asyncio
async def test_a_running_workflow_that_is_paused_writes_nothing_and_goes_on_when_resumed(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    ward = Ward()
    again: list[Any] = []
    bluestreak = await fleet.engine(timeout_interval=LEASE)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        first = await ctx.step("first", lambda: "kept")
        await ctx.compensate("undo", ward.told.append, "undone")
        if not again:
            again.append(first)
            await ctx.step("hang", ward.hang)
        return first

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await ward.inside.wait()
        await bluestreak.pause("w")
        await _until(fleet, lambda: bluestreak.health().runs == 0)
        assert await _status(bluestreak) is Status.PAUSED
        assert ward.told == ["step ended"]
        await bluestreak.resume("w")
        assert await bluestreak.wait("w") == "kept"
    workflow = await bluestreak.find_workflow("w")
    assert workflow is not None
    assert (workflow.claims, workflow.crashes, workflow.failures) == (2, 0, 0)
    assert "workflow 'w' was paused" in caplog.text


@pytest.mark.asyncio
async def test_an_event_without_an_arrow_is_refused_with_the_status(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    await bluestreak.start("w", "h")
    for refused, event in ((bluestreak.resume, "resume"), (bluestreak.retry, "retry")):
        with pytest.raises(TransitionRefused, match=f"'{event}' is refused while 'idle'"):
            await refused("w")
        with pytest.raises(WorkflowNotFound):
            await refused("v")
    await bluestreak.pause("w")
    with pytest.raises(TransitionRefused, match="'pause' is refused while 'paused'"):
        await bluestreak.pause("w")
    await bluestreak.cancel("w")
    with pytest.raises(TransitionRefused, match="'resume' is refused while 'cancelled'"):
        await bluestreak.resume("w")


# Retrying ----------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_an_aborted_workflow_is_retried_over_its_steps(fleet: Fleet) -> None:
    bluestreak = await fleet.engine(max_failures=0)
    calls: list[str] = []
    broken = [True]

    def call(name: str) -> str:
        calls.append(name)
        return name

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> list[str]:
        steps = [await ctx.step("a", call, "a")]
        if broken:
            raise ValueError("out of paper")
        return [*steps, await ctx.step("b", call, "b")]

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted):
            await bluestreak.wait("w")
        broken.clear()
        await bluestreak.retry("w")
        assert await bluestreak.wait("w") == ["a", "b"]
    assert calls == ["a", "b"]
    workflow = await bluestreak.find_workflow("w")
    assert workflow is not None
    assert (workflow.failures, workflow.error, workflow.retries) == (0, None, 1)


@pytest.mark.asyncio
@pytest.mark.parametrize("call", ["renew", "find_workflow"])
async def test_what_was_heard_is_not_forgotten_while_the_store_does_not_answer(
    fleet: Fleet, store: RecordingStore, call: str
) -> None:
    inside = asyncio.Event()
    bluestreak = await fleet.engine(timeout_interval=LEASE)

    async def hang(session: object = None) -> None:
        inside.set()
        await asyncio.Event().wait()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        if call == "renew":
            await ctx.step("hang", hang)
        else:
            await ctx.transaction("hang", hang)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await inside.wait()
        store.failing[call] = StoreUnavailable("gone")
        begun = store.begun[call]
        await bluestreak.cancel("w")
        await _until(fleet, lambda: store.begun[call] > begun)
        fleet.clock.advance(5 * SECOND)
        await _until(fleet, lambda: store.begun[call] > begun + 1)
        del store.failing[call]
        await _until(fleet, lambda: bluestreak.health().runs == 0)


@pytest.mark.asyncio
async def test_a_run_hears_of_it_within_its_own_transaction_and_commits_nothing(
    fleet: Fleet,
) -> None:
    inside, told = asyncio.Event(), asyncio.Event()
    calls: list[None] = []
    bluestreak = await fleet.engine(timeout_interval=LEASE)

    async def hang(session: object) -> None:
        calls.append(None)
        inside.set()
        try:
            await asyncio.Event().wait()
        finally:
            told.set()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.transaction("book", hang)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await inside.wait()
        await bluestreak.cancel("w")
        await _until(fleet, told.is_set)
        await _until(fleet, lambda: bluestreak.health().runs == 0)
    assert len(calls) == 1
    assert await bluestreak.find_step("w", "book") is None


def test_a_step_that_was_given_up_is_tried_afresh_after_a_retry() -> None:
    calls: list[None] = []

    def pay() -> str:
        calls.append(None)
        if len(calls) < 3:
            raise ConnectionError
        return "paid"

    async def handle(ctx: Context, input: None) -> str:
        try:
            return await ctx.step("pay", pay, retry=Retry(max_attempts=2, initial=60))
        except StepFailed:
            await ctx.sleep("for ever", timedelta(days=1000))
            raise

    with Environment() as env:
        env.register_handler("h", handle)
        env.start("w", "h")
        env.advance(DAY)
        env.call(env.bluestreak.cancel("w"))
        env.call(env.bluestreak.retry("w"))
        assert env.wait("w").result == "paid"
