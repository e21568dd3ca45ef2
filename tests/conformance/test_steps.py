"""A step's outcome is recorded once, and every later run takes the record."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta
from typing import Any

import pytest

from bluestreak_core import Context, Retry, Status, StepFailed, StepInterrupted
from bluestreak_core.testing import Environment
from bluestreak_core.testing.clock import START
from tests.conformance.arrange import (
    Flaky,
    Sealed,
    attempts,
    given_up,
    on_memory,
    pauses,
)

ONCE = Retry(max_attempts=1)

logger = logging.getLogger("tests.conformance.application")


class TransientError(Exception):
    """An error that passes."""


def greet(name: str) -> str:
    return f"Good day, {name}."


def fail() -> None:
    raise ValueError("broken for good")


# What it returns ----------------------------------------------------------------------------------


def test_a_step_returns_and_records_what_its_function_returned(env: Environment) -> None:
    async def handle(ctx: Context, name: str) -> str:
        return await ctx.step("greet", greet, name)

    outcome = env.run(handle, "Ada")
    assert outcome.result == "Good day, Ada."
    assert outcome.steps == {"greet": "Good day, Ada."}
    assert outcome.calls == ["greet"]
    assert outcome.workflow.claims == 1


def test_a_step_is_called_and_recorded_under_the_id_that_the_handler_gave(
    env: Environment,
) -> None:
    async def handle(ctx: Context, name: str) -> None:
        await ctx.step("say good day", greet, name)

    env.run(handle, "Ada")
    (call,) = env.calls
    assert (call.step_id, call.args) == ("say good day", ("Ada",))
    (step,) = env.call(env.bluestreak.describe("workflow")).steps
    assert (step.step_id, step.output) == ("say good day", "Good day, Ada.")


def test_a_step_can_use_the_output_of_an_earlier_one(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> str:
        price = await ctx.step("price", lambda: 250)
        return await ctx.step("bill", "{} cents".format, price)

    outcome = env.run(handle)
    assert outcome.result == "250 cents"
    assert outcome.calls == ["price", "bill"]


def test_an_output_may_be_nested_and_of_mixed_types(env: Environment) -> None:
    def describe(order: dict[str, Any]) -> dict[str, Any]:
        return {"order": order, "lines": len(order["items"]), "paid": False, "note": None}

    async def handle(ctx: Context, order: dict[str, Any]) -> dict[str, Any]:
        described = await ctx.step("describe", describe, order)
        await ctx.sleep("nap", 1)
        return described

    order = {"items": ["pen", {"ink": ["red", "blue"]}], "weight": 0.25}
    outcome = env.run(handle, order)
    assert outcome.result == {"order": order, "lines": 2, "paid": False, "note": None}
    assert outcome.calls == ["describe"]


def test_none_is_an_output_like_any_other(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.sleep("nap", 1)
        return await ctx.step("nothing", lambda: None)

    env.register_handler("handle", handle)
    env.start("workflow", "handle")
    outcome = env.wait("workflow")
    assert outcome.result is None
    assert outcome.steps == {"nothing": None}


def test_an_output_is_stored_in_the_form_that_the_codec_gives_to_its_type(
    sealing: Environment,
) -> None:
    def sealed(text: str) -> Sealed:
        return Sealed(text)

    async def handle(ctx: Context, text: str) -> Any:
        letter = await ctx.step("letter", sealed, text)
        card = await ctx.step("card", greet, text)
        await ctx.sleep("nap", 1)
        return [type(letter).__name__, letter, card]

    outcome = sealing.run(handle, "Ada")
    assert outcome.steps == {"letter": {"sealed": "Ada"}, "card": "Good day, Ada."}
    assert outcome.result == ["Sealed", "Ada", "Good day, Ada."]
    assert outcome.workflow.claims == 2


@on_memory
def test_what_a_step_logs_is_logged_once(
    env: Environment, caplog: pytest.LogCaptureFixture
) -> None:
    def noted(name: str) -> str:
        logger.info("greeting %s", name)
        greeting = greet(name)
        logger.info("greeted: %s", greeting)
        return greeting

    async def handle(ctx: Context, name: str) -> str:
        greeting = await ctx.step("greet", noted, name)
        await ctx.sleep("nap", 1)
        return greeting

    with caplog.at_level(logging.INFO):
        outcome = env.run(handle, "Ada")
    assert outcome.workflow.claims == 2
    ours = [record.message for record in caplog.records if record.name == logger.name]
    assert ours == ["greeting Ada", "greeted: Good day, Ada."]
    assert not [record for record in caplog.records if record.levelno >= logging.WARNING]


# Replays ------------------------------------------------------------------------------------------


def test_a_run_after_a_wait_goes_on_behind_the_recorded_step(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> str:
        computed = await ctx.step("compute", lambda: "computed")
        await ctx.sleep("nap", 2)
        return computed

    env.register_handler("handle", handle)
    env.start("workflow", "handle")
    env.advance(1)
    waiting = env.outcome("workflow")
    assert (waiting.status, env.runs) == (Status.IDLE, 0)
    assert waiting.steps == {"compute": "computed"}
    outcome = env.wait("workflow")
    assert outcome.result == "computed"
    assert outcome.workflow.claims == 2


def test_a_recorded_step_is_not_called_again(env: Environment) -> None:
    numbers = iter([1, 2])

    async def handle(ctx: Context, input: None) -> int:
        number = await ctx.step("draw", next, numbers)
        await ctx.sleep("nap", 1)
        return number

    outcome = env.run(handle)
    assert outcome.result == 1
    assert outcome.calls == ["draw"]
    assert outcome.workflow.claims == 2


def test_a_step_that_was_given_up_raises_its_error_again_without_a_call(env: Environment) -> None:
    caught: list[tuple[str, str, int]] = []

    async def handle(ctx: Context, input: None) -> str:
        try:
            await ctx.step("pay", fail, retry=ONCE)
        except StepFailed as error:
            caught.append((error.error_type, error.error_message, error.attempts))
        await ctx.sleep("nap", 1)
        return "went on"

    outcome = env.run(handle)
    assert outcome.result == "went on"
    assert caught == [("ValueError", "broken for good", 1)] * 2
    assert outcome.calls == ["pay"]
    assert outcome.workflow.claims == 2


# Attempts -----------------------------------------------------------------------------------------


def test_a_failed_attempt_is_recorded_and_followed_by_another_one(env: Environment) -> None:
    pay = Flaky(1, "paid")

    async def handle(ctx: Context, input: None) -> object:
        return await ctx.step("pay", pay, retry=Retry(max_attempts=3, initial=1, jitter=0))

    outcome = env.run(handle)
    assert outcome.result == "paid"
    (first,) = attempts(env, "pay")
    assert (first.number, first.error.message) == (1, "call 1")
    assert pauses(env, "pay") == [1]
    assert [call.called_at for call in env.calls] == [first.saved_at, first.retry_at]
    assert (outcome.workflow.claims, outcome.workflow.failures) == (2, 0)


def test_a_step_is_given_up_after_its_last_attempt(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("pay", fail, retry=Retry(max_attempts=4, initial=1, factor=1, jitter=0))

    outcome = env.run(handle)
    assert outcome.status is Status.ABORTED
    assert outcome.calls == ["pay"] * 4
    assert [attempt.number for attempt in attempts(env, "pay")] == [1, 2, 3, 4]
    assert pauses(env, "pay") == [1, 1, 1, None]
    assert given_up(outcome) == {"pay": "ValueError"}
    assert outcome.workflow.claims == 4


@on_memory
def test_the_policy_has_three_attempts_and_doubling_pauses_by_default(env: Environment) -> None:
    pay = Flaky(2, "paid")

    async def handle(ctx: Context, input: None) -> object:
        paid = await ctx.step("pay", pay, retry=Retry())
        with pytest.raises(StepFailed):
            await ctx.step("ship", fail, retry=Retry())
        return paid

    outcome = env.run(handle)
    assert outcome.result == "paid"
    assert outcome.calls == ["pay"] * 3 + ["ship"] * 3
    for first, second, *last in (pauses(env, "pay"), pauses(env, "ship")):
        assert 0.9 <= first <= 1
        assert 1.8 <= second <= 2
        assert last in ([], [None])


def test_without_a_policy_an_error_fails_the_run_and_the_workflow_is_tried_again(
    env: Environment,
) -> None:
    pay = Flaky(2, "paid")

    async def handle(ctx: Context, input: None) -> object:
        return await ctx.step("pay", pay)

    outcome = env.run(handle)
    assert outcome.result == "paid"
    assert [str(error) for error in outcome.errors] == ["call 1", "call 2"]
    assert (outcome.workflow.failures, outcome.workflow.claims) == (2, 3)
    assert attempts(env, "pay") == []


def test_pauses_grow_by_the_factor_of_the_policy(env: Environment) -> None:
    pay = Flaky(2, "paid")

    async def handle(ctx: Context, input: None) -> object:
        policy = Retry(max_attempts=5, initial=2, factor=3, jitter=0)
        return await ctx.step("pay", pay, retry=policy)

    outcome = env.run(handle)
    assert outcome.result == "paid"
    assert pauses(env, "pay") == [2, 6]
    assert [(call.called_at - START).total_seconds() for call in env.calls] == [0, 2, 8]
    assert outcome.workflow.claims == 3


@on_memory
def test_only_errors_of_the_named_kind_are_tried_again(env: Environment) -> None:
    pay = Flaky(1, "paid", error=TransientError)
    policy = Retry(max_attempts=3, initial=1, jitter=0, retry_on=TransientError)

    async def handle(ctx: Context, input: None) -> object:
        with pytest.raises(StepFailed):
            await ctx.step("other", fail, retry=policy)
        return await ctx.step("pay", pay, retry=policy)

    outcome = env.run(handle)
    assert outcome.result == "paid"
    assert pauses(env, "pay") == [1]
    assert attempts(env, "pay")[0].error.type.endswith(".TransientError")
    assert outcome.calls == ["other", "pay", "pay"]


@on_memory
def test_an_error_to_give_up_on_ends_the_attempts_at_once(env: Environment) -> None:
    pay = Flaky(1, error=TransientError)

    async def handle(ctx: Context, input: None) -> object:
        policy = Retry(max_attempts=3, give_up_on=TransientError)
        return await ctx.step("pay", pay, retry=policy)

    outcome = env.run(handle)
    assert outcome.status is Status.ABORTED
    assert outcome.calls == ["pay"]
    assert pauses(env, "pay") == [None]
    assert given_up(outcome)["pay"].endswith(".TransientError")


# Interrupted calls --------------------------------------------------------------------------------


def test_a_call_that_a_crash_has_interrupted_is_not_repeated(env: Environment) -> None:
    calls: list[str] = []

    async def charge(card: str) -> None:
        calls.append(card)
        env.crash()
        await asyncio.sleep(1)

    async def handle(ctx: Context, card: str) -> None:
        await ctx.step("charge", charge, card, at_most_once=True)

    outcome = env.run(handle, "visa")
    assert outcome.status is Status.ABORTED
    assert calls == ["visa"]
    (error,) = outcome.errors
    assert isinstance(error, StepInterrupted)
    assert given_up(outcome)["charge"].endswith(".StepInterrupted")
    assert outcome.workflow.claims == 2


def test_a_call_that_a_crash_has_interrupted_counts_as_a_failed_attempt(env: Environment) -> None:
    calls: list[str] = []

    async def charge(card: str) -> str:
        calls.append(card)
        if len(calls) == 1:
            env.crash()
            await asyncio.sleep(1)
        return "charged at the second attempt"

    async def handle(ctx: Context, card: str) -> str:
        policy = Retry(max_attempts=2, initial=1, jitter=0)
        return await ctx.step("charge", charge, card, retry=policy, at_most_once=True)

    outcome = env.run(handle, "visa")
    assert outcome.result == "charged at the second attempt"
    assert calls == ["visa", "visa"]
    (interrupted,) = (each for each in attempts(env, "charge") if not each.is_begin)
    assert (interrupted.number, interrupted.error.type.rpartition(".")[2]) == (1, "StepInterrupted")
    assert interrupted.retry_at == interrupted.saved_at + timedelta(seconds=1)
    assert outcome.workflow.claims == 3


# Errors -------------------------------------------------------------------------------------------


def test_a_step_of_one_attempt_fails_for_good(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("pay", fail, retry=ONCE)

    outcome = env.run(handle)
    assert outcome.status is Status.ABORTED
    assert given_up(outcome) == {"pay": "ValueError"}
    assert (outcome.workflow.claims, outcome.workflow.failures) == (1, 1)
    assert outcome.workflow.error is not None
    assert "broken for good" in outcome.workflow.error.message
    env.advance(1000)
    assert env.outcome("workflow").calls == ["pay"]


def test_a_handler_that_catches_the_error_goes_on(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> str:
        try:
            await ctx.step("best", fail, retry=ONCE)
        except StepFailed:
            return await ctx.step("second best", asyncio.sleep, 0, "second best")
        return "best"

    outcome = env.run(handle)
    assert outcome.result == "second best"
    assert outcome.steps == {"second best": "second best"}
    assert given_up(outcome) == {"best": "ValueError"}
    assert outcome.workflow.claims == 1
