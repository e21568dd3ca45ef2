"""Steps whose effects may be missing, but never happen twice."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from typing_extensions import override

from bluestreak_core import (
    Abort,
    Attempt,
    Claim,
    Context,
    EventKind,
    InvalidArgument,
    Retry,
    Status,
    StepFailed,
    StepInterrupted,
    WorkflowAborted,
)
from bluestreak_core.testing import Environment, RecordingStore, StoreWrapper
from tests.engine.arrange import DAY, Fleet, on_memory, workflow_of

THREE = Retry(max_attempts=3, initial=1, jitter=0)


@pytest.mark.asyncio
async def test_the_begin_of_a_call_is_recorded_before_it(
    fleet: Fleet, store: RecordingStore
) -> None:
    begun: list[int] = []

    async def fire() -> str:
        begun.append(store.returned["save_attempt"])
        return "fired"

    async def handle(ctx: Context, input: None) -> str:
        fired = await ctx.step("fire", fire, at_most_once=True)
        await ctx.sleep("replay", DAY)
        return fired

    async with fleet.polling(await fleet.parking(handle)) as bluestreak:
        await bluestreak.start("w", "h")
        await store.until_returned("park")
        fleet.clock.advance(DAY)
        assert await bluestreak.wait("w") == "fired"
        timeline = await bluestreak.describe("w")
    assert begun == [1]
    assert store.begun["save_attempt"] == 1
    kinds = [event.kind for event in timeline.events if event.name == "fire"]
    assert kinds == [EventKind.ATTEMPT_BEGUN, EventKind.STEP]
    assert "attempt begun 'fire', number 1" in str(timeline)


def crashing(at: Callable[[int], bool], **options: Any) -> Any:
    """A handler whose step kills the worker in some of its calls."""

    async def fire() -> str:
        calls.append(None)
        if at(len(calls)):
            environments[-1].crash()
            await asyncio.sleep(0)
        return f"fired in call {len(calls)}"

    async def handle(ctx: Context, input: Environment | None) -> str:
        try:
            return await ctx.step("fire", fire, at_most_once=True, **options)
        except StepInterrupted as interrupted:
            await ctx.step("ask whether it has happened", str)
            await ctx.sleep("replay", DAY)
            return f"interrupted in attempt {interrupted.attempts}"

    calls: list[None] = []
    environments: list[Environment] = []
    handle.environments = environments  # type: ignore[attr-defined]
    handle.calls = calls  # type: ignore[attr-defined]
    return handle


def run_in(env: Environment, handle: Any) -> Any:
    handle.environments.append(env)
    return env.run(handle)


def test_a_call_that_a_crash_interrupts_is_not_repeated() -> None:
    handle = crashing(at=lambda call: call == 1)
    with Environment() as env:
        outcome = run_in(env, handle)
    assert outcome.result == "interrupted in attempt 1"
    assert len(handle.calls) == 1
    (failed,) = outcome.workflow.failed_steps
    assert failed.error.type == "bluestreak_core.errors.StepInterrupted"
    assert failed.error.message == "attempt 1 had begun, and no run has recorded how it ended"


def test_with_a_retry_an_interruption_is_one_attempt() -> None:
    for crashes, result in ((1, "fired in call 2"), (2, "fired in call 3")):
        handle = crashing(at=range(1, crashes + 1).__contains__, retry=THREE)
        with Environment() as env:
            assert run_in(env, handle).result == result
    handle = crashing(at=lambda _: True, retry=THREE)
    with Environment() as env:
        assert run_in(env, handle).result == "interrupted in attempt 3"
    assert len(handle.calls) == 3


def test_a_policy_may_give_up_after_an_interruption() -> None:
    handle = crashing(at=lambda _: True, retry=Retry(give_up_on=StepInterrupted))
    with Environment() as env:
        assert run_in(env, handle).result == "interrupted in attempt 1"


def test_an_interruption_that_nobody_catches_aborts_the_workflow() -> None:
    async def fire() -> None:
        env.crash()
        await asyncio.sleep(0)

    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("fire", fire, at_most_once=True)

    with Environment() as env:
        outcome = env.run(handle)
        assert (outcome.status, outcome.workflow.failures) == (Status.ABORTED, 1)
        assert isinstance(outcome.errors[0], StepInterrupted)
        env.call(env.bluestreak.retry("workflow"))
        env.advance(1)
        assert outcome.calls * 2 == env.outcome("workflow").calls


def test_an_error_is_the_last_attempt_without_a_retry() -> None:
    async def fire() -> None:
        raise ValueError("no")

    async def handle(ctx: Context, input: None) -> str:
        try:
            await ctx.step("fire", fire, at_most_once=True)
        except StepFailed as failed:
            await ctx.sleep("replay", DAY)
            return f"{type(failed).__name__}, {failed.attempts}, {failed.error_type}"
        raise AssertionError

    with Environment() as env:
        outcome = env.run(handle)
    assert outcome.result == "StepFailed, 1, ValueError"
    assert outcome.calls == ["fire"]


def test_errors_and_interruptions_are_counted_together() -> None:
    async def fire() -> str:
        calls.append(None)
        if len(calls) == 1:
            raise ValueError("no")
        if len(calls) == 2:
            env.crash()
            await asyncio.sleep(0)
        return f"fired in call {len(calls)}"

    async def handle(ctx: Context, input: None) -> str:
        return await ctx.step("fire", fire, at_most_once=True, retry=THREE)

    calls: list[None] = []
    with Environment() as env:
        assert env.run(handle).result == "fired in call 3"
        events = env.call(env.bluestreak.describe("workflow")).events
    kinds = [event.kind for event in events if event.name == "fire"]
    assert kinds.count(EventKind.ATTEMPT_BEGUN) == 3
    assert kinds.count(EventKind.ATTEMPT_FAILED) == 2


def test_an_abort_in_the_call_is_not_an_interruption() -> None:
    async def fire() -> None:
        raise Abort("enough")

    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("fire", fire, at_most_once=True)

    with Environment() as env:
        outcome = env.run(handle)
    assert isinstance(outcome.errors[0], Abort)


def test_a_fork_makes_the_call_itself() -> None:
    async def handle(ctx: Context, input: None) -> str:
        return await ctx.step("fire", str, "fired", at_most_once=True)

    with Environment() as env:
        env.run(handle)
        env.call(env.bluestreak.fork("workflow", "forked", before="fire"))
        assert env.wait("forked").result == "fired"
        assert len(env.call(env.bluestreak.describe("forked")).attempts) == 1


class Outrun(StoreWrapper):
    """Another run records the begin of each call just before."""

    @override
    async def save_attempt(self, claim: Claim, attempt: Attempt) -> Attempt:
        token = replace(attempt.error, message="the token of another run")
        await super().save_attempt(claim, replace(attempt, error=token))
        return await super().save_attempt(claim, attempt)


@pytest.mark.asyncio
@on_memory
async def test_a_call_that_another_run_has_begun_is_left_to_it(
    fleet: Fleet, store: RecordingStore
) -> None:
    calls: list[str] = []

    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("fire", calls.append, "fired", at_most_once=True)

    async with fleet.polling(await fleet.handling(handle, store=Outrun(store))) as bluestreak:
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match="StepInterrupted"):
            await bluestreak.wait("w")
        workflow = await workflow_of(bluestreak)
    assert calls == []
    assert (workflow.claims, workflow.crashes, workflow.failures) == (2, 0, 1)


@pytest.mark.parametrize("value", [1, 0, "yes", None, []])
def test_anything_but_true_and_false_is_refused(value: Any) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("s", str, at_most_once=value)

    with Environment() as env:
        outcome = env.run(handle)
    assert (outcome.calls, outcome.status) == ([], Status.ABORTED)
    assert isinstance(outcome.errors[0], InvalidArgument)
    assert outcome.errors[0].name == "at_most_once of step 's'"
