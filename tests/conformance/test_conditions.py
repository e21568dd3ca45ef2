"""`ctx.poll` carries a state from check to check, and parks in between."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from bluestreak_core import Context, Done, PollTimeout, Status
from bluestreak_core.testing import Environment
from bluestreak_core.testing.clock import START
from tests.conformance.arrange import Sealed, on_memory

pytestmark = on_memory

Check = Callable[[Any], Any]


def count_to(end: int) -> Check:
    """A check that counts up from its state, or from 0, and is done at a number."""

    def check(state: int | None) -> int | Done[int]:
        number = (state or 0) + 1
        return Done(number) if number >= end else number

    return check


def fail(state: object) -> None:
    raise ValueError("no answer")


# The state ----------------------------------------------------------------------------------------


def test_it_checks_until_it_is_done_and_parks_in_between(env: Environment) -> None:
    async def handle(ctx: Context, end: int) -> Any:
        return await ctx.poll("count", count_to(end), every=1)

    outcome = env.run(handle, 3)
    assert outcome.result == 3
    assert outcome.calls == ["count/1", "count/2", "count/3"]
    assert [call.args for call in env.calls] == [(None,), (1,), (2,)]
    assert (outcome.steps["count/1"], outcome.steps["count/2"]) == (1, 2)
    assert outcome.steps["count"] == 3
    assert outcome.workflow.claims == 3


def test_it_returns_at_once_where_the_first_check_is_done(env: Environment) -> None:
    async def handle(ctx: Context, state: int) -> Any:
        return await ctx.poll("ready", Done, every=1, state=state)

    outcome = env.run(handle, 5)
    assert outcome.result == 5
    assert outcome.calls == ["ready/1"]
    assert outcome.naps == {}
    assert outcome.workflow.claims == 1


def test_each_check_is_recorded_under_the_id_that_the_handler_gave(env: Environment) -> None:
    async def handle(ctx: Context, end: int) -> Any:
        return await ctx.poll("wait for the courier", count_to(end), every=1)

    assert env.run(handle, 2).calls == ["wait for the courier/1", "wait for the courier/2"]


def test_the_first_check_gets_the_state_that_the_handler_gave(env: Environment) -> None:
    async def handle(ctx: Context, end: int) -> Any:
        return await ctx.poll("count", count_to(end), every=1, state=5)

    outcome = env.run(handle, 8)
    assert outcome.result == 8
    assert [call.args for call in env.calls] == [(5,), (6,), (7,)]
    assert outcome.workflow.claims == 3


def test_a_state_may_be_structured(env: Environment) -> None:
    def check(state: dict[str, Any]) -> dict[str, Any] | Done[dict[str, Any]]:
        checks = state["checks"] + 1
        if checks == 2:
            return Done({"status": "delivered", "checks": checks})
        return {"status": "on its way", "checks": checks}

    async def handle(ctx: Context, input: None) -> Any:
        start = {"status": "on its way", "checks": 0}
        return await ctx.poll("delivery", check, every=1, state=start)

    outcome = env.run(handle)
    assert outcome.result == {"status": "delivered", "checks": 2}
    assert outcome.steps["delivery/1"] == {"status": "on its way", "checks": 1}


def test_it_may_be_done_with_nothing(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> Any:
        done = await ctx.poll("ready", lambda _: Done(None), every=1)
        await ctx.sleep("nap", 1)
        return done

    outcome = env.run(handle)
    assert (outcome.status, outcome.result) == (Status.FINISHED, None)
    assert outcome.calls == ["ready/1"]
    assert outcome.workflow.claims == 2


def test_a_state_is_stored_in_the_form_that_the_codec_gives_to_its_type(
    sealing: Environment,
) -> None:
    def check(state: Sealed) -> Sealed:
        assert isinstance(state, Sealed)
        return Sealed(state + "x")

    async def handle(ctx: Context, input: None) -> Any:
        def until_two(state: Sealed) -> Sealed | Done[str]:
            return Done(str(state)) if len(state) == 2 else check(state)

        return await ctx.poll("grow", until_two, every=1, state=Sealed(""))

    outcome = sealing.run(handle)
    assert outcome.result == "xx"
    assert outcome.steps["grow/1"] == {"sealed": "x"}


# The pauses ---------------------------------------------------------------------------------------


def test_it_pauses_for_the_same_time_after_each_check(env: Environment) -> None:
    async def handle(ctx: Context, end: int) -> Any:
        return await ctx.poll("count", count_to(end), every=2)

    outcome = env.run(handle, 3)
    assert outcome.naps == {
        "count/1": START + timedelta(seconds=2),
        "count/2": START + timedelta(seconds=4),
    }
    assert [call.called_at for call in env.calls] == [START, *outcome.naps.values()]


def test_it_raises_after_its_timeout_and_the_workflow_is_aborted(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.poll("count", count_to(1000), every=2, timeout=5)

    outcome = env.run(handle)
    assert outcome.status is Status.ABORTED
    assert isinstance(outcome.errors[-1], PollTimeout)
    assert outcome.calls == ["count/1", "count/2", "count/3"]
    assert outcome.workflow.finished_at == START + timedelta(seconds=5)


# Errors -------------------------------------------------------------------------------------------


def test_what_a_check_raises_fails_the_run(environment: Callable[..., Environment]) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.poll("ready", fail, every=1)

    outcome = environment(max_failures=0).run(handle)
    assert outcome.status is Status.ABORTED
    assert [str(error) for error in outcome.errors] == ["no answer"]
    assert outcome.calls == ["ready/1"]
    assert (outcome.steps, outcome.naps) == ({}, {})


def test_what_a_check_raises_can_be_caught(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> str:
        with pytest.raises(ValueError, match="no answer"):
            await ctx.poll("ready", fail, every=1)
        return "went on"

    outcome = env.run(handle)
    assert outcome.result == "went on"
    assert outcome.calls == ["ready/1"]


# What follows -------------------------------------------------------------------------------------


def test_a_later_step_can_use_what_it_returned(env: Environment) -> None:
    async def handle(ctx: Context, end: int) -> int:
        count: int = await ctx.poll("count", count_to(end), every=1)
        tenfold: int = await ctx.step("multiply", lambda: count * 10)
        await ctx.sleep("nap", 1)
        return tenfold

    outcome = env.run(handle, 2)
    assert outcome.result == 20
    assert outcome.calls == ["count/1", "count/2", "multiply"]


def test_one_can_begin_where_another_one_ended(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> Any:
        first = await ctx.poll("first", count_to(2), every=1)
        return await ctx.poll("second", count_to(4), every=1, state=first)

    outcome = env.run(handle)
    assert outcome.result == 4
    assert outcome.calls == ["first/1", "first/2", "second/1", "second/2"]
    assert outcome.workflow.claims == 3
