"""A workflow starts another one, waits for its end without memory, and keeps the outcome."""

from __future__ import annotations

from typing import Any

import pytest

from bluestreak_core import MAX_VALUE_BYTES, ChildFailed, Context, Retry, Status
from bluestreak_core.testing import Environment
from tests.conformance.arrange import Sealed

ONCE = Retry(max_attempts=1)


async def echo(ctx: Context, input: Any) -> Any:
    return input


async def broken(ctx: Context, input: Any) -> None:
    await ctx.step("break", fail, retry=ONCE)


def fail() -> None:
    raise ValueError("broken for good")


@pytest.fixture(autouse=True)
def _targets(request: pytest.FixtureRequest) -> None:
    """The handlers that the workflows of these tests start."""
    for name in {"env", "sealing"} & set(request.fixturenames):
        environment: Environment = request.getfixturevalue(name)
        environment.register_handler("echo", echo)
        environment.register_handler("broken", broken)


# Results ------------------------------------------------------------------------------------------


def test_a_child_gets_an_input_and_its_result_is_returned(env: Environment) -> None:
    async def handle(ctx: Context, input: str) -> str:
        return await ctx.child("ship", echo, input)

    outcome = env.run(handle, "a book")
    assert outcome.result == "a book"
    assert outcome.steps["ship"] == "a book"
    child = env.outcome("workflow/ship")
    assert (child.workflow.input, child.result, child.status) == (
        *("a book", "a book"),
        Status.FINISHED,
    )
    assert (outcome.workflow.claims, child.workflow.claims) == (2, 1)


def test_a_child_may_have_an_id_and_a_step_id_of_the_callers_choice(env: Environment) -> None:
    async def handle(ctx: Context, input: dict[str, str]) -> str:
        step_id, workflow_id = input["step"], input["workflow"]
        return await ctx.child(step_id, echo, input["parcel"], workflow_id=workflow_id)

    order = {"step": "ship it", "workflow": "parcel-7", "parcel": "a book"}
    outcome = env.run(handle, order)
    assert outcome.result == "a book"
    assert outcome.steps["ship it"] == "a book"
    assert env.outcome("parcel-7").result == "a book"


def test_input_and_result_of_a_child_may_be_nested(env: Environment) -> None:
    async def handle(ctx: Context, input: Any) -> Any:
        return await ctx.child("ship", echo, input)

    order = {"nested": {"key": "value", "items": [1, 2, 3]}, "source": "test"}
    assert env.run(handle, order).result == order


def test_a_child_may_get_nothing_and_return_nothing(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.child("ship", echo)

    outcome = env.run(handle)
    assert outcome.result is None
    assert outcome.steps["ship"] is None
    assert env.outcome("workflow/ship").status is Status.FINISHED


def test_the_input_of_a_child_may_be_nearly_as_large_as_any_value(env: Environment) -> None:
    size = MAX_VALUE_BYTES - 10_000

    async def measure(ctx: Context, input: str) -> int:
        return len(input)

    async def handle(ctx: Context, input: None) -> int:
        return await ctx.child("measure", measure, "x" * size)

    env.register_handler("measure", measure)
    assert env.run(handle).result == size


# Failures -----------------------------------------------------------------------------------------


def test_the_failure_of_a_child_aborts_its_parent(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.child("ship", broken)

    outcome = env.run(handle)
    assert outcome.status is Status.ABORTED
    (error,) = outcome.errors
    assert isinstance(error, ChildFailed)
    assert "broken for good" in str(error)
    assert env.outcome("workflow/ship").status is Status.ABORTED


def test_the_failure_of_a_child_can_be_caught(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> str:
        try:
            await ctx.child("ship", broken)
        except ChildFailed as error:
            return f"{error.child_id} was {error.status}"
        return "never"

    assert env.run(handle).result == "workflow/ship was aborted"


# Replays ------------------------------------------------------------------------------------------


def test_a_child_that_has_finished_is_not_started_again(env: Environment) -> None:
    async def handle(ctx: Context, input: str) -> str:
        shipped: str = await ctx.child("ship", echo, input)
        await ctx.sleep("nap", 1)
        return shipped

    outcome = env.run(handle, "a book")
    assert outcome.result == "a book"
    assert outcome.workflow.claims == 3
    assert env.outcome("workflow/ship").workflow.claims == 1


def test_a_child_that_has_failed_raises_the_same_error_again(env: Environment) -> None:
    caught: list[tuple[str, str]] = []

    async def handle(ctx: Context, input: None) -> str:
        try:
            await ctx.child("ship", broken)
        except ChildFailed as error:
            caught.append((error.child_id, str(error)))
        await ctx.sleep("nap", 1)
        return "went on"

    outcome = env.run(handle)
    assert outcome.result == "went on"
    assert len(caught) == 2
    assert caught[0] == caught[1]
    assert "broken for good" in caught[0][1]
    assert env.outcome("workflow/ship").calls == ["break"]


# Among other steps --------------------------------------------------------------------------------


def test_a_child_can_use_the_output_of_a_step(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> str:
        packed = await ctx.step("pack", lambda: "a book")
        return await ctx.child("ship", echo, packed)

    outcome = env.run(handle)
    assert outcome.result == "a book"
    assert outcome.calls == ["pack"]
    assert outcome.workflow.claims == 2


def test_a_step_can_use_the_result_of_a_child(env: Environment) -> None:
    async def handle(ctx: Context, input: str) -> str:
        shipped = await ctx.child("ship", echo, input)
        return await ctx.step("report", "shipped {}".format, shipped)

    outcome = env.run(handle, "a book")
    assert outcome.result == "shipped a book"
    assert outcome.calls == ["report"]
    assert outcome.workflow.claims == 2


def test_a_child_in_a_scope_has_the_id_of_the_scope(env: Environment) -> None:
    async def handle(ctx: Context, input: str) -> str:
        return await ctx.scope("parcel").child("ship", echo, input)

    outcome = env.run(handle, "a book")
    assert outcome.result == "a book"
    assert outcome.steps["parcel/ship"] == "a book"
    assert env.outcome("workflow/parcel/ship").result == "a book"


def test_one_child_after_another_ends_a_run_each(env: Environment) -> None:
    async def handle(ctx: Context, input: str) -> list[str]:
        first = await ctx.child("first", echo, f"{input} 1")
        return [first, await ctx.child("second", echo, f"{input} 2")]

    outcome = env.run(handle, "parcel")
    assert outcome.result == ["parcel 1", "parcel 2"]
    assert outcome.workflow.claims == 3


# Conversion ---------------------------------------------------------------------------------------


def test_an_input_is_stored_in_the_form_that_the_codec_gives_to_its_type(
    sealing: Environment,
) -> None:
    async def measure(ctx: Context, input: Sealed) -> list[str]:
        return [type(input).__name__, input]

    async def handle(ctx: Context, input: str) -> Any:
        return await ctx.child("measure", measure, Sealed(input))

    sealing.register_handler("measure", measure)
    assert sealing.run(handle, "a book").result == ["Sealed", "a book"]
    assert sealing.outcome("workflow/measure").workflow.input == {"sealed": "a book"}


def test_a_result_is_stored_in_the_form_that_the_codec_gives_to_its_type(
    sealing: Environment,
) -> None:
    async def seal(ctx: Context, input: str) -> Sealed:
        return Sealed(input)

    async def handle(ctx: Context, input: str) -> list[str]:
        letter = await ctx.child("seal", seal, input)
        await ctx.sleep("nap", 1)
        return [type(letter).__name__, letter]

    sealing.register_handler("seal", seal)
    outcome = sealing.run(handle, "a book")
    assert outcome.result == ["Sealed", "a book"]
    assert outcome.steps["seal"] == {"sealed": "a book"}
    assert sealing.outcome("workflow/seal").workflow.result == {"sealed": "a book"}
