"""Branches of which some may fail, or of which some are enough."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from bluestreak_core import (
    Abort,
    BranchOutcome,
    BranchStatus,
    Context,
    EndedBy,
    ErrorRecord,
    Outcomes,
    Retry,
    Status,
    StepFailed,
)
from bluestreak_core.testing import Environment, RecordingStore
from tests.engine.arrange import DAY, Fleet, workflow_of


class Site:
    """Answers after as many seconds as the item says; an item below zero is an error."""

    def __init__(self) -> None:
        self.calls: Counter[int] = Counter()

    async def ask(self, item: int) -> int:
        self.calls[item] += 1
        await asyncio.sleep(abs(item))
        if item < 0:
            raise ValueError(f"no {item}")
        return 10 * item


def told(outcomes: Outcomes[Any]) -> list[Any]:
    """Everything that outcomes say, as plain values."""
    errors = {key: [error.type, error.message] for key, error in outcomes.errors.items()}
    values = [[found.key, found.status.value, found.value] for found in outcomes]
    return [outcomes.ended_by.value, values, errors]


def map_with(site: Site, **options: Any) -> Any:
    """A handler that maps, and runs twice from the top."""

    async def handle(ctx: Context, input: list[int]) -> Any:
        outcomes = await ctx.map("ask", site.ask, input, **options)
        seen.append(told(outcomes))
        await ctx.sleep("replay", DAY)
        assert seen == [seen[0]] * 2
        return seen[-1]

    seen: list[Any] = []
    return handle


@pytest.mark.asyncio
async def test_failures_are_tolerated_recorded_and_not_called_again(
    fleet: Fleet, store: RecordingStore
) -> None:
    calls: Counter[int] = Counter()

    async def ask(item: int) -> int:
        calls[item] += 1
        if item == 1:
            raise ValueError("no")
        return item

    async def handle(ctx: Context, input: None) -> Any:
        outcomes = await ctx.map("ask", ask, range(3), tolerate=2)
        await ctx.sleep("replay", DAY)
        return told(outcomes)

    async with fleet.polling(await fleet.parking(handle)) as bluestreak:
        await bluestreak.start("w", "h")
        await store.until_returned("park")
        fleet.clock.advance(DAY)
        result = await bluestreak.wait("w")
    values = [["0", "succeeded", 0], ["1", "failed", None], ["2", "succeeded", 2]]
    assert result == ["all", values, {"1": ["ValueError", "no"]}]
    assert calls == {0: 1, 1: 1, 2: 1}


@pytest.mark.asyncio
async def test_the_decision_is_recorded_in_one_step(fleet: Fleet) -> None:
    async def ask(item: int) -> int:
        if item == 1:
            raise ValueError("no")
        return item

    async def handle(ctx: Context, input: None) -> Any:
        return told(await ctx.map("ask", ask, range(3), tolerate=1, key="a.{}$".format))

    async with fleet.polling(await fleet.handling(handle)) as bluestreak:
        await bluestreak.start("w", "h")
        result = await bluestreak.wait("w")
        step = await bluestreak.find_step("w", "ask")
        workflow = await workflow_of(bluestreak)
    assert step is not None
    assert step.output == {
        "ended_by": "all",
        "failed": [{"key": "a.1$", "type": "ValueError", "message": "no", "attempts": 1}],
        "skipped": [],
    }
    assert workflow.failed_steps == ()
    values = [["a.0$", "succeeded", 0], ["a.1$", "failed", None], ["a.2$", "succeeded", 2]]
    assert result == ["all", values, {"a.1$": ["ValueError", "no"]}]


@pytest.mark.parametrize(
    ("tolerate", "ended_by", "failed", "skipped"),
    [
        (0, "failures", 1, 3),
        (1, "failures", 2, 1),
        (2, "all", 2, 0),
        (100, "all", 2, 0),
        (0.0, "failures", 1, 3),
        (0.39, "failures", 2, 1),
        (0.4, "all", 2, 0),
        (1.0, "all", 2, 0),
    ],
)
def test_more_failures_than_are_tolerated_skip_the_rest(
    tolerate: float, ended_by: str, failed: int, skipped: int
) -> None:
    site = Site()
    with Environment() as env:
        result = env.run(map_with(site, tolerate=tolerate), [2, -3, 4, -5, 6]).result
    statuses = Counter(status for _, status, _ in result[1])
    assert (result[0], statuses["failed"], statuses["skipped"]) == (ended_by, failed, skipped)
    assert set(site.calls.values()) == {1}


@pytest.mark.parametrize("failed", [1, 7, 28, 29, 57, 58])
@pytest.mark.parametrize("more", [0, 1])
def test_a_share_is_not_exceeded_by_as_many_failures(failed: int, more: int) -> None:
    def ask(item: int) -> None:
        if item < failed + more:
            raise ValueError

    async def handle(ctx: Context, input: None) -> str:
        outcomes = await ctx.map("ask", ask, range(100), limit=1, tolerate=failed / 100)
        return outcomes.ended_by.value

    with Environment() as env:
        assert env.run(handle).result == ("failures" if more else "all")


def test_once_enough_have_succeeded_the_rest_is_skipped() -> None:
    site = Site()
    with Environment() as env:
        start = env.now
        result = env.run(map_with(site, enough=2), [9, -1, 3, 5, 7]).result
        assert (env.now - start - DAY).total_seconds() == 5
    assert result == [
        "enough",
        [
            ["0", "skipped", None],
            ["1", "failed", None],
            ["2", "succeeded", 30],
            ["3", "succeeded", 50],
            ["4", "skipped", None],
        ],
        {"1": ["ValueError", "no -1"]},
    ]


def test_what_comes_first_of_enough_and_too_many_failures_ends_it() -> None:
    for items, ended_by in (([-1, 2, -3, 4], "failures"), ([1, -2, 3, -4], "enough")):
        with Environment() as env:
            handler = map_with(Site(), enough=2, tolerate=1)
            assert env.run(handler, items).result[0] == ended_by


def test_fewer_than_enough_end_when_all_have() -> None:
    with Environment() as env:
        result = env.run(map_with(Site(), enough=3), [1, -2, 3]).result
    assert result[0] == "all"


def test_no_items_end_at_once_and_need_no_record_of_each() -> None:
    with Environment() as env:
        outcome = env.run(map_with(Site(), enough=1), [])
    assert outcome.result == ["all", [], {}]


def test_only_what_has_begun_is_skipped_by_a_cancellation() -> None:
    site = Site()
    with Environment() as env:
        env.run(map_with(site, enough=1, limit=2), [1, 2, 3, 4])
    assert set(site.calls) == {1, 2}


def test_a_retry_is_used_up_before_an_item_has_failed() -> None:
    site = Site()
    policy = Retry(max_attempts=3, initial=DAY, max_delay=DAY)
    with Environment() as env:
        result = env.run(map_with(site, tolerate=1, retry=policy), [1, -2]).result
        assert env.outcome("workflow").workflow.failed_steps == ()
    assert result[0] == "all"
    assert site.calls == {1: 1, -2: 3}


def test_results_raise_what_has_failed() -> None:
    async def handle(ctx: Context, input: None) -> list[int]:
        outcomes = await ctx.map("ask", site.ask, [1, -2, 3], tolerate=1)
        assert [found.value for found in outcomes.succeeded] == [10, 30]
        return outcomes.results()

    site = Site()
    with Environment() as env:
        outcome = env.run(handle)
    (group,) = outcome.errors
    assert isinstance(group, ExceptionGroup)
    (error,) = group.exceptions
    assert isinstance(error, StepFailed)
    assert (error.step_id, error.attempts, error.error_type) == ("ask/1", 1, "ValueError")
    assert "ValueError: no -2" in error.error_traceback
    assert (outcome.status, outcome.workflow.failures) == (Status.ABORTED, 1)


def test_results_leave_out_what_was_skipped() -> None:
    async def handle(ctx: Context, input: None) -> list[int]:
        return (await ctx.map("ask", Site().ask, [5, 1, 3], enough=2)).results()

    with Environment() as env:
        assert env.run(handle).result == [10, 30]


def test_a_decision_survives_a_retry_of_the_workflow_and_a_fork() -> None:
    site = Site()
    told_in_each: list[Any] = []

    async def handle(ctx: Context, input: None) -> Any:
        outcomes = await ctx.map("ask", site.ask, [1, -2, 3, 9], enough=2)
        told_in_each.append(told(outcomes))
        if len(told_in_each) == 1:
            raise RuntimeError("later")
        return [str(error).partition(": ")[2] for error in outcomes.exceptions.values()]

    with Environment(max_failures=0) as env:
        env.run(handle)
        env.call(env.bluestreak.retry("workflow"))
        retried = env.wait("workflow").result
        env.call(env.bluestreak.fork("workflow", "forked"))
        assert env.wait("forked").result == retried
    assert told_in_each == [told_in_each[0]] * 3
    assert len(retried) == 1
    assert site.calls == {1: 1, -2: 1, 3: 1, 9: 1}


def test_a_map_that_has_not_ended_calls_failed_items_again_after_a_retry() -> None:
    site = Site()

    async def ask(item: int) -> int:
        if item == 2 and site.calls[-1] == 1:
            raise Abort("not now")
        return await site.ask(item)

    async def handle(ctx: Context, input: None) -> Any:
        return told(await ctx.map("ask", ask, [-1, 2], tolerate=1, limit=1))

    with Environment() as env:
        assert env.run(handle).status is Status.ABORTED
        env.call(env.bluestreak.retry("workflow"))
        assert env.wait("workflow").result[0] == "all"
    assert site.calls == {-1: 2, 2: 1}


def test_a_record_that_no_map_made_aborts_the_workflow() -> None:
    async def handle(ctx: Context, input: None) -> None:
        runs.append(None)
        if len(runs) == 1:
            await ctx.step("ask", lambda: {"ended_by": "all"})
        else:
            await ctx.map("ask", Site().ask, [1], tolerate=1)
        await ctx.sleep("replay", DAY)

    runs: list[None] = []
    with Environment() as env:
        outcome = env.run(handle)
    assert outcome.status is Status.ABORTED
    assert "no map has recorded it" in str(outcome.errors[0])


def test_other_items_than_in_the_run_that_ended_abort_the_workflow() -> None:
    async def handle(ctx: Context, input: None) -> None:
        runs.append(None)
        await ctx.map("ask", Site().ask, range(len(runs)), tolerate=1)
        await ctx.sleep("replay", DAY)

    runs: list[None] = []
    with Environment() as env:
        outcome = env.run(handle)
    assert outcome.status is Status.ABORTED
    assert "the map ended without '1'" in str(outcome.errors[0])


def test_thousands_of_failures_take_a_small_record() -> None:
    async def fail(item: int) -> None:
        raise ValueError("x" * 1_000)

    async def handle(ctx: Context, input: None) -> int:
        return len((await ctx.map("fail", fail, range(3_000), tolerate=1.0)).failed)

    with Environment(turns=10**7) as env:
        outcome = env.run(handle)
    assert outcome.result == 3_000
    assert len(str(outcome.steps["fail"])) < 1_300_000


def test_outcomes_are_a_sequence_of_what_became_of_each_branch() -> None:
    error = ErrorRecord(type="ValueError", message="no", traceback="")
    first = BranchOutcome(key="a", status=BranchStatus.SUCCEEDED, value=1)
    second: BranchOutcome[int] = BranchOutcome(key="b", status=BranchStatus.FAILED, error=error)
    third: BranchOutcome[int] = BranchOutcome(key="c", status=BranchStatus.SKIPPED)
    outcomes = Outcomes(
        ended_by=EndedBy.ENOUGH, outcomes=(first, second, third), exceptions={"b": ValueError()}
    )
    assert (len(outcomes), outcomes[0], outcomes[1:]) == (3, first, (second, third))
    assert list(outcomes) == [first, second, third]
    assert (outcomes.succeeded, outcomes.failed, outcomes.skipped) == (
        (first,),
        (second,),
        (third,),
    )
    assert outcomes.errors == {"b": error}
    with pytest.raises(ExceptionGroup, match="1 failure"):
        outcomes.results()
