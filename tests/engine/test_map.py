"""The same step for many items: in order, so many at a time, and none twice."""

from __future__ import annotations

import asyncio
from collections import Counter
from typing import Any

import pytest

from bluestreak_core import (
    Abort,
    Context,
    InvalidArgument,
    InvalidDuration,
    InvalidId,
    Retry,
    Status,
    StepTimeout,
    UsedInTransaction,
    WorkflowAborted,
)
from bluestreak_core.testing import Environment, RecordingStore
from tests.engine.arrange import DAY, Fleet, on_memory
from tests.engine.bad_input import BAD_DURATIONS, BAD_IDS


class Calls:
    """Counts the calls of a step for each item, and how many are under way at most."""

    def __init__(self, fails: Any = ()) -> None:
        self.calls: Counter[Any] = Counter()
        self.most = 0
        self._fails = fails
        self._under_way = 0

    async def double(self, item: int) -> int:
        self.calls[item] += 1
        self._under_way += 1
        self.most = max(self.most, self._under_way)
        try:
            await asyncio.sleep(0)
        finally:
            self._under_way -= 1
        if item in self._fails:
            raise ValueError(f"no {item}")
        return 2 * item


async def _end_with_a_nap(ctx: Context) -> None:
    """A second run from the top."""
    await ctx.sleep("replay", DAY)


@pytest.mark.asyncio
async def test_results_come_in_the_order_of_the_items(fleet: Fleet) -> None:
    async def backwards(item: int) -> int:
        for _ in range(10 - item):
            await asyncio.sleep(0)
        return item

    async def handle(ctx: Context, input: list[int]) -> list[int]:
        return await ctx.map("double", backwards, input, limit=5)

    async with fleet.polling(await fleet.handling(handle)) as bluestreak:
        await bluestreak.start("w", "h", list(range(10)))
        assert await bluestreak.wait("w") == list(range(10))
        step = await bluestreak.find_step("w", "double/7")
        assert step is not None
        assert step.output == 7


@pytest.mark.asyncio
async def test_a_later_run_calls_only_what_is_not_recorded(
    fleet: Fleet, store: RecordingStore
) -> None:
    steps = Calls()
    runs: list[None] = []

    async def call(item: int) -> int:
        if item == 4 and len(runs) == 1:
            raise ConnectionError
        return await steps.double(item)

    async def handle(ctx: Context, input: None) -> list[int]:
        runs.append(None)
        return await ctx.map("double", call, range(6), limit=1)

    bluestreak = await fleet.handling(handle, wait_retry_interval=0)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == [0, 2, 4, 6, 8, 10]
    assert (len(runs), set(steps.calls.values())) == (2, {1})
    assert store.begun["save_step"] == 6


def test_at_most_so_many_calls_are_under_way() -> None:
    async def handle(ctx: Context, limit: int) -> int:
        return len(await ctx.map("double", steps.double, range(20), limit=limit))

    for limit in (1, 3, 20, 1000):
        steps = Calls()
        with Environment() as env:
            assert env.run(handle, limit).result == 20
        assert steps.most == min(limit, 20)


def test_ten_thousand_items_take_a_task_for_each_of_the_limit_only() -> None:
    async def count_tasks(item: int) -> None:
        counts.append(len(asyncio.all_tasks()))

    async def handle(ctx: Context, input: None) -> None:
        counts.append(len(asyncio.all_tasks()))
        await ctx.map("count", count_tasks, range(10_000), limit=30)

    counts: list[int] = []
    with Environment(turns=1_000_000) as env:
        env.run(handle)
    assert len(counts) == 10_001
    assert max(counts) - counts[0] <= 31


def test_recorded_items_are_returned_without_a_task() -> None:
    async def handle(ctx: Context, input: None) -> int:
        runs.append(None)
        before = asyncio.all_tasks()
        await ctx.map("double", steps.double, range(50))
        if len(runs) == 2:
            tasks.append(asyncio.all_tasks() - before)
        await _end_with_a_nap(ctx)
        return len(runs)

    runs: list[None] = []
    tasks: list[Any] = []
    steps = Calls()
    with Environment() as env:
        assert env.run(handle).result == 2
    assert tasks == [set()]
    assert set(steps.calls.values()) == {1}


def test_no_items_end_at_once() -> None:
    async def handle(ctx: Context, input: None) -> list[int]:
        return await ctx.map("double", Calls().double, [])

    with Environment() as env:
        outcome = env.run(handle)
    assert (outcome.result, outcome.steps) == ([], {})


def test_items_have_the_ids_of_their_keys() -> None:
    async def handle(ctx: Context, input: None) -> list[str]:
        return await ctx.map("up", str.upper, iter(["ada", "bob"]), key=lambda name: f"n-{name}")

    with Environment() as env:
        outcome = env.run(handle)
    assert outcome.result == ["ADA", "BOB"]
    assert outcome.steps == {"up/n-ada": "ADA", "up/n-bob": "BOB"}


def test_items_with_keys_may_come_and_go_between_two_runs() -> None:
    async def handle(ctx: Context, input: None) -> list[int]:
        items = [1, 2, 3] if await first_run(ctx) else [3, 4, 1]
        doubled = await ctx.map("double", steps.double, items, key=str)
        await _end_with_a_nap(ctx)
        return doubled

    async def first_run(ctx: Context) -> bool:
        runs.append(None)
        return len(runs) == 1

    runs: list[None] = []
    steps = Calls()
    with Environment() as env:
        assert env.run(handle).result == [6, 8, 2]
    assert steps.calls == {1: 1, 2: 1, 3: 1, 4: 1}


# Failures -----------------------------------------------------------------------------------------


def test_the_first_failure_cancels_the_others_and_is_raised_in_a_group() -> None:
    ended: list[int] = []

    async def call(item: int) -> int:
        if item == 2:
            await asyncio.sleep(1)
            raise ValueError("no")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            await asyncio.sleep(1)
            ended.append(item)
            raise
        return item

    async def handle(ctx: Context, input: None) -> list[str]:
        try:
            await ctx.map("call", call, range(10), limit=4)
        except ExceptionGroup as group:
            seen.append(group)
            return [f"{group.message}: {error}" for error in group.exceptions] + [str(ended)]
        raise AssertionError

    seen: list[Any] = []
    with Environment() as env:
        start = env.now
        assert env.run(handle).result == ["1 failure in map 'call': no", "[0, 1, 3]"]
        assert (env.now - start).total_seconds() == 2
    assert len(seen[0].exceptions) == 1


def test_failures_of_one_moment_are_raised_together_in_order() -> None:
    async def handle(ctx: Context, input: None) -> list[str]:
        try:
            await ctx.map("double", Calls(fails=[1, 3]).double, range(5))
        except ExceptionGroup as group:
            return [str(error) for error in group.exceptions]
        raise AssertionError

    with Environment() as env:
        assert env.run(handle).result == ["no 1", "no 3"]


def test_a_failure_that_nobody_catches_fails_the_workflow_and_keeps_what_is_recorded() -> None:
    steps = Calls(fails=[3])

    async def handle(ctx: Context, input: None) -> None:
        await ctx.map("double", steps.double, range(6), limit=1)

    with Environment(max_failures=2) as env:
        outcome = env.run(handle)
    assert outcome.status is Status.ABORTED
    assert steps.calls == {0: 1, 1: 1, 2: 1, 3: 3}


def test_a_given_up_item_aborts_the_workflow_without_another_try() -> None:
    steps = Calls(fails=[1])

    async def handle(ctx: Context, input: None) -> None:
        await ctx.map("double", steps.double, range(3), retry=Retry(max_attempts=2))

    with Environment() as env:
        outcome = env.run(handle)
    assert (outcome.status, outcome.workflow.failures) == (Status.ABORTED, 1)
    assert steps.calls[1] == 2
    assert [failed.step_id for failed in outcome.workflow.failed_steps] == ["double/1"]


def test_a_given_up_item_is_raised_in_each_later_run_before_anything_runs() -> None:
    steps = Calls(fails=[1])

    async def handle(ctx: Context, input: None) -> list[str]:
        try:
            await ctx.map("double", steps.double, range(9), limit=1, retry=Retry(max_attempts=1))
        except ExceptionGroup as group:
            seen.append([str(error) for error in group.exceptions])
        await _end_with_a_nap(ctx)
        return seen[-1]

    seen: list[list[str]] = []
    with Environment() as env:
        assert env.run(handle).result == seen[0]
    assert len(seen) == 2
    assert steps.calls == {0: 1, 1: 1}


def test_an_item_is_tried_again_by_its_policy_and_has_a_time_limit() -> None:
    async def call(item: int) -> int:
        calls.append(item)
        if len(calls) < 3:
            await asyncio.sleep(60)
        return item

    async def handle(ctx: Context, input: None) -> list[int]:
        return await ctx.map("call", call, [7], retry=Retry(retry_on=StepTimeout), timeout=5)

    calls: list[int] = []
    with Environment() as env:
        assert env.run(handle).result == [7]
    assert calls == [7, 7, 7]


def test_an_abort_ends_the_workflow_at_once() -> None:
    async def call(item: int) -> None:
        if item == 1:
            raise Abort("enough")
        await asyncio.sleep(60)

    async def handle(ctx: Context, input: dict[str, Any]) -> None:
        await ctx.map("call", call, range(3), **input)

    for options in ({}, {"tolerate": 1.0}, {"enough": 1}):
        with Environment() as env:
            start = env.now
            outcome = env.run(handle, options)
            assert (outcome.status, outcome.workflow.failures) == (Status.ABORTED, 1)
            assert env.now == start
            assert outcome.steps == {}


def test_a_map_may_be_parked_while_its_items_are_paused() -> None:
    steps = Calls(fails=[0, 1])

    async def handle(ctx: Context, input: None) -> None:
        await ctx.map("call", steps.double, range(3), retry=Retry(initial=DAY, max_attempts=2))

    with Environment() as env:
        env.register_handler("h", handle)
        env.start("workflow", "h")
        env.advance(3600)
        outcome = env.outcome("workflow")
        assert (outcome.status, env.runs) == (Status.IDLE, 0)
        env.advance(2 * DAY)
        assert env.outcome("workflow").status is Status.ABORTED


def test_a_map_whose_workflow_is_cancelled_ends_its_calls() -> None:
    cancelled: list[int] = []

    async def call(item: int) -> None:
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            cancelled.append(item)
            raise

    async def handle(ctx: Context, input: None) -> None:
        await ctx.map("call", call, range(5), limit=2)

    with Environment() as env:
        env.register_handler("h", handle)
        env.start("w", "h")
        env.advance(5)
        env.call(env.bluestreak.cancel("w"))
        env.advance(5)
        assert env.outcome("w").status is Status.CANCELLED
        assert (cancelled, env.runs) == ([0, 1], 0)


# Mistakes -----------------------------------------------------------------------------------------


def mistake(handler: Any, error: type[Exception], match: str, **settings: Any) -> None:
    """A mistake aborts the workflow on the first run, and nothing has run."""
    with Environment(**settings) as env:
        outcome = env.run(handler)
        with pytest.raises(WorkflowAborted, match=match) as aborted:
            env.call(env.bluestreak.wait("workflow"))
    assert aborted.value.error_type.rpartition(".")[2] == error.__name__
    assert (outcome.calls, outcome.steps, outcome.workflow.failures) == ([], {}, 1)


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"limit": 0}, "limit of map 'm' 0"),
        ({"limit": -1}, "limit of map 'm' -1"),
        ({"limit": True}, "limit of map 'm' True"),
        ({"limit": 1.5}, "limit of map 'm' 1.5"),
        ({"limit": None}, "limit of map 'm' None"),
        ({"key": 3}, "key of map 'm' 3"),
        ({"key": lambda _: "same"}, "key of map 'm' 'same': two of its items have it"),
        ({"retry": 3}, "retry of step 'm' 3"),
        ({"tolerate": -1}, "tolerate of map 'm' -1"),
        ({"tolerate": 1.5}, "tolerate of map 'm' 1.5"),
        ({"tolerate": float("nan")}, "tolerate of map 'm' nan"),
        ({"tolerate": True}, "tolerate of map 'm' True"),
        ({"tolerate": "1"}, "tolerate of map 'm' '1'"),
        ({"enough": 0}, "enough of map 'm' 0"),
        ({"enough": 0.5}, "enough of map 'm' 0.5"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused_by_name(
    options: dict[str, Any], named: str
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.map("m", Calls().double, range(3), **options)

    mistake(handle, InvalidArgument, named)


@pytest.mark.parametrize("items", [3, None, "abc", b"abc", {1, 2}, frozenset({1})])
def test_items_that_have_no_order_are_refused(items: Any) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.map("m", Calls().double, items)

    mistake(handle, InvalidArgument, "items of map 'm'")


@pytest.mark.parametrize("timeout", [span for span in BAD_DURATIONS.values() if span is not None])
def test_a_bad_timeout_is_refused(timeout: Any) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.map("m", Calls().double, range(3), timeout=timeout)

    mistake(handle, InvalidDuration, "timeout of step 'm'")


@pytest.mark.parametrize("bad_id", BAD_IDS.values(), ids=BAD_IDS)
def test_a_bad_id_or_key_is_refused(bad_id: Any) -> None:
    async def by_id(ctx: Context, input: None) -> None:
        await ctx.map(bad_id, Calls().double, range(3))

    async def by_key(ctx: Context, input: None) -> None:
        await ctx.map("m", Calls().double, range(1), key=lambda _: bad_id)

    mistake(by_id, InvalidId, "step id")
    mistake(by_key, InvalidId, "step id")


def test_a_call_in_place_of_a_function_is_refused() -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.map("m", Calls().double(1), [1])  # type: ignore[call-overload]

    mistake(handle, InvalidArgument, "map 'm'.*not ctx.map")


@pytest.mark.asyncio
@on_memory
async def test_a_map_in_a_transaction_is_refused(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> None:
        async def write(session: Any) -> None:
            await ctx.map("m", Calls().double, range(3))

        await ctx.transaction("t", write)

    async with fleet.polling(await fleet.handling(handle)) as bluestreak:
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match=UsedInTransaction.__name__):
            await bluestreak.wait("w")


def test_a_map_that_is_not_awaited_is_noticed() -> None:
    async def handle(ctx: Context, input: None) -> None:
        ctx.map("m", Calls().double, range(3))  # type: ignore[unused-coroutine]

    with Environment() as env:
        assert "NotAwaited" in repr(env.run(handle).errors[0])


def test_an_id_is_used_once() -> None:
    async def twice(ctx: Context, input: None) -> None:
        await ctx.map("m", Calls().double, [])
        await ctx.map("m", Calls().double, [])

    async def beside_a_step(ctx: Context, input: None) -> None:
        await ctx.map("m", Calls().double, range(2))
        await ctx.step("m/1", str)

    with Environment() as env:
        for handler in (twice, beside_a_step):
            outcome = env.run(handler, workflow_id=handler.__name__)
            assert "DuplicateStep" in repr(outcome.errors[0])
