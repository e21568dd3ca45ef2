"""What callbacks do, wherever a worker dies meanwhile."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from bluestreak_core import (
    CallbackExpired,
    CallbackFailed,
    CallbackSilent,
    CallbackTimeout,
    Context,
    Retry,
    Status,
)
from bluestreak_core.testing import CrashUnsafe, Environment, Sweep, crash_everywhere

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unmeasured")]

HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def calls_of(sweep: Sweep) -> set[str]:
    """The store calls at which it has crashed the worker."""
    return {point.call for point in sweep.crashes}


class Desk:
    """Takes the tokens that are handed over, each of which takes a second, in one run."""

    def __init__(self) -> None:
        self.tokens: list[str] = []
        self.counts: list[int] = []
        """How many tokens each run has handed over."""
        self.takes_from_the_end = False

    def reset(self) -> None:
        self.counts.append(len(self.tokens))
        self.tokens.clear()

    async def take(self, token: str) -> None:
        self.tokens.append(token)
        await asyncio.sleep(1)

    @property
    def token(self) -> str:
        """The first that was handed over, or the last."""
        return self.tokens[-1 if self.takes_from_the_end else 0]


@pytest.fixture
def desk() -> Desk:
    return Desk()


@pytest.mark.parametrize("takes_from_the_end", [False, True])
@pytest.mark.parametrize("delay", [timedelta(seconds=3), DAY], ids=str)
def test_an_answer_arrives_by_whichever_token(
    desk: Desk, delay: timedelta, *, takes_from_the_end: bool
) -> None:
    """While the workflow waits in memory, and while it is parked."""
    desk.takes_from_the_end = takes_from_the_end

    async def ask(ctx: Context, input: None) -> list[Any]:
        before = await ctx.step("before", lambda: 1)
        answer = await ctx.callback("approve", desk.take, timeout=7 * DAY)
        return [before, answer, await ctx.step("after", lambda: 2)]

    def answer(env: Environment) -> None:
        env.advance(delay)
        if not desk.tokens:  # a crash has held the hand-over up
            env.advance(60)
        assert env.resolve(desk.token, "yes").is_first
        for token in desk.tokens:
            again = env.resolve(token, "no")
            assert (again.is_first, again.payload) == (False, "yes")

    sweep = crash_everywhere(ask, meanwhile=answer, before_each=desk.reset)
    assert sweep.outcome.result == [1, "yes", 2]
    assert sweep.outcome.unread == []
    assert {"receive 'approve'", "save_step 'approve/token/1'"} <= calls_of(sweep)
    assert set(desk.counts[1:]) == {1, 2}


@pytest.mark.parametrize("answers", [True, False])
def test_a_timeout_and_an_answer_exclude_each_other(desk: Desk, *, answers: bool) -> None:
    """The answer comes at the last moment before the timeout, or at the first one after it."""

    async def ask(ctx: Context, input: None) -> Any:
        try:
            answer = await ctx.callback("approve", desk.take, timeout=DAY)
        except CallbackTimeout:
            answer = "nobody answered"
        return await ctx.step("act", str, answer)

    def answer(env: Environment) -> None:
        env.advance(60)
        waits_until = env.outcome("workflow").workflow.timeout_at
        env.advance(waits_until - env.now - HOUR if answers else 2 * DAY)
        if answers:
            assert env.resolve(desk.token, "yes").is_first
        else:
            with pytest.raises(CallbackExpired):
                env.resolve(desk.token, "yes")

    sweep = crash_everywhere(ask, meanwhile=answer, before_each=desk.reset)
    assert sweep.outcome.result == ("yes" if answers else "nobody answered")


def test_a_silence_is_noticed_once(desk: Desk) -> None:
    async def ask(ctx: Context, input: None) -> str:
        try:
            await ctx.callback("approve", desk.take, heartbeat=HOUR)
        except CallbackSilent:
            return await ctx.step("act", lambda: "silent")
        raise AssertionError

    def beat(env: Environment) -> None:
        env.advance(60)
        for _ in range(3):
            assert env.beat(desk.token)
            env.advance(HOUR / 2)
        assert not env.outcome("workflow").status.ended

    sweep = crash_everywhere(ask, meanwhile=beat, before_each=desk.reset)
    assert sweep.outcome.result == "silent"
    assert {"save_attempt", "send"} <= calls_of(sweep)


def test_an_error_is_raised_wherever_the_worker_dies(desk: Desk) -> None:
    async def ask(ctx: Context, input: None) -> Any:
        try:
            return await ctx.callback("approve", desk.take)
        except CallbackFailed as failed:
            return await ctx.step("undo", str, failed.reason)

    def refuse(env: Environment) -> None:
        env.advance(60)
        env.resolve(desk.token, error="no budget")

    sweep = crash_everywhere(ask, meanwhile=refuse, before_each=desk.reset)
    assert sweep.outcome.result == "no budget"


def test_a_hand_over_is_given_up_after_as_many_attempts_as_without_a_crash() -> None:
    async def fail(token: str) -> None:
        await asyncio.sleep(1)
        raise OSError("no route to the mail server")

    async def ask(ctx: Context, input: None) -> Any:
        return await ctx.callback("approve", fail, retry=Retry(max_attempts=3, initial=HOUR))

    sweep = crash_everywhere(ask)
    assert sweep.outcome.status is Status.ABORTED
    assert [failed.attempts for failed in sweep.outcome.workflow.failed_steps] == [3]


def test_two_callbacks_side_by_side_get_their_own_answers(desk: Desk) -> None:
    async def ask(ctx: Context, input: None) -> list[Any]:
        async with asyncio.TaskGroup() as group:
            answers = [
                group.create_task(ctx.callback(name, desk.take, timeout=DAY)) for name in "ab"
            ]
        return [answer.result() for answer in answers]

    def answer(env: Environment) -> None:
        env.advance(60)
        for token in desk.tokens:
            env.resolve(token, "yes")
            env.advance(60)

    sweep = crash_everywhere(ask, meanwhile=answer, before_each=desk.reset)
    assert sweep.outcome.result == ["yes", "yes"]


def test_a_token_that_is_kept_in_memory_is_found() -> None:
    """A reminder needs a token, which the hand-over has to keep where the next run finds it."""

    async def ask(ctx: Context, input: None) -> Any:
        tokens: list[str] = []
        try:
            return await ctx.callback("approve", tokens.append, timeout=4)
        except CallbackTimeout:
            return await ctx.step("remind", str, len(tokens))

    with pytest.raises(CrashUnsafe, match="arguments of step 'remind'"):
        crash_everywhere(ask)
