"""What becomes of families, wherever a worker dies meanwhile."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from bluestreak_core import Abort, ChildFailed, Context, Status
from bluestreak_core.testing import Environment, Sweep, crash_everywhere

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unmeasured")]

DAY = timedelta(days=1)
GONE = "its parent has ended"


def calls_of(sweep: Sweep) -> set[str]:
    """The store calls at which it has crashed the worker."""
    return {point.call for point in sweep.crashes}


def statuses_of(sweep: Sweep) -> dict[str, Status]:
    return {workflow_id: outcome.status for workflow_id, outcome in sweep.outcomes.items()}


def assert_settled(sweep: Sweep) -> None:
    """Everybody who has to know an end has heard of it."""
    assert [name for name, end in sweep.outcomes.items() if end.workflow.unsettled] == []


async def ship(ctx: Context, input: Any) -> str:
    await ctx.step("pack", str, input)
    await ctx.sleep("on the road", 60)
    return await ctx.step("deliver", str, f"shipped {input}")


async def refuse(ctx: Context, input: Any) -> None:
    raise Abort("not today")


async def last(ctx: Context, input: Any) -> None:
    await ctx.sleep("for long", 30 * DAY)


def with_handlers(**handlers: Any) -> Callable[[Callable[[Environment], object]], Any]:
    def decorate(act: Callable[[Environment], object]) -> Callable[[Environment], object]:
        def meanwhile(env: Environment) -> object:
            for name, handler in handlers.items():
                env.register_handler(name, handler)
            return act(env)

        return meanwhile

    return decorate


@with_handlers(ship=ship, refuse=refuse, last=last)
def nothing(_: Environment) -> None:
    """Only the family acts."""


@pytest.mark.parametrize("park_after", [0, 5, DAY], ids=str)
def test_a_parent_gets_the_result_of_its_child(park_after: Any) -> None:
    async def order(ctx: Context, input: None) -> str:
        await ctx.step("charge", str)
        return f"{await ctx.child('ship', 'ship', 'boots')}!"

    sweep = crash_everywhere(order, meanwhile=nothing, park_after=park_after)
    assert sweep.outcome.result == "shipped boots!"
    assert sweep.outcomes["workflow/ship"].workflow.parent is not None
    assert {"create", "adopt", "nudge", "settle", "save_step 'ship'"} <= calls_of(sweep)
    assert ("park_until_message" in calls_of(sweep)) is (park_after != DAY)
    assert_settled(sweep)


@pytest.mark.parametrize("park_after", [0, 5], ids=str)
def test_a_parent_gets_the_results_of_several_children(park_after: int) -> None:
    async def order(ctx: Context, input: None) -> list[str]:
        first = await ctx.start_child("first", "ship", 1, workflow_id="shipment-1")
        both = await asyncio.gather(
            ctx.child("second", "ship", 2), first.result(), ctx.sleep("nap", 7)
        )
        return [str(result) for result in both]

    sweep = crash_everywhere(order, meanwhile=nothing, park_after=park_after)
    assert sweep.outcome.result == ["shipped 2", "shipped 1", "None"]
    assert set(sweep.outcomes) == {"workflow", "workflow/second", "shipment-1"}
    assert {"save_step 'first'", "save_step 'first/result'"} <= calls_of(sweep)
    assert_settled(sweep)


def test_the_failure_of_a_child_is_recorded_once() -> None:
    async def order(ctx: Context, input: None) -> str:
        try:
            await ctx.child("ship", "refuse")
        except ChildFailed as failed:
            await ctx.step("note", str, failed.error_message)
        return str(await ctx.child("again", "ship", "by mail"))

    sweep = crash_everywhere(order, meanwhile=nothing)
    assert sweep.outcome.result == "shipped by mail"
    assert sweep.outcome.steps["note"] == "not today"
    assert statuses_of(sweep)["workflow/ship"] is Status.ABORTED
    assert_settled(sweep)


@pytest.mark.parametrize("end", ["return", "raise", "cancel"])
def test_no_child_outlives_its_parent(end: str) -> None:
    async def middle(ctx: Context, input: None) -> None:
        await ctx.start_child("leaf", "last")
        await ctx.child("other leaf", "last")

    async def top(ctx: Context, input: None) -> str:
        await ctx.start_child("child", "middle")
        await ctx.start_child("another", "last")
        await ctx.start_child("left", "ship", "left", on_parent_end="abandon")
        await ctx.sleep("nap", 1000 if end == "cancel" else 10)
        if end == "raise":
            raise Abort
        return "done"

    @with_handlers(middle=middle, last=last, ship=ship)
    def meanwhile(env: Environment) -> None:
        if end == "cancel":
            env.advance(300)
            env.call(env.bluestreak.cancel("workflow", "enough"))

    sweep = crash_everywhere(top, meanwhile=meanwhile)
    statuses = statuses_of(sweep)
    assert statuses.pop("workflow/left") is Status.FINISHED
    assert (
        statuses.pop("workflow")
        is {
            "return": Status.FINISHED,
            "raise": Status.ABORTED,
            "cancel": Status.CANCELLED,
        }[end]
    )
    assert set(statuses.values()) == {Status.CANCELLED}
    assert {sweep.outcomes[name].workflow.reason for name in statuses} == {GONE}
    assert len(statuses) == 4
    assert_settled(sweep)


def test_a_parent_that_is_retried_gets_its_children_back() -> None:
    async def order(ctx: Context, input: None) -> list[str]:
        handle = await ctx.start_child("first", "ship", 1)
        return [await ctx.child("second", "ship", 2), await handle.result()]

    @with_handlers(ship=ship)
    def meanwhile(env: Environment) -> None:
        env.advance(40)
        env.call(env.bluestreak.cancel("workflow"))
        env.advance(40)
        env.call(env.bluestreak.retry("workflow"))

    sweep = crash_everywhere(order, meanwhile=meanwhile)
    assert sweep.outcome.result == ["shipped 2", "shipped 1"]
    assert set(statuses_of(sweep).values()) == {Status.FINISHED}
    assert_settled(sweep)


def test_a_parent_waits_on_while_its_child_is_paused_and_retried() -> None:
    async def order(ctx: Context, input: None) -> str:
        return str(await ctx.child("ship", "ship", "boots"))

    @with_handlers(ship=ship)
    def meanwhile(env: Environment) -> None:
        env.advance(50)
        env.call(env.bluestreak.pause("workflow"))
        env.call(env.bluestreak.cancel("workflow/ship"))
        env.advance(50)
        env.call(env.bluestreak.retry("workflow/ship"))
        env.call(env.bluestreak.resume("workflow"))

    sweep = crash_everywhere(order, meanwhile=meanwhile)
    assert sweep.outcome.result == "shipped boots"
    assert_settled(sweep)


def test_a_deadline_ends_the_whole_family() -> None:
    async def order(ctx: Context, input: None) -> None:
        await ctx.child("last", "last")

    sweep = crash_everywhere(order, meanwhile=nothing, policy={"deadline": 300})
    assert statuses_of(sweep) == {"workflow": Status.ABORTED, "workflow/last": Status.CANCELLED}
    assert sweep.outcomes["workflow/last"].workflow.reason == GONE
    assert_settled(sweep)


# Many children ------------------------------------------------------------------------------------


async def judge(ctx: Context, input: str) -> str:
    """Return, abort, or go on for long, after a while."""
    if input == "last":
        await ctx.sleep("for long", 30 * DAY)
    await ctx.sleep("think", len(input))
    if input.startswith("fail"):
        raise Abort("not today")
    return input


@with_handlers(judge=judge)
def many(_: Environment) -> None:
    """Only the family acts."""


@pytest.mark.parametrize("park_after", [0, 5, DAY], ids=str)
def test_each_item_has_one_child_and_its_result(park_after: Any) -> None:
    async def order(ctx: Context, input: None) -> list[str]:
        return await ctx.map_children("m", "judge", ["abc", "a", "ab"], limit=2, key=str)

    sweep = crash_everywhere(order, meanwhile=many, park_after=park_after)
    assert sweep.outcome.result == ["abc", "a", "ab"]
    children = {f"workflow/m/{key}" for key in ("abc", "a", "ab")}
    assert set(sweep.outcomes) == {"workflow"} | children
    assert {"create", "save_step 'm/abc'", "save_step 'm/ab'"} <= calls_of(sweep)
    assert_settled(sweep)


@pytest.mark.parametrize("park_after", [0, DAY], ids=str)
def test_the_first_failure_of_many_cancels_the_others(park_after: Any) -> None:
    async def order(ctx: Context, input: None) -> str:
        try:
            await ctx.map_children("m", "judge", ["last", "fail", "last"])
        except* ChildFailed as group:
            await ctx.step("note", str, [str(error) for error in group.exceptions])
        await ctx.sleep("go on", 100)
        return "done"

    sweep = crash_everywhere(order, meanwhile=many, park_after=park_after)
    assert sweep.outcome.result == "done"
    assert "child 'workflow/m/1' of 'm/1' was aborted" in sweep.outcome.steps["note"]
    statuses = statuses_of(sweep)
    assert statuses.pop("workflow/m/1") is Status.ABORTED
    assert statuses.pop("workflow") is Status.FINISHED
    assert set(statuses.values()) == {Status.CANCELLED}
    assert {sweep.outcomes[name].workflow.reason for name in statuses} == {
        "its parent goes on without it"
    }
    assert {"fail_step", "control"} <= calls_of(sweep)
    assert_settled(sweep)


@pytest.mark.parametrize("park_after", [0, DAY], ids=str)
def test_what_is_skipped_of_many_stays_so(park_after: Any) -> None:
    async def order(ctx: Context, input: None) -> list[Any]:
        outcomes = await ctx.map_children("m", "judge", ["last", "abc", "last"], enough=1)
        await ctx.step("note", str, [found.status.value for found in outcomes])
        await ctx.sleep("go on", 100)
        return [outcomes.ended_by, [found.key for found in outcomes.skipped]]

    sweep = crash_everywhere(order, meanwhile=many, park_after=park_after)
    assert sweep.outcome.result == ["enough", ["0", "2"]]
    assert sweep.outcome.workflow.failed_steps == ()
    statuses = statuses_of(sweep)
    assert statuses["workflow/m/0"] is statuses["workflow/m/2"] is Status.CANCELLED
    assert_settled(sweep)


def test_failures_of_many_that_are_tolerated_are_recorded() -> None:
    async def order(ctx: Context, input: None) -> list[Any]:
        items = ["fail", "abc", "fail-", "a"]
        outcomes = await ctx.map_children("m", "judge", items, limit=2, tolerate=0.5)
        await ctx.sleep("go on", 100)
        failed = [str(error) for error in outcomes.exceptions.values()]
        return [outcomes.ended_by, [found.value for found in outcomes.succeeded], failed]

    sweep = crash_everywhere(order, meanwhile=many)
    ended_by, values, failed = sweep.outcome.result
    assert (ended_by, values, len(failed)) == ("all", ["abc", "a"], 2)
    assert sweep.outcome.workflow.failed_steps == ()
    assert {"save_attempt", "save_step 'm'"} <= calls_of(sweep)
    assert_settled(sweep)
