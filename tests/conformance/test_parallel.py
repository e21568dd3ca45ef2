"""Named branches run side by side; how each ended is recorded, and so is how all of them ended."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bluestreak_core import Context, EndedBy, InvalidArgument, Outcomes, Status
from bluestreak_core.testing import Environment
from tests.conformance.arrange import Sealed, on_memory, saved_at, summary

Branch = Callable[[Context], Awaitable[Any]]


def returning(value: Any) -> Branch:
    """A branch that returns a value, without a step of its own."""

    async def branch(ctx: Context) -> Any:
        return value

    return branch


def stepping(value: Any) -> Branch:
    """A branch that returns what its step has returned."""

    async def branch(ctx: Context) -> Any:
        return await ctx.step("work", lambda: value)

    return branch


async def failing(ctx: Context) -> Any:
    raise ValueError("broken branch")


def branches(text: str) -> dict[str, Branch]:
    """A branch for each letter: `s` succeeds, `f` fails. Their names are their places."""
    kinds = {"s": returning("done"), "f": failing}
    return {f"b{place}": kinds[letter] for place, letter in enumerate(text)}


async def ended(ctx: Context, text: str, **ending: Any) -> dict[str, Any]:
    """How such branches end one after another, as the result of a workflow."""
    outcomes: Any = await ctx.parallel("all", branches(text), limit=1, **ending)
    return summary(outcomes)


# Results ------------------------------------------------------------------------------------------


def test_each_branch_has_a_scope_and_its_result_is_recorded(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> list[str]:
        work = {"left": stepping("task 1"), "right": stepping("task 2")}
        return list((await ctx.parallel("both", work, limit=1)).values())

    outcome = env.run(handle)
    assert outcome.result == ["task 1", "task 2"]
    assert outcome.calls == ["both/left/work", "both/right/work"]
    assert outcome.steps.items() >= {
        ("both/left/work", "task 1"),
        ("both/left", "task 1"),
        ("both/right/work", "task 2"),
        ("both/right", "task 2"),
    }
    assert outcome.workflow.claims == 1


def test_a_branch_needs_no_steps(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> list[str]:
        work = {"left": returning("alpha"), "right": returning("beta")}
        return list((await ctx.parallel("both", work, limit=1)).values())

    outcome = env.run(handle)
    assert outcome.result == ["alpha", "beta"]
    assert (outcome.steps["both/left"], outcome.steps["both/right"]) == ("alpha", "beta")


def test_results_are_found_by_the_names_of_the_branches(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> dict[str, str]:
        work = {"first": returning("one"), "second": returning("two")}
        return await ctx.parallel("named", work, limit=1)

    assert env.run(handle).result == {"first": "one", "second": "two"}


def test_each_result_keeps_its_type(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> list[Any]:
        values = ["text", 42, {"key": "value"}]
        work = {f"b{place}": returning(value) for place, value in enumerate(values)}
        results = await ctx.parallel("mixed", work, limit=1)
        await ctx.sleep("nap", 1)
        return list(results.values())

    outcome = env.run(handle)
    assert outcome.result == ["text", 42, {"key": "value"}]
    assert outcome.workflow.claims == 2


def test_no_branches_end_at_once(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> list[Any]:
        plain = await ctx.parallel("none", branches(""))
        tolerant = await ctx.parallel("none either", branches(""), tolerate=0)
        return [plain, summary(tolerant)]

    outcome = env.run(handle)
    everything = {"ended_by": "all", "succeeded": 0, "failed": 0, "skipped": 0}
    assert outcome.result == [{}, everything]


def test_results_are_in_the_order_of_the_branches_whichever_ends_first(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> list[Any]:
        async def slow(ctx: Context) -> str:
            await ctx.step("work", asyncio.sleep, 5)
            return "slow"

        work = {"slow": slow, "quick": returning("quick"), "last": returning("last")}
        return list((await ctx.parallel("all", work, limit=2)).values())

    outcome = env.run(handle)
    assert outcome.result == ["slow", "quick", "last"]
    assert saved_at(env, "all/last") < saved_at(env, "all/slow")


def test_a_result_is_stored_in_the_form_that_the_codec_gives_to_its_type(
    sealing: Environment,
) -> None:
    async def seal(ctx: Context) -> Sealed:
        return Sealed("x")

    async def handle(ctx: Context, input: None) -> list[str]:
        results = await ctx.parallel("letters", {"left": seal, "right": seal}, limit=1)
        await ctx.sleep("nap", 1)
        return [f"{type(each).__name__} {each}" for each in results.values()]

    outcome = sealing.run(handle)
    assert outcome.result == ["Sealed x", "Sealed x"]
    assert outcome.steps["letters/left"] == outcome.steps["letters/right"] == {"sealed": "x"}


def test_branches_may_have_branches(env: Environment) -> None:
    async def nest(ctx: Context) -> list[str]:
        work = {"left": stepping("i1"), "right": stepping("i2")}
        return list((await ctx.parallel("inner", work, limit=1)).values())

    async def handle(ctx: Context, input: None) -> list[Any]:
        return list((await ctx.parallel("outer", {"only": nest}, limit=1)).values())

    outcome = env.run(handle)
    assert outcome.result == [["i1", "i2"]]
    assert outcome.calls == ["outer/only/inner/left/work", "outer/only/inner/right/work"]
    assert outcome.steps["outer/only"] == ["i1", "i2"]


def test_a_branch_that_waits_ends_the_run_and_the_others_do_not_run_again(
    env: Environment,
) -> None:
    async def nap(ctx: Context) -> str:
        await ctx.sleep("nap", 2)
        return "b1"

    async def handle(ctx: Context, input: None) -> list[Any]:
        work = {"b0": stepping("b0"), "b1": nap}
        return list((await ctx.parallel("both", work, limit=1)).values())

    outcome = env.run(handle)
    assert outcome.result == ["b0", "b1"]
    assert outcome.calls == ["both/b0/work"]
    assert "both/b1/nap" in outcome.naps
    assert outcome.workflow.claims == 2


def test_a_limit_of_none_at_once_is_refused(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.parallel("both", branches("ss"), limit=0)

    outcome = env.run(handle)
    assert outcome.status is Status.ABORTED
    assert isinstance(outcome.errors[-1], InvalidArgument)
    assert outcome.steps == {}


# How it ends --------------------------------------------------------------------------------------

CASES: dict[str, tuple[str, dict[str, Any], tuple[str, int, int, int]]] = {
    "the first failure ends it where none is tolerated": (
        "sfs",
        {"tolerate": 0},
        ("failures", 1, 1, 1),
    ),
    "enough successes end it": ("ssss", {"enough": 2}, ("enough", 2, 0, 2)),
    "a tolerated failure does not end it": ("sfs", {"tolerate": 1}, ("all", 2, 1, 0)),
    "one failure more than is tolerated ends it": ("ffs", {"tolerate": 1}, ("failures", 0, 2, 1)),
    "a larger share of failures than is tolerated ends it": (
        "ffss",
        {"tolerate": 0.25},
        ("failures", 0, 2, 2),
    ),
    "the very share that is tolerated does not end it": (
        "fsss",
        {"tolerate": 0.25},
        ("all", 3, 1, 0),
    ),
    "all may fail where all are tolerated": ("fff", {"tolerate": 3}, ("all", 0, 3, 0)),
    "all run where enough never succeed": ("sfs", {"enough": 3}, ("all", 2, 1, 0)),
    "failures may end it before enough succeed": (
        "ffss",
        {"enough": 3, "tolerate": 1},
        ("failures", 0, 2, 2),
    ),
}


@on_memory
@pytest.mark.parametrize("case", CASES)
def test_how_branches_end(env: Environment, case: str) -> None:
    text, ending, expected = CASES[case]

    async def handle(ctx: Context, input: None) -> dict[str, Any]:
        return await ended(ctx, text, **ending)

    outcome = env.run(handle)
    assert tuple(outcome.result.values()) == expected
    assert outcome.workflow.claims == 1


def test_results_raise_what_the_branches_raised_and_the_workflow_is_aborted(
    env: Environment,
) -> None:
    async def handle(ctx: Context, input: None) -> dict[str, Any]:
        outcomes = await ctx.parallel("all", branches("fs"), limit=1, tolerate=0)
        return dict(outcomes.results())

    outcome = env.run(handle)
    assert outcome.status is Status.ABORTED
    (raised,) = outcome.errors
    assert isinstance(raised, ExceptionGroup)
    assert "broken branch" in str(raised.exceptions[0])
    assert outcome.workflow.failures == 1
    assert "all/b1" not in outcome.steps


def test_successes_failures_and_errors_can_be_told_apart(env: Environment) -> None:
    async def handle(ctx: Context, input: None) -> dict[str, Any]:
        outcomes: Outcomes[str] = await ctx.parallel("all", branches("sfs"), limit=1, tolerate=1)
        assert outcomes.ended_by is EndedBy.ALL
        return {
            "succeeded": [each.key for each in outcomes.succeeded],
            "failed": [each.key for each in outcomes.failed],
            "errors": {key: error.message for key, error in outcomes.errors.items()},
            "in order": [each.key for each in outcomes],
        }

    assert env.run(handle).result == {
        "succeeded": ["b0", "b2"],
        "failed": ["b1"],
        "errors": {"b1": "broken branch"},
        "in order": ["b0", "b1", "b2"],
    }
