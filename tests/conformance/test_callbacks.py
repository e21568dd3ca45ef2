"""A workflow hands out a token, and takes no memory until somebody answers it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from bluestreak_core import (
    CallbackFailed,
    CallbackSilent,
    CallbackTimeout,
    Context,
    Handler,
    Resolution,
    Retry,
    Status,
    StepFailed,
)
from bluestreak_core.testing import Environment
from bluestreak_core.testing.clock import START
from bluestreak_pydantic import PydanticCodec
from tests.conformance.arrange import given_up, pauses, seconds_of


class Desk:
    """Takes the tokens of one environment's workflows, and answers them."""

    def __init__(self, env: Environment) -> None:
        self.tokens: dict[str, str] = {}
        self._env = env

    def take(self, name: str) -> Callable[[str], None]:
        """The function that hands over the token of this name."""

        def hand_over(token: str) -> None:
            self.tokens[name] = token

        return hand_over

    def resolve(self, name: str, payload: Any = None, **how: Any) -> Resolution:
        bluestreak = self._env.bluestreak
        return self._env.call(bluestreak.resolve(self.tokens[name], payload, **how))

    def beat(self, name: str) -> bool:
        return self._env.call(self._env.bluestreak.beat(self.tokens[name]))


@pytest.fixture
def desk(env: Environment) -> Desk:
    return Desk(env)


def begin(env: Environment, handler: Handler, input: Any = None) -> None:
    """Start a workflow, and let it go on for a second."""
    env.register_handler("handle", handler)
    env.start("workflow", "handle", input)
    env.advance(1)


def is_parked(env: Environment) -> bool:
    return env.outcome("workflow").status is Status.IDLE and env.runs == 0


# An answer ----------------------------------------------------------------------------------------


def test_a_workflow_takes_no_memory_until_its_answer_comes(env: Environment, desk: Desk) -> None:
    async def handle(ctx: Context, name: str) -> Any:
        return await ctx.callback(name, desk.take("boss"))

    begin(env, handle, "ask the boss")
    assert is_parked(env)
    assert desk.resolve("boss", "yes").is_first
    outcome = env.wait("workflow")
    assert outcome.result == "yes"
    assert outcome.workflow.claims == 2


def test_a_callback_is_recorded_under_the_id_that_the_handler_gave(
    env: Environment, desk: Desk
) -> None:
    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.callback("approval", desk.take("boss"))

    begin(env, handle)
    assert env.outcome("workflow").workflow.waiting_for == ("callback/approval",)
    desk.resolve("boss", "yes")
    outcome = env.wait("workflow")
    assert outcome.receipts["approval"].name == "callback/approval"


def test_handing_over_is_a_step_whose_id_begins_with_that_of_the_callback(
    env: Environment, desk: Desk
) -> None:
    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.callback("approval", desk.take("boss"))

    begin(env, handle)
    assert env.outcome("workflow").calls == ["approval/hand-over/1"]
    desk.resolve("boss", "yes")
    outcome = env.wait("workflow")
    assert outcome.result == "yes"
    assert outcome.calls == ["approval/hand-over/1"]


def test_the_token_is_handed_over_once_and_before_the_workflow_waits(
    env: Environment, desk: Desk
) -> None:
    async def handle(ctx: Context, input: None) -> str:
        answer: str = await ctx.callback("approval", desk.take("boss"))
        await ctx.sleep("nap", 1)
        return answer

    begin(env, handle)
    token = desk.tokens["boss"]
    desk.resolve("boss", "yes")
    outcome = env.wait("workflow")
    assert outcome.result == "yes"
    assert outcome.calls == ["approval/hand-over/1"]
    assert (desk.tokens, outcome.workflow.claims) == ({"boss": token}, 3)
    assert [each for each in outcome.steps if "/token/" in each] == ["approval/token/1"]


def test_any_function_can_hand_over_even_one_without_a_name(env: Environment) -> None:
    mails: list[str] = []

    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.callback("approval", lambda token: mails.append(f"answer by {token}"))

    begin(env, handle)
    token = mails[0].removeprefix("answer by ")
    assert env.call(env.bluestreak.resolve(token, "yes")).is_first
    outcome = env.wait("workflow")
    assert outcome.result == "yes"
    assert len(mails) == 1


def test_an_answer_may_be_nothing(env: Environment, desk: Desk) -> None:
    async def handle(ctx: Context, input: None) -> list[Any]:
        return [await ctx.callback("approval", desk.take("boss"))]

    begin(env, handle)
    assert desk.resolve("boss").is_first
    assert env.wait("workflow").result == [None]


def test_an_answer_may_be_structured(env: Environment, desk: Desk) -> None:
    async def handle(ctx: Context, input: None) -> str:
        answer = await ctx.callback("approval", desk.take("boss"), type=dict[str, str])
        return answer["status"]

    begin(env, handle)
    desk.resolve("boss", {"status": "approved"})
    assert env.wait("workflow").result == "approved"


def test_an_answer_may_be_a_number(env: Environment, desk: Desk) -> None:
    async def handle(ctx: Context, input: None) -> dict[str, int]:
        count = await ctx.callback("count", desk.take("clerk"), type=int)
        return {"count": count, "doubled": count * 2}

    begin(env, handle)
    desk.resolve("clerk", 42)
    assert env.wait("workflow").result == {"count": 42, "doubled": 84}


@dataclass(frozen=True)
class Delivery:
    parcel: str
    received_at: datetime


def test_a_codec_makes_an_answer_what_the_handler_has_asked_for(
    environment: Callable[..., Environment],
) -> None:
    env = environment(codec=PydanticCodec())
    desk = Desk(env)

    async def handle(ctx: Context, input: None) -> list[Any]:
        delivery = await ctx.callback("delivery", desk.take("driver"), type=Delivery)
        return [type(delivery).__name__, delivery.parcel, delivery.received_at.timestamp()]

    begin(env, handle)
    from_json = {"parcel": "a book", "received_at": "2026-01-01T00:00:00.000Z"}
    desk.resolve("driver", from_json, type=Delivery)
    instant = datetime(2026, 1, 1, tzinfo=UTC).timestamp()
    assert env.wait("workflow").result == ["Delivery", "a book", instant]


# An error -----------------------------------------------------------------------------------------


def test_an_answer_may_be_an_error_which_aborts_the_workflow(env: Environment, desk: Desk) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.callback("approval", desk.take("boss"))

    begin(env, handle)
    desk.resolve("boss", error="not approved")
    outcome = env.wait("workflow")
    assert outcome.status is Status.ABORTED
    (error,) = outcome.errors
    assert isinstance(error, CallbackFailed)
    assert (error.step_id, error.reason) == ("approval", "not approved")
    assert outcome.workflow.claims == 2


def test_an_error_aborts_the_workflow_whoever_handed_over_the_token(
    env: Environment, desk: Desk
) -> None:
    async def mail(token: str) -> None:
        await asyncio.sleep(1)
        desk.take("boss")(token)

    async def handle(ctx: Context, input: None) -> None:
        await ctx.callback("approval", mail)

    begin(env, handle)
    desk.resolve("boss", error="not approved")
    outcome = env.wait("workflow")
    assert outcome.status is Status.ABORTED
    assert isinstance(outcome.errors[-1], CallbackFailed)
    assert outcome.calls == ["approval/hand-over/1"]


def test_an_error_can_be_caught(env: Environment, desk: Desk) -> None:
    async def handle(ctx: Context, input: None) -> str:
        try:
            return str(await ctx.callback("approval", desk.take("boss")))
        except CallbackFailed:
            return "recovered"

    begin(env, handle)
    desk.resolve("boss", error="not approved")
    assert env.wait("workflow").result == "recovered"


def test_an_error_is_raised_again_in_each_later_run(env: Environment, desk: Desk) -> None:
    caught: list[str] = []

    async def handle(ctx: Context, input: None) -> str:
        try:
            await ctx.callback("approval", desk.take("boss"))
        except CallbackFailed as error:
            caught.append(error.reason)
        await ctx.sleep("nap", 2)
        return caught[-1]

    begin(env, handle)
    desk.resolve("boss", error="not approved")
    outcome = env.wait("workflow")
    assert outcome.result == "not approved"
    assert caught == ["not approved"] * 2
    assert outcome.workflow.claims == 3


def test_a_token_that_cannot_be_handed_over_fails_the_callback(
    env: Environment,
) -> None:
    def fail(token: str) -> None:
        raise ConnectionError("no mail today")

    async def handle(ctx: Context, input: None) -> None:
        policy = Retry(max_attempts=2, initial=1, jitter=0)
        await ctx.callback("approval", fail, retry=policy)

    outcome = env.run(handle)
    assert outcome.status is Status.ABORTED
    assert isinstance(outcome.errors[-1], StepFailed)
    assert given_up(outcome) == {"approval/hand-over/1": "ConnectionError"}
    assert pauses(env, "approval/hand-over/1") == [1, None]
    assert outcome.workflow.claims == 2


# No answer ----------------------------------------------------------------------------------------


def test_without_an_answer_in_time_the_workflow_is_aborted(env: Environment, desk: Desk) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.callback("approval", desk.take("boss"), timeout=5)

    outcome = env.run(handle)
    assert outcome.status is Status.ABORTED
    (error,) = outcome.errors
    assert isinstance(error, CallbackTimeout)
    assert not isinstance(error, CallbackSilent)
    assert outcome.workflow.finished_at == START + timedelta(seconds=5)
    assert outcome.workflow.claims == 2


def test_a_timeout_of_a_callback_that_was_handed_over_aborts_the_workflow(
    env: Environment, desk: Desk
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.callback("approval", desk.take("boss"), timeout=3)

    outcome = env.run(handle)
    assert outcome.status is Status.ABORTED
    assert isinstance(outcome.errors[-1], CallbackTimeout)
    assert outcome.calls == ["approval/hand-over/1"]
    assert outcome.workflow.finished_at == START + timedelta(seconds=3)


def test_a_timeout_can_be_caught(env: Environment, desk: Desk) -> None:
    async def handle(ctx: Context, input: None) -> str:
        try:
            return str(await ctx.callback("approval", desk.take("boss"), timeout=3))
        except CallbackTimeout:
            return "nobody answered"

    assert env.run(handle).result == "nobody answered"
    assert env.now == START + timedelta(seconds=3)


def test_a_timeout_is_raised_again_in_each_later_run(env: Environment, desk: Desk) -> None:
    caught: list[type[CallbackTimeout]] = []

    async def handle(ctx: Context, input: None) -> str:
        try:
            await ctx.callback("approval", desk.take("boss"), timeout=3)
        except CallbackTimeout as error:
            caught.append(type(error))
        await ctx.sleep("nap", 2)
        return "went on"

    outcome = env.run(handle)
    assert outcome.result == "went on"
    assert caught == [CallbackTimeout] * 2
    assert env.now == START + timedelta(seconds=5)
    assert outcome.workflow.claims == 3


# Signs of life ------------------------------------------------------------------------------------


def test_without_a_sign_of_life_in_time_the_workflow_is_aborted(
    env: Environment, desk: Desk
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.callback("approval", desk.take("boss"), heartbeat=5)

    outcome = env.run(handle)
    assert outcome.status is Status.ABORTED
    assert isinstance(outcome.errors[-1], CallbackSilent)
    assert outcome.workflow.finished_at == START + timedelta(seconds=5)


def test_a_sign_of_life_does_not_outlast_the_next_silence(env: Environment, desk: Desk) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.callback("approval", desk.take("boss"), heartbeat=5)

    begin(env, handle)
    env.advance(3)
    assert desk.beat("boss")
    outcome = env.wait("workflow")
    assert isinstance(outcome.errors[-1], CallbackSilent)
    assert outcome.workflow.finished_at == START + timedelta(seconds=9)


def test_a_sign_of_life_leaves_time_for_the_answer(env: Environment, desk: Desk) -> None:
    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.callback("approval", desk.take("boss"), heartbeat=10)

    begin(env, handle)
    env.advance(8)
    assert desk.beat("boss")
    env.advance(8)
    assert is_parked(env)
    desk.resolve("boss", "yes")
    outcome = env.wait("workflow")
    assert outcome.result == "yes"
    assert seconds_of(env.now) == 17


def test_signs_of_life_keep_a_callback_alive_for_as_long_as_they_come(
    env: Environment, desk: Desk
) -> None:
    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.callback("approval", desk.take("boss"), heartbeat=10)

    begin(env, handle)
    for _ in range(5):
        env.advance(8)
        assert desk.beat("boss")
    desk.resolve("boss", "yes")
    assert env.wait("workflow").result == "yes"
    assert seconds_of(env.now) == 41


# Beside other steps and waits ---------------------------------------------------------------------


async def beside_step(ctx: Context, desk: Desk, **how: Any) -> str:
    """A callback that waits while a step is called."""
    answer = asyncio.create_task(ctx.callback("approval", desk.take("boss"), **how))
    await ctx.step("prepare", asyncio.sleep, 0)
    return str(await answer)


async def beside_nap(ctx: Context, desk: Desk, seconds: float, **how: Any) -> str:
    """A callback that waits while the workflow sleeps."""
    answer = asyncio.create_task(ctx.callback("approval", desk.take("boss"), **how))
    await ctx.sleep("nap", seconds)
    return str(await answer)


def test_an_error_that_comes_after_a_step_beside_it_aborts_the_workflow(
    env: Environment, desk: Desk
) -> None:
    async def handle(ctx: Context, input: None) -> str:
        return await beside_step(ctx, desk)

    begin(env, handle)
    assert is_parked(env)
    desk.resolve("boss", error="not approved")
    outcome = env.wait("workflow")
    assert outcome.status is Status.ABORTED
    assert isinstance(outcome.errors[-1], CallbackFailed)
    assert sorted(outcome.calls) == ["approval/hand-over/1", "prepare"]


def test_a_timeout_that_ends_after_a_step_beside_it_aborts_the_workflow(
    env: Environment, desk: Desk
) -> None:
    async def handle(ctx: Context, input: None) -> str:
        return await beside_step(ctx, desk, timeout=5)

    outcome = env.run(handle)
    assert outcome.status is Status.ABORTED
    assert isinstance(outcome.errors[-1], CallbackTimeout)
    assert sorted(outcome.calls) == ["approval/hand-over/1", "prepare"]
    assert seconds_of(outcome.workflow.finished_at) == 5


def test_an_answer_may_come_during_a_wait_beside_it(env: Environment, desk: Desk) -> None:
    async def handle(ctx: Context, input: None) -> str:
        return await beside_nap(ctx, desk, 5)

    begin(env, handle)
    desk.resolve("boss", "yes")
    env.advance(1)
    assert is_parked(env)
    outcome = env.wait("workflow")
    assert outcome.result == "yes"
    assert seconds_of(outcome.workflow.finished_at) == 5
    assert outcome.workflow.claims == 3


def test_an_error_that_comes_during_a_wait_beside_it_is_raised_afterwards(
    env: Environment, desk: Desk
) -> None:
    async def handle(ctx: Context, input: None) -> str:
        return await beside_nap(ctx, desk, 5)

    begin(env, handle)
    desk.resolve("boss", error="not approved")
    outcome = env.wait("workflow")
    assert outcome.status is Status.ABORTED
    assert isinstance(outcome.errors[-1], CallbackFailed)
    assert seconds_of(outcome.workflow.finished_at) == 5
    assert outcome.workflow.claims == 3


def test_a_timeout_that_ends_during_a_wait_beside_it_is_raised_afterwards(
    env: Environment, desk: Desk
) -> None:
    async def handle(ctx: Context, input: None) -> str:
        return await beside_nap(ctx, desk, 6, timeout=3)

    outcome = env.run(handle)
    assert outcome.status is Status.ABORTED
    assert isinstance(outcome.errors[-1], CallbackTimeout)
    assert seconds_of(outcome.workflow.finished_at) == 6
    assert outcome.workflow.claims == 3


def test_a_wait_may_follow_the_answer(env: Environment, desk: Desk) -> None:
    async def handle(ctx: Context, input: None) -> str:
        answer: str = await ctx.callback("approval", desk.take("boss"))
        await ctx.sleep("nap", 2)
        return answer

    begin(env, handle)
    desk.resolve("boss", "yes")
    outcome = env.wait("workflow")
    assert outcome.result == "yes"
    assert seconds_of(outcome.workflow.finished_at) == 3
    assert outcome.workflow.claims == 3


def test_a_wait_and_a_step_may_come_before_the_callback(env: Environment, desk: Desk) -> None:
    async def handle(ctx: Context, input: None) -> Any:
        await ctx.sleep("nap", 1)
        await ctx.step("prepare", lambda: "prepared")
        return await ctx.callback("approval", desk.take("boss"))

    begin(env, handle)
    desk.resolve("boss", "yes")
    outcome = env.wait("workflow")
    assert outcome.result == "yes"
    assert outcome.calls == ["prepare", "approval/hand-over/1"]
    assert outcome.workflow.claims == 3


def test_a_callback_in_a_scope_has_the_id_of_the_scope(env: Environment, desk: Desk) -> None:
    async def handle(ctx: Context, name: str) -> Any:
        return await ctx.scope("parcel").callback(name, desk.take("boss"))

    begin(env, handle, "approval")
    assert env.outcome("workflow").workflow.waiting_for == ("callback/parcel/approval",)
    desk.resolve("boss", "yes")
    outcome = env.wait("workflow")
    assert outcome.result == "yes"
    assert "parcel/approval" in outcome.receipts


# Two of them --------------------------------------------------------------------------------------


def test_one_callback_may_follow_another_one(env: Environment, desk: Desk) -> None:
    async def handle(ctx: Context, names: list[str]) -> list[str]:
        return [await ctx.callback(name, desk.take(name)) for name in names]

    begin(env, handle, ["boss", "clerk"])
    assert list(desk.tokens) == ["boss"]
    desk.resolve("boss", "yes")
    env.advance(1)
    assert list(desk.tokens) == ["boss", "clerk"]
    desk.resolve("clerk", "no")
    outcome = env.wait("workflow")
    assert outcome.result == ["yes", "no"]
    assert outcome.workflow.claims == 3


def test_each_of_two_callbacks_has_records_of_its_own(env: Environment, desk: Desk) -> None:
    async def handle(ctx: Context, input: None) -> Any:
        await ctx.callback("first", desk.take("first"))
        return await ctx.callback("second", desk.take("second"))

    begin(env, handle)
    desk.resolve("first", "one")
    env.advance(1)
    desk.resolve("second", "two")
    outcome = env.wait("workflow")
    assert outcome.result == "two"
    assert outcome.calls == ["first/hand-over/1", "second/hand-over/1"]
    assert [outcome.receipts[each].name for each in ("first", "second")] == [
        *("callback/first", "callback/second"),
    ]


@pytest.mark.parametrize("awaited", [["boss", "clerk"], ["clerk", "boss"]])
def test_two_callbacks_may_wait_at_once_in_any_order(
    env: Environment, desk: Desk, awaited: list[str]
) -> None:
    async def handle(ctx: Context, input: None) -> list[str]:
        asked = {
            name: asyncio.create_task(ctx.callback(name, desk.take(name)))
            for name in ("boss", "clerk")
        }
        return [await asked[name] for name in awaited]

    begin(env, handle)
    assert is_parked(env)
    desk.resolve("boss", "yes")
    env.advance(1)
    assert is_parked(env)
    desk.resolve("clerk", "no")
    outcome = env.wait("workflow")
    assert outcome.result == [{"boss": "yes", "clerk": "no"}[name] for name in awaited]
    assert sorted(outcome.calls) == ["boss/hand-over/1", "clerk/hand-over/1"]
    assert outcome.workflow.claims == 3
