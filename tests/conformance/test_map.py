"""One function for many items; how each ended is recorded, and so is how all of them ended."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bluestreak_core import MAX_VALUE_BYTES, Context, Retry, Status
from bluestreak_core.testing import Environment
from tests.conformance.arrange import Flaky, Sealed, on_memory, pauses, saved_at, summary


def greet(name: str) -> str:
    return f"Good day, {name}."


def work(letter: str) -> str:
    """`f` fails."""
    if letter == "f":
        raise ValueError("broken item")
    return "done"


# Results ------------------------------------------------------------------------------------------


def test_each_item_is_a_step_and_results_are_in_order(env: Environment) -> None:
    async def handle(ctx: Context, names: list[str]) -> list[str]:
        return await ctx.map("greet", greet, names, limit=1)

    outcome = env.run(handle, ["Ada", "Alan"])
    assert outcome.result == ["Good day, Ada.", "Good day, Alan."]
    assert outcome.calls == ["greet/0", "greet/1"]
    assert outcome.steps.items() >= {("greet/0", "Good day, Ada."), ("greet/1", "Good day, Alan.")}
    assert outcome.workflow.claims == 1


def test_items_and_results_may_be_of_any_type(env: Environment) -> None:
    async def handle(ctx: Context, numbers: list[int]) -> list[int]:
        return await ctx.map("double", lambda number: number * 2, numbers, limit=1)

    assert env.run(handle, [1, 2]).result == [2, 4]


def test_items_may_come_with_their_places(env: Environment) -> None:
    def add(item: tuple[int, int]) -> int:
        place, number = item
        return number + place

    async def handle(ctx: Context, numbers: list[int]) -> list[int]:
        return await ctx.map("add", add, enumerate(numbers), limit=1)

    outcome = env.run(handle, [10, 20, 30])
    assert outcome.result == [10, 21, 32]
    assert outcome.calls == ["add/0", "add/1", "add/2"]


def test_no_items_end_at_once(env: Environment) -> None:
    async def handle(ctx: Context, items: list[str]) -> list[Any]:
        plain = await ctx.map("none", work, items)
        tolerant = await ctx.map("none either", work, items, tolerate=0)
        return [plain, summary(tolerant)]

    outcome = env.run(handle, [])
    everything = {"ended_by": "all", "succeeded": 0, "failed": 0, "skipped": 0}
    assert outcome.result == [[], everything]
    assert outcome.calls == []


def test_results_are_in_the_order_of_the_items_whichever_ends_first(env: Environment) -> None:
    async def last(delay: int) -> int:
        await asyncio.sleep(delay)
        return delay

    async def handle(ctx: Context, delays: list[int]) -> list[int]:
        return await ctx.map("wait", last, delays, limit=2)

    outcome = env.run(handle, [5, 1, 2])
    assert outcome.result == [5, 1, 2]
    first, second, third = env.calls
    assert first.called_at == second.called_at
    assert (third.called_at - first.called_at).total_seconds() == 1
    assert saved_at(env, "wait/2") < saved_at(env, "wait/0")


def test_an_item_records_its_step_and_nothing_else(env: Environment) -> None:
    async def handle(ctx: Context, items: list[str]) -> list[str]:
        return await ctx.map("work", work, items, limit=1)

    outcome = env.run(handle, ["a", "b"])
    assert outcome.result == ["done", "done"]
    timeline = env.call(env.bluestreak.describe("workflow"))
    assert [step.step_id for step in timeline.steps if step.step_id != "work"] == [
        "work/0",
        "work/1",
    ]
    assert (timeline.naps, timeline.attempts) == ((), ())


def test_items_may_have_keys_for_the_ids_of_their_steps(env: Environment) -> None:
    async def handle(ctx: Context, numbers: list[int]) -> list[int]:
        def tenfold(number: int) -> int:
            return number * 10

        return await ctx.map("multiply", tenfold, numbers, limit=1, key="item-{}".format)

    outcome = env.run(handle, [1, 2])
    assert outcome.result == [10, 20]
    assert outcome.calls == ["multiply/item-1", "multiply/item-2"]


def test_a_result_is_stored_in_the_form_that_the_codec_gives_to_its_type(
    sealing: Environment,
) -> None:
    def seal(text: str) -> Sealed:
        return Sealed(text.upper())

    async def handle(ctx: Context, texts: list[str]) -> list[str]:
        letters = await ctx.map("seal", seal, texts, limit=1)
        await ctx.sleep("nap", 1)
        return [f"{type(each).__name__} {each}" for each in letters]

    outcome = sealing.run(handle, ["x", "y"])
    assert outcome.result == ["Sealed X", "Sealed Y"]
    assert (outcome.steps["seal/0"], outcome.steps["seal/1"]) == ({"sealed": "X"}, {"sealed": "Y"})


@on_memory
def test_results_may_be_larger_together_than_any_record(env: Environment) -> None:
    part = MAX_VALUE_BYTES // 3

    async def handle(ctx: Context, places: list[int]) -> dict[str, Any]:
        results = await ctx.map("fill", lambda _: "x" * part, places, limit=1)
        await ctx.sleep("nap", 1)
        return {"results": len(results), "size": sum(map(len, results))}

    outcome = env.run(handle, [0, 1, 2, 3])
    assert outcome.result == {"results": 4, "size": 4 * part}
    assert 4 * part > MAX_VALUE_BYTES
    assert outcome.workflow.claims == 2


# Waits --------------------------------------------------------------------------------------------


def test_an_item_that_pauses_ends_the_run_and_the_others_are_not_called_again(
    env: Environment,
) -> None:
    quick, slow, broken = Flaky(0, "r0"), Flaky(1, "r1"), Flaky(9, error=ValueError)

    async def handle(ctx: Context, input: None) -> list[object]:
        policy = Retry(max_attempts=2, initial=60, jitter=0, retry_on=ConnectionError)
        functions = {"quick": quick, "slow": slow, "broken": broken}
        outcomes = await ctx.map(
            "call", lambda name: functions[name](), functions, retry=policy, tolerate=1
        )
        return [each.value for each in outcomes]

    outcome = env.run(handle)
    assert outcome.result == ["r0", "r1", None]
    assert (quick.calls, slow.calls, broken.calls) == (1, 2, 1)
    assert pauses(env, "call/1") == [60]
    assert outcome.workflow.claims == 2


def test_a_wait_after_a_map_does_not_run_its_items_again(env: Environment) -> None:
    async def handle(ctx: Context, texts: list[str]) -> list[str]:
        upper = await ctx.map("upper", str.upper, texts, limit=1)
        await ctx.sleep("nap", 1)
        return upper

    outcome = env.run(handle, ["a", "b"])
    assert outcome.result == ["A", "B"]
    assert outcome.calls == ["upper/0", "upper/1"]
    assert outcome.workflow.claims == 2


def test_a_wait_after_a_map_does_not_run_its_failed_items_again(env: Environment) -> None:
    async def handle(ctx: Context, letters: list[str]) -> dict[str, Any]:
        outcomes = await ctx.map("work", work, letters, limit=1, tolerate=1)
        await ctx.sleep("nap", 1)
        return summary(outcomes)

    outcome = env.run(handle, ["s", "f"])
    assert outcome.result == {"ended_by": "all", "succeeded": 1, "failed": 1, "skipped": 0}
    assert outcome.calls == ["work/0", "work/1"]
    assert outcome.workflow.claims == 2


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
}


@on_memory
@pytest.mark.parametrize("case", CASES)
def test_how_items_end(env: Environment, case: str) -> None:
    letters, ending, expected = CASES[case]

    async def handle(ctx: Context, input: None) -> dict[str, Any]:
        outcomes: Any = await ctx.map("work", work, list(letters), limit=1, **ending)
        return summary(outcomes)

    outcome = env.run(handle)
    assert tuple(outcome.result.values()) == expected
    called = len(letters) - outcome.result["skipped"]
    assert outcome.calls == [f"work/{place}" for place in range(called)]


def test_results_raise_what_the_items_raised_and_the_workflow_is_aborted(
    env: Environment,
) -> None:
    async def handle(ctx: Context, input: None) -> list[str]:
        outcomes = await ctx.map("work", work, ["f", "s"], limit=1, tolerate=0)
        return list(outcomes.results())

    outcome = env.run(handle)
    assert outcome.status is Status.ABORTED
    (raised,) = outcome.errors
    assert isinstance(raised, ExceptionGroup)
    assert "broken item" in str(raised.exceptions[0])
    assert outcome.workflow.failures == 1
    assert outcome.calls == ["work/0"]
