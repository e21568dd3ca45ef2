"""A scope gives the steps and waits of a helper function ids of their own.

A scope itself records nothing: its body is a part of the handler, and runs again in each run. What
must not run again is a step, or a branch of `ctx.parallel`.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from bluestreak_core import MAX_VALUE_BYTES, Context, Retry, Status, StepFailed
from bluestreak_core.testing import Environment
from bluestreak_core.testing.clock import START
from tests.conformance.arrange import Flaky, Sealed, given_up, on_memory, pauses

pytestmark = on_memory

ONCE = Retry(max_attempts=1)


def fail() -> None:
    raise ValueError("broken for good")


def same(value: str) -> str:
    return value


# Steps in a scope ---------------------------------------------------------------------------------


def test_a_step_in_a_scope_is_recorded_under_the_id_of_the_scope(env: Environment) -> None:
    async def weigh(ctx: Context, parcel: str) -> str:
        return await ctx.step("weigh", same, parcel)

    async def handle(ctx: Context, parcel: str) -> str:
        return await weigh(ctx.scope("parcel"), parcel)

    outcome = env.run(handle, "a book")
    assert outcome.result == "a book"
    assert outcome.steps == {"parcel/weigh": "a book"}
    assert outcome.workflow.claims == 1


def test_the_id_of_a_scope_may_come_from_the_input(env: Environment) -> None:
    async def handle(ctx: Context, parcel: dict[str, str]) -> str:
        return await ctx.scope(parcel["id"]).step("weigh", same, parcel["content"])

    outcome = env.run(handle, {"id": "parcel-7", "content": "a book"})
    assert outcome.result == "a book"
    assert outcome.calls == ["parcel-7/weigh"]


def test_the_steps_of_a_scope_can_use_each_others_outputs(env: Environment) -> None:
    async def handle(ctx: Context, parcel: str) -> str:
        scope = ctx.scope("parcel")
        packed = await scope.step("pack", same, parcel)
        return await scope.step("weigh", same, packed)

    outcome = env.run(handle, "a book")
    assert outcome.result == "a book"
    assert outcome.calls == ["parcel/pack", "parcel/weigh"]


def test_scopes_nest(env: Environment) -> None:
    async def handle(ctx: Context, parcel: str) -> str:
        outer = ctx.scope("order")
        await outer.step("check", same, parcel)
        return await outer.scope("parcel").step("check", same, parcel)

    outcome = env.run(handle, "a book")
    assert outcome.result == "a book"
    assert outcome.steps == {"order/check": "a book", "order/parcel/check": "a book"}


# Errors in a scope --------------------------------------------------------------------------------


def test_a_step_that_is_given_up_in_a_scope_aborts_the_workflow(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.scope("parcel").step("weigh", fail, retry=ONCE)

    outcome = env.run(handle)
    assert outcome.status is Status.ABORTED
    assert given_up(outcome) == {"parcel/weigh": "ValueError"}
    assert outcome.workflow.claims == 1


def test_the_error_of_a_scope_can_be_caught_outside_of_it(env: Environment) -> None:
    async def weigh(ctx: Context) -> None:
        await ctx.step("weigh", fail, retry=ONCE)

    async def handle(ctx: Context, parcel: str) -> str:
        with pytest.raises(StepFailed, match="parcel/weigh"):
            await weigh(ctx.scope("parcel"))
        return await ctx.step("estimate", same, parcel)

    outcome = env.run(handle, "a book")
    assert outcome.result == "a book"
    assert given_up(outcome) == {"parcel/weigh": "ValueError"}
    assert outcome.steps == {"estimate": "a book"}


def test_what_the_body_of_a_scope_raises_fails_the_run_and_records_nothing(
    environment: Callable[..., Environment],
) -> None:
    async def weigh(ctx: Context) -> None:
        raise ValueError("no scales")

    async def handle(ctx: Context, input: None) -> None:
        await weigh(ctx.scope("parcel"))

    env = environment(max_failures=0)
    outcome = env.run(handle)
    assert outcome.status is Status.ABORTED
    assert outcome.workflow.error is not None
    assert outcome.workflow.error.message == "no scales"
    timeline = env.call(env.bluestreak.describe("workflow"))
    assert (timeline.steps, timeline.failed_steps, timeline.attempts) == ((), (), ())


# Attempts in a scope ------------------------------------------------------------------------------


def test_a_step_in_a_scope_is_tried_again(env: Environment) -> None:
    weigh = Flaky(1, "2 kg")

    async def handle(ctx: Context, input: None) -> object:
        policy = Retry(max_attempts=2, initial=1, jitter=0)
        return await ctx.scope("parcel").step("weigh", weigh, retry=policy)

    outcome = env.run(handle)
    assert outcome.result == "2 kg"
    assert outcome.calls == ["parcel/weigh"] * 2
    assert pauses(env, "parcel/weigh") == [1]
    assert outcome.workflow.claims == 2


def test_a_step_in_a_scope_is_given_up_after_its_last_attempt(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> None:
        policy = Retry(max_attempts=2, initial=1, jitter=0)
        await ctx.scope("parcel").step("weigh", fail, retry=policy)

    outcome = env.run(handle)
    assert outcome.status is Status.ABORTED
    assert pauses(env, "parcel/weigh") == [1, None]
    assert given_up(outcome) == {"parcel/weigh": "ValueError"}


# Replays ------------------------------------------------------------------------------------------


def test_a_replay_takes_the_records_of_a_scope(env: Environment) -> None:
    async def handle(ctx: Context, parcel: str) -> str:
        weighed = await ctx.scope("parcel").step("weigh", same, parcel)
        await ctx.sleep("nap", 1)
        return weighed

    outcome = env.run(handle, "a book")
    assert outcome.result == "a book"
    assert outcome.calls == ["parcel/weigh"]
    assert outcome.workflow.claims == 2


def test_a_wait_in_a_scope_ends_the_run(env: Environment) -> None:
    async def handle(ctx: Context, parcel: str) -> str:
        scope = ctx.scope("parcel")
        weighed = await scope.step("weigh", same, parcel)
        await scope.sleep("nap", 1)
        return weighed

    outcome = env.run(handle, "a book")
    assert outcome.result == "a book"
    assert outcome.naps == {"parcel/nap": START + timedelta(seconds=1)}
    assert outcome.calls == ["parcel/weigh"]
    assert outcome.workflow.claims == 2


def test_what_a_scope_returns_may_be_larger_than_any_record(env: Environment) -> None:
    bodies: list[int] = []

    async def blow_up(ctx: Context) -> str:
        bodies.append(1)
        return await ctx.step("seed", same, "x" * 1000) * (MAX_VALUE_BYTES // 1000 + 1)

    async def handle(ctx: Context, input: None) -> int:
        large = await blow_up(ctx.scope("parcel"))
        await ctx.sleep("nap", 1)
        return len(large)

    outcome = env.run(handle)
    assert outcome.result > MAX_VALUE_BYTES
    assert outcome.calls == ["parcel/seed"]
    assert bodies == [1, 1]  # the body made it once more


def test_a_step_in_a_scope_that_a_crash_interrupts_is_called_again(env: Environment) -> None:
    crashes = iter([True, False])

    async def weigh(parcel: str) -> str:
        if next(crashes):
            env.crash()
            await asyncio.sleep(1)
        return parcel

    async def handle(ctx: Context, parcel: str) -> str:
        return await ctx.scope("parcel").step("weigh", weigh, parcel)

    outcome = env.run(handle, "a book")
    assert outcome.result == "a book"
    assert outcome.steps == {"parcel/weigh": "a book"}
    assert outcome.calls == ["parcel/weigh"] * 2
    assert outcome.workflow.claims == 2


def test_a_step_after_a_scope_with_a_wait_follows_in_the_next_run(env: Environment) -> None:
    async def handle(ctx: Context, parcel: str) -> str:
        await ctx.scope("parcel").sleep("nap", 1)
        return await ctx.step("weigh", same, parcel)

    outcome = env.run(handle, "a book")
    assert outcome.result == "a book"
    assert outcome.steps == {"weigh": "a book"}
    assert [call.called_at for call in env.calls] == [outcome.naps["parcel/nap"]]
    assert outcome.workflow.claims == 2


def test_a_scope_may_return_nothing(env: Environment) -> None:
    async def ignore(ctx: Context) -> None: ...

    async def handle(ctx: Context, input: None) -> None:
        return await ignore(ctx.scope("parcel"))

    outcome = env.run(handle)
    assert (outcome.status, outcome.result, outcome.steps) == (Status.FINISHED, None, {})


def test_steps_and_waits_in_and_after_a_scope_are_done_once_each(env: Environment) -> None:
    async def handle(ctx: Context, parcel: str) -> str:
        scope = ctx.scope("parcel")
        weighed = await scope.step("check", same, parcel)
        await scope.sleep("nap", 1)
        checked = await ctx.step("check", same, weighed)
        await ctx.sleep("nap", 1)
        return checked

    outcome = env.run(handle, "a book")
    assert outcome.result == "a book"
    assert outcome.calls == ["parcel/check", "check"]
    assert outcome.naps == {
        "parcel/nap": START + timedelta(seconds=1),
        "nap": START + timedelta(seconds=2),
    }
    assert outcome.workflow.claims == 3


# A branch, whose result is recorded ---------------------------------------------------------------


def test_a_branch_that_has_returned_does_not_run_again(env: Environment) -> None:
    bodies: list[str] = []

    async def note(ctx: Context) -> str:
        bodies.append("noted")
        return "noted"

    async def handle(ctx: Context, input: None) -> dict[str, str]:
        noted = await ctx.parallel("once", {"note": note})
        await ctx.sleep("nap", 1)
        return noted

    outcome = env.run(handle)
    assert outcome.result == {"note": "noted"}
    assert bodies == ["noted"]
    assert outcome.workflow.claims == 2


def test_the_result_of_a_branch_is_stored_in_the_form_that_the_codec_gives_to_its_type(
    sealing: Environment,
) -> None:
    async def seal(ctx: Context) -> Sealed:
        return Sealed(await ctx.step("weigh", same, "a book"))

    async def handle(ctx: Context, input: None) -> list[str]:
        letter = (await ctx.parallel("once", {"seal": seal}))["seal"]
        await ctx.sleep("nap", 1)
        return [type(letter).__name__, letter]

    outcome = sealing.run(handle)
    assert outcome.result == ["Sealed", "a book"]
    assert outcome.steps["once/seal/weigh"] == "a book"
    assert outcome.steps["once/seal"] == {"sealed": "a book"}
