"""A child for each of many items: in order, so many at a time, and what becomes of the rest."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

import pytest

from bluestreak_core import (
    Abort,
    Bluestreak,
    ChildFailed,
    Context,
    EndedBy,
    HandlerNotRegistered,
    InvalidArgument,
    InvalidId,
    Status,
    Unsupported,
    UsedInStep,
    WorkflowAborted,
)
from bluestreak_core.testing import Environment
from tests.engine.arrange import Bare, Fleet, Gate, aborted_by, listed, on_memory, workflow_of

DAY = timedelta(days=1)
SKIPPED = "its parent goes on without it"


async def double(ctx: Context, input: int) -> int:
    return 2 * input


async def judge(ctx: Context, input: Any) -> Any:
    """Wait for ever, abort, or return, as the input says."""
    if input == "last":
        await ctx.sleep("for ever", 1000 * DAY)
    if input == "fail":
        raise Abort("not today")
    return input


async def family(fleet: Fleet, *, park_after: Any = DAY, **handlers: Any) -> Bluestreak:
    bluestreak = await fleet.engine(
        timeout_interval=DAY, poll_interval=DAY, max_failures=3, park_after=park_after
    )
    for name, handler in {"double": double, "judge": judge, **handlers}.items():
        bluestreak.register_handler(name, handler)
    return bluestreak


async def statuses(bluestreak: Bluestreak) -> dict[str, Status]:
    children = [found async for found in bluestreak.list(parent="w")]
    return {found.workflow_id.removeprefix("w/"): found.status for found in children}


# Results ------------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("park_after", [0, DAY], ids=["parked", "in memory"])
async def test_each_item_is_a_child_and_results_come_in_order(
    fleet: Fleet, park_after: Any
) -> None:
    async def handle(ctx: Context, input: list[int]) -> list[int]:
        return await ctx.map_children("double", double, input, limit=4)

    bluestreak = await family(fleet, park_after=park_after, h=handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h", list(range(12)))
        assert await bluestreak.wait("w") == [2 * number for number in range(12)]
    ids = {f"w/double/{number}" for number in range(12)}
    assert set(await listed(bluestreak.list(parent="w"))) == ids
    step = await bluestreak.find_step("w", "double/7")
    assert step is not None
    assert step.output == 14
    assert not (await workflow_of(bluestreak)).unsettled


@pytest.mark.asyncio
async def test_children_have_keys_scopes_and_generations(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: list[str]) -> Any:
        found = await ctx.scope("s").map_children("m", "judge", input, key=str)
        return found if len(found) == 1 else await ctx.restart(input[:1])

    bluestreak = await family(fleet, h=handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h", ["a", "b"])
        assert await bluestreak.wait("w") == ["a"]
    assert set(await statuses(bluestreak)) == {"s/m/a", "s/m/b", "s/m/a#1"}


@pytest.mark.asyncio
async def test_a_parked_parent_waits_for_so_many_children_only(fleet: Fleet) -> None:
    gate = Gate()

    async def handle(ctx: Context, input: None) -> int:
        return len(await ctx.map_children("m", gate.handle, [None] * 10, limit=3))

    bluestreak = await family(fleet, park_after=0, h=handle, gate=gate.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
        names = tuple(f"child/w/m/{number}" for number in range(3))
        assert (await workflow_of(bluestreak)).waiting_for == names
        assert len(await statuses(bluestreak)) == 3
        gate.go_on.set()
        assert await bluestreak.wait("w") == 10


def test_many_items_take_a_task_for_each_of_the_limit_only() -> None:
    async def count_tasks(ctx: Context, input: int) -> None:
        counts.append(len(await ctx.step("count", names)))

    async def names() -> list[str]:
        return [task.get_name() for task in asyncio.all_tasks() if waits(task)]

    def waits(task: asyncio.Task[Any]) -> bool:
        return "FanOut" in repr(task.get_coro())

    async def handle(ctx: Context, input: None) -> int:
        return len(await ctx.map_children("m", "count", range(300), limit=5))

    counts: list[int] = []
    with Environment(turns=1_000_000, park_after=DAY) as env:
        env.register_handler("count", count_tasks)
        assert env.run(handle).result == 300
    assert (len(counts), max(counts)) == (300, 5)


# Failures -----------------------------------------------------------------------------------------


def reports(seen: list[list[str]]) -> Any:
    """A handler that notes in each run what its children have failed with."""

    async def handle(ctx: Context, input: list[str]) -> str:
        try:
            await ctx.map_children("m", "judge", input, limit=3)
        except ExceptionGroup as group:
            seen.append([group.message, *map(str, group.exceptions)])
        await ctx.sleep("replay", 2 * DAY)
        return "done"

    return handle


@pytest.mark.parametrize("park_after", [0, DAY], ids=["parked", "in memory"])
def test_the_first_failure_cancels_the_others_and_is_raised_in_each_run(park_after: Any) -> None:
    seen: list[list[str]] = []
    with Environment(park_after=park_after) as env:
        env.register_handler("judge", judge)
        outcome = env.run(reports(seen), ["last", "fail", "last", "last", "last"])
        assert outcome.result == "done"
        what = "workflow 'workflow': child 'workflow/m/1' of 'm/1' was aborted: "
        error = "bluestreak_core.errors.Abort: not today"
        assert seen == [["1 failure in map_children 'm'", what + error]] * len(seen)
        assert len(seen) >= 2
        for number in (0, 2):
            child = env.outcome(f"workflow/m/{number}")
            assert (child.status, child.workflow.reason) == (Status.CANCELLED, SKIPPED)
        assert env.call(env.bluestreak.find_workflow("workflow/m/4")) is None
        assert len(outcome.workflow.failed_steps) == 1


def test_a_failure_that_nobody_catches_aborts_the_parent() -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.map_children("m", "judge", ["a", "fail"])

    with Environment() as env:
        env.register_handler("judge", judge)
        outcome = env.run(handle)
    assert (outcome.status, outcome.workflow.failures) == (Status.ABORTED, 1)


def test_a_parent_that_is_retried_runs_what_it_had_cancelled() -> None:
    async def mend(ctx: Context, input: str) -> str:
        if input == "fail" and not mended:
            raise Abort("not today")
        await ctx.sleep("work", 60)
        return input

    async def handle(ctx: Context, input: None) -> list[str]:
        return await ctx.map_children("m", mend, ["a", "fail", "b"])

    mended: list[None] = []
    with Environment() as env:
        env.register_handler("mend", mend)
        assert env.run(handle).status is Status.ABORTED
        assert env.outcome("workflow/m/0").workflow.reason == SKIPPED
        mended.append(None)
        env.call(env.bluestreak.retry("workflow/m/1"))
        env.call(env.bluestreak.retry("workflow"))
        assert env.wait("workflow").result == ["a", "fail", "b"]


def tolerant(runs: list[None], **options: Any) -> Any:
    """A handler that returns what has become of its children, after a replay."""

    async def handle(ctx: Context, input: list[str]) -> Any:
        runs.append(None)
        outcomes = await ctx.map_children("m", "judge", input, **options)
        await ctx.sleep("replay", 2 * DAY)
        errors = {key: error.message for key, error in outcomes.errors.items()}
        found = [outcome.status.value for outcome in outcomes]
        raised = [(type(e).__name__, str(e)[-30:]) for e in outcomes.exceptions.values()]
        return [outcomes.ended_by.value, found, errors, raised]

    return handle


@pytest.mark.parametrize("park_after", [0, DAY], ids=["parked", "in memory"])
def test_tolerated_failures_are_not_listed_with_the_workflow(park_after: Any) -> None:
    runs: list[None] = []
    with Environment(park_after=park_after) as env:
        env.register_handler("judge", judge)
        outcome = env.run(tolerant(runs, tolerate=0.5), ["a", "fail", "b", "fail"])
        assert outcome.workflow.failed_steps == ()
    ended_by, found, errors, raised = outcome.result
    assert (ended_by, found) == (EndedBy.ALL, ["succeeded", "failed", "succeeded", "failed"])
    assert errors == {"1": "not today", "3": "not today"}
    assert [kind for kind, _ in raised] == ["ChildFailed"] * 2
    assert len(runs) >= 2


def test_a_child_that_was_cancelled_has_failed_with_the_reason() -> None:
    async def handle(ctx: Context, input: None) -> list[Any]:
        outcomes = await ctx.map_children("m", "judge", ["last"], tolerate=1)
        [error] = outcomes.exceptions.values()
        assert isinstance(error, ChildFailed)
        await ctx.sleep("replay", 2 * DAY)
        return [error.status, error.reason, error.child_id, error.step_id]

    with Environment() as env:
        env.register_handler("judge", judge)
        env.register_handler("h", handle)
        env.start("w", "h")
        env.advance(1)
        env.call(env.bluestreak.cancel("w/m/0", "out of paper"))
        assert env.wait("w").result == ["cancelled", "out of paper", "w/m/0", "m/0"]


@pytest.mark.parametrize(
    ("options", "items", "ended_by"),
    [
        ({"enough": 1}, ["last", "a", "last", "last"], EndedBy.ENOUGH),
        ({"tolerate": 0}, ["last", "fail", "last", "last"], EndedBy.FAILURES),
    ],
    ids=["enough", "too many failures"],
)
def test_what_is_skipped_is_cancelled(options: Any, items: list[str], ended_by: EndedBy) -> None:
    runs: list[None] = []
    with Environment() as env:
        env.register_handler("judge", judge)
        outcome = env.run(tolerant(runs, limit=3, on_parent_end="abandon", **options), items)
        found = {number: env.outcome(f"workflow/m/{number}").workflow.reason for number in (0, 2)}
        assert env.call(env.bluestreak.find_workflow("workflow/m/3")) is None
    assert outcome.result[0] == ended_by
    assert [outcome.result[1][place] for place in (0, 2, 3)] == ["skipped"] * 3
    assert found == {0: SKIPPED, 2: SKIPPED}


def test_another_workflow_of_the_id_of_a_skipped_child_is_left_alone() -> None:
    runs: list[None] = []
    with Environment() as env:
        env.register_handler("judge", judge)
        env.start("workflow/m/1", "judge", "last")
        env.run(tolerant(runs, enough=1, limit=1), ["a", "last"])
        assert env.outcome("workflow/m/1").status is Status.IDLE


@pytest.mark.asyncio
async def test_skipped_children_are_cancelled_on_each_store(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> list[str]:
        outcomes = await ctx.map_children("m", judge, ["last", "a", "fail"], enough=1)
        return [outcome.status.value for outcome in outcomes][:2]

    bluestreak = await family(fleet, h=handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == ["skipped", "succeeded"]
        assert (await statuses(bluestreak))["m/0"] is Status.CANCELLED
        assert (await workflow_of(bluestreak, "w/m/0")).reason == SKIPPED


@pytest.mark.asyncio
async def test_the_first_failure_is_raised_on_each_store(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.map_children("m", judge, ["last", "fail"])

    bluestreak = await family(fleet, h=handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted):
            await bluestreak.wait("w")
        assert await statuses(bluestreak) == {"m/0": Status.CANCELLED, "m/1": Status.ABORTED}
        assert (await workflow_of(bluestreak, "w/m/0")).reason == SKIPPED


# Mistakes -----------------------------------------------------------------------------------------


async def unknown(ctx: Context, input: Any) -> None: ...


BAD: Mapping[str, tuple[type[Exception], tuple[Any, ...], dict[str, Any]]] = {
    "no id": (InvalidId, ("", "judge", [1]), {}),
    "no handler": (InvalidId, ("m", None, [1]), {}),
    "an unknown function": (HandlerNotRegistered, ("m", unknown, []), {}),
    "no items": (InvalidArgument, ("m", "judge", 7), {}),
    "a set": (InvalidArgument, ("m", "judge", {1}), {}),
    "no limit": (InvalidArgument, ("m", "judge", [1]), {"limit": 0}),
    "the same key twice": (InvalidArgument, ("m", "judge", ["a", "a"]), {"key": str}),
    "a key that is no id": (InvalidId, ("m", "judge", ["", "a"]), {"key": str}),
    "an id that gets too long": (InvalidId, ("m" * 509, "judge", [1]), {}),
    "no share": (InvalidArgument, ("m", "judge", [1]), {"tolerate": 1.5}),
    "no number": (InvalidArgument, ("m", "judge", [1]), {"enough": 0}),
    "no policy": (InvalidArgument, ("m", "judge", []), {"on_parent_end": "leave"}),
}


@pytest.mark.parametrize(("error", "args", "options"), BAD.values(), ids=BAD)
def test_a_mistake_aborts_the_workflow_before_a_child_begins(
    error: type[Exception], args: Any, options: Any
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        with pytest.raises(error) as info:
            await ctx.map_children(*args, **options)
        raise info.value

    with Environment() as env:
        env.register_handler("judge", judge)
        outcome = env.run(handle)
        assert outcome.status is Status.ABORTED
        assert outcome.workflow.error is not None
        assert outcome.workflow.error.type.endswith(error.__name__)
        assert outcome.workflow.failures == 1
        assert not outcome.workflow.unsettled


def test_a_step_maps_nothing_to_children() -> None:
    async def handle(ctx: Context, input: None) -> None:
        async def step() -> None:
            await ctx.map_children("m", judge, ["a"])

        await ctx.step("step", step)

    with Environment() as env:
        env.register_handler("judge", judge)
        outcome = env.run(handle)
    assert outcome.workflow.error is not None
    assert outcome.workflow.error.type.endswith(UsedInStep.__name__)


@pytest.mark.asyncio
@on_memory
async def test_a_store_that_knows_no_children_is_refused(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.map_children("m", "judge", [])

    store: Any = Bare(fleet.store)
    bluestreak = await fleet.engine(store, timeout_interval=DAY, poll_interval=DAY)
    bluestreak.register_handler("h", handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        aborted = await aborted_by(bluestreak, Unsupported)
    assert "does not know the children of a workflow" in aborted.error_message
