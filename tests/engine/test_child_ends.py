"""What the end of a workflow means to its children and its parent, whoever has died meanwhile."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from typing_extensions import override

from bluestreak_core import (
    Abort,
    Bluestreak,
    ChildFailed,
    Claim,
    Client,
    Context,
    CorruptDocument,
    Parent,
    Status,
    StoreUnavailable,
    Workflow,
)
from bluestreak_core.machine import Transition
from bluestreak_core.model import ClaimRequest, NewWorkflow, OnParentEnd
from bluestreak_core.run.settling import AT_ONCE, name_of_child, settle_left
from bluestreak_core.store import StoreWrapper
from bluestreak_core.testing import RecordingStore
from tests.engine.arrange import (
    Fleet,
    Gate,
    end_at_once,
    listed,
    on_memory,
    transaction,
    workflow_of,
)

DAY = timedelta(days=1)
GONE = "its parent has ended"


async def wait_for_nothing(ctx: Context, input: Any) -> None:
    await ctx.receive("get", "nothing")


async def start_two(ctx: Context, input: Any) -> None:
    """With grandchildren; one child is to go on."""
    await ctx.start_child("cancel", "middle")
    await ctx.start_child("abandon", "middle", on_parent_end="abandon")
    await ctx.receive("get", "go on")
    if input == "abort":
        raise Abort


async def middle(ctx: Context, input: None) -> None:
    await ctx.child("leaf", "leaf")


async def family(fleet: Fleet, **handlers: Any) -> Bluestreak:
    bluestreak = await fleet.engine(
        timeout_interval=DAY, poll_interval=DAY, max_failures=3, park_after=0
    )
    known = {"top": start_two, "middle": middle, "leaf": wait_for_nothing, "end": end_at_once}
    for name, handler in (known | handlers).items():
        bluestreak.register_handler(name, handler)
    return bluestreak


async def claim_of(store: RecordingStore, workflow_id: str) -> Claim:
    """A claim of a worker that will die."""
    request = ClaimRequest(worker="dead", now=store.clock.now(), lease=DAY, limit=10)
    claims = await store.claim(request)
    (claim,) = [claim for claim in claims if claim.workflow_id == workflow_id]
    return claim


def child_of(parent: Workflow, workflow_id: str, handler_id: str, **options: Any) -> NewWorkflow:
    return NewWorkflow(
        workflow_id=workflow_id,
        handler_id=handler_id,
        input=None,
        created_at=parent.timeout_at,
        parent=Parent(workflow_id=parent.workflow_id, created_at=parent.created_at, **options),
    )


async def state_of(client: Client, workflow_id: str) -> tuple[Status, str | None, bool]:
    workflow = await workflow_of(client, workflow_id)
    return workflow.status, workflow.reason, workflow.unsettled


# The children of a workflow that ends -------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("end", ["finish", "abort", "cancel"])
async def test_children_end_with_their_parent_unless_they_are_to_go_on(
    fleet: Fleet, end: str
) -> None:
    bluestreak = await family(fleet)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "top", end)
        await fleet.store.until_returned("park_until_message", 5)
        if end == "cancel":
            assert await bluestreak.cancel("w")
        else:
            await bluestreak.send("w", "go on")
            await fleet.store.until_returned("settle", 3)
    if end != "cancel":
        status = Status.ABORTED if end == "abort" else Status.FINISHED
        assert (await workflow_of(bluestreak, "w")).status is status
    for child_id in ("w/cancel", "w/cancel/leaf"):
        assert await state_of(bluestreak, child_id) == (Status.CANCELLED, GONE, False)
    for child_id in ("w/abandon", "w/abandon/leaf"):
        assert await state_of(bluestreak, child_id) == (Status.IDLE, None, True)
    assert not (await workflow_of(bluestreak, "w")).unsettled


@pytest.mark.asyncio
async def test_more_children_are_cancelled_than_are_looked_for_at_once(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await asyncio.gather(*(ctx.start_child(f"c{n}", "leaf") for n in range(250)))

    bluestreak = await family(fleet, many=handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "many")
        await bluestreak.wait("w")
        await fleet.store.until_returned("settle", 251)
    assert len(await listed(bluestreak.list(parent="w", status="cancelled"))) == 250
    assert await fleet.store.find_unsettled(10) == []


@pytest.mark.asyncio
@on_memory
async def test_a_family_of_many_generations_ends_as_one(fleet: Fleet) -> None:
    """Deeper than Python lets calls be nested."""
    bluestreak = await family(fleet)
    await bluestreak.start("c0", "end")
    parent = await workflow_of(bluestreak, "c0")
    for number in range(1, 1500):
        new = child_of(parent, f"c{number}", "end")
        await fleet.store.create(new)
        parent = await workflow_of(bluestreak, f"c{number}")
    await fleet.store.adopt(await claim_of(fleet.store, "c0"))
    assert await bluestreak.cancel("c0")
    assert await state_of(bluestreak, "c1499") == (Status.CANCELLED, GONE, False)


@pytest.mark.asyncio
async def test_a_child_of_an_ended_parent_never_begins(fleet: Fleet) -> None:
    """A dead worker created it after somebody had looked for the children."""
    calls: list[str] = []

    async def handle(ctx: Context, input: None) -> None:
        calls.append(ctx.workflow_id)

    bluestreak = await family(fleet, h=handle)
    await bluestreak.start("w", "end")
    claim = await claim_of(fleet.store, "w")
    await fleet.store.adopt(claim)
    await bluestreak.cancel("w")
    parent = claim.workflow
    gone = replace(parent, workflow_id="gone")
    former = replace(parent, created_at=fleet.clock.now() - DAY)
    await fleet.store.create(child_of(parent, "late", "h"))
    await fleet.store.create(child_of(gone, "of nobody", "h"))
    await fleet.store.create(child_of(former, "of a former one", "h"))
    await fleet.store.create(child_of(parent, "left", "h", on_end=OnParentEnd.ABANDON))
    fleet.clock.advance(DAY)
    async with fleet.polling(bluestreak):
        await bluestreak.wait("left")
        await fleet.store.until_returned("settle", 5)
    for child_id in ("late", "of nobody", "of a former one"):
        assert await state_of(bluestreak, child_id) == (Status.CANCELLED, GONE, False)
    assert calls == ["left"]


@pytest.mark.asyncio
async def test_a_child_of_an_ended_parent_is_not_run_again_but_its_fork_is(fleet: Fleet) -> None:
    bluestreak = await family(fleet)
    await bluestreak.start("w", "end")
    claim = await claim_of(fleet.store, "w")
    await fleet.store.adopt(claim)
    await fleet.store.create(child_of(claim.workflow, "c", "end"))
    await bluestreak.cancel("w")
    assert await state_of(bluestreak, "c") == (Status.CANCELLED, GONE, False)
    await bluestreak.retry("c")
    await bluestreak.fork("c", "fork")
    async with fleet.polling(bluestreak):
        assert await bluestreak.wait("fork") is None
        await fleet.store.until_returned("settle", 3)
    assert await state_of(bluestreak, "c") == (Status.CANCELLED, GONE, False)


# The parent of a child that ends ------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("end", ["finish", "cancel", "cancel in a session"])
async def test_a_parent_hears_of_an_end_whose_process_has_died(fleet: Fleet, end: str) -> None:
    async def handle(ctx: Context, input: None) -> str:
        try:
            return str(await ctx.child("c", "elsewhere"))
        except ChildFailed as failed:
            return failed.status

    bluestreak = await family(fleet, h=handle, elsewhere=end_at_once)
    first = await fleet.engine(unknown_handler="skip", park_after=0, timeout_interval=DAY)
    first.register_handler("h", handle)
    async with fleet.polling(first):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
    claim = await claim_of(fleet.store, "w/c")
    now = fleet.clock.now()
    if end == "finish":
        await fleet.store.finish(claim, "result", now)
    elif end == "cancel":
        await fleet.store.control("w/c", Transition.CANCEL, now)
    else:
        async with transaction(fleet.store) as session:
            await bluestreak.cancel("w/c", session=session)
    assert (await workflow_of(bluestreak)).mail == 0
    async with fleet.polling(bluestreak):
        assert await bluestreak.wait("w") == ("result" if end == "finish" else "cancelled")
    assert not (await workflow_of(bluestreak, "w/c")).unsettled


@pytest.mark.asyncio
@on_memory
async def test_an_outage_just_after_the_end_of_a_child_only_delays_its_parent(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.child("c", "end")

    bluestreak = await fleet.engine(park_after=0, timeout_interval=DAY, poll_interval=60)
    bluestreak.register_handler("h", handle)
    bluestreak.register_handler("end", end_at_once)
    fleet.store.failing["nudge"] = StoreUnavailable("no answer")
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_begun("nudge")
        await fleet.store.until_returned("park_until_message")
        fleet.store.failing.clear()
        fleet.clock.advance(timedelta(seconds=60))
        await bluestreak.wait("w")
    assert "'w/c' has ended, and its parent and children are seen to later" in caplog.text


@pytest.mark.asyncio
async def test_a_paused_parent_gets_the_result_once_it_is_resumed(fleet: Fleet) -> None:
    gate = Gate()

    async def handle(ctx: Context, input: None) -> str:
        return await ctx.child("gate", gate.handle)

    bluestreak = await family(fleet, h=handle, gate=gate.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
        await bluestreak.pause("w")
        gate.go_on.set()
        await bluestreak.wait("w/gate")
        await fleet.store.until_returned("nudge")
        assert (await workflow_of(bluestreak)).status is Status.PAUSED
        await bluestreak.resume("w")
        assert await bluestreak.wait("w") == "through"


# Retries ------------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("verb", ["child", "start_child"])
async def test_a_retried_parent_retries_the_children_that_had_ended_with_it(
    fleet: Fleet, verb: str
) -> None:
    gate = Gate()

    async def handle(ctx: Context, input: None) -> str:
        if verb == "child":
            return await ctx.child("gate", gate.handle)
        started = await ctx.start_child("gate", gate.handle)
        await ctx.start_child("leaf", "leaf", on_parent_end="abandon")
        return await started.result()

    bluestreak = await family(fleet, h=handle, gate=gate.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await gate.inside.wait()
        await fleet.store.until_returned("park_until_message")
        await bluestreak.cancel("w", "a mistake")
        assert await state_of(bluestreak, "w/gate") == (Status.CANCELLED, GONE, False)
        gate.go_on.set()
        await bluestreak.retry("w")
        assert await bluestreak.wait("w") == "through"
    child = await workflow_of(bluestreak, "w/gate")
    assert (child.status, child.retries) == (Status.FINISHED, 1)
    assert await fleet.store.find_unsettled(10) == []


@pytest.mark.asyncio
async def test_a_child_that_is_retried_in_time_keeps_its_parent_waiting(fleet: Fleet) -> None:
    broken = [True]

    async def mended(ctx: Context, input: None) -> str:
        if broken:
            raise Abort
        return "mended"

    async def handle(ctx: Context, input: None) -> str:
        return await ctx.child("ask", mended)

    bluestreak = await family(fleet, h=handle, mended=mended)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
        await bluestreak.pause("w")
        await fleet.store.until_returned("settle")
        broken.clear()
        await bluestreak.retry("w/ask")
        await bluestreak.resume("w")
        assert await bluestreak.wait("w") == "mended"


@pytest.mark.asyncio
async def test_the_recorded_end_of_a_child_stands(fleet: Fleet) -> None:
    broken = [True]

    async def mended(ctx: Context, input: None) -> str:
        if broken:
            raise Abort
        return "mended"

    async def handle(ctx: Context, input: None) -> str:
        try:
            return await ctx.child("ask", mended)
        except ChildFailed:
            await ctx.receive("get", "go on")
            return "failed"

    bluestreak = await family(fleet, h=handle, mended=mended)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        while not (await workflow_of(bluestreak)).failed_steps:  # noqa: ASYNC110 - no event
            await asyncio.sleep(0)
        broken.clear()
        await bluestreak.retry("w/ask")
        assert await bluestreak.wait("w/ask") == "mended"
        await bluestreak.send("w", "go on")
        assert await bluestreak.wait("w") == "failed"


# Forks and pruning --------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_fork_has_children_of_its_own(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> list[Any]:
        done = await ctx.child("done", "number")
        started = await ctx.start_child("started", "number")
        await ctx.receive("get", "go on")
        return [done, await started.result()]

    numbers = iter(range(10))

    async def number(ctx: Context, input: None) -> int:
        return next(numbers)

    bluestreak = await family(fleet, h=handle, number=number)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message", 2)
        await bluestreak.wait("w/started")
        await bluestreak.fork("w", "fork")
        for workflow_id, result in (("w", [0, 1]), ("fork", [0, 2])):
            await bluestreak.send(workflow_id, "go on")
            assert await bluestreak.wait(workflow_id) == result
    children = await listed(bluestreak.list(parent="fork"))
    assert children == ["fork/started"]


@pytest.mark.asyncio
async def test_prune_sees_to_the_relatives_of_what_it_deletes(fleet: Fleet) -> None:
    """Nobody else is there who could."""
    bluestreak = await family(fleet)
    await bluestreak.start("w", "end")
    claim = await claim_of(fleet.store, "w")
    await fleet.store.adopt(claim)
    await fleet.store.create(child_of(claim.workflow, "c", "leaf"))
    await fleet.store.finish(claim, None, fleet.clock.now())
    fleet.clock.advance(DAY)
    pruned = await bluestreak.prune(ended_before=fleet.clock.now())
    assert pruned.workflows == 1
    assert await state_of(bluestreak, "c") == (Status.CANCELLED, GONE, False)


class Refusing(StoreWrapper):
    """A store in which the parent of most children is unreadable."""

    @override
    async def nudge(
        self, workflow_id: str, created_at: datetime | None, name: str, now: datetime
    ) -> None:
        if name != name_of_child("last"):
            raise CorruptDocument("workflows", workflow_id, "mail", "is odd")
        await super().nudge(workflow_id, created_at, name, now)


@pytest.mark.asyncio
@on_memory
@pytest.mark.parametrize("bad", [AT_ONCE, 2 * AT_ONCE + 1])
async def test_what_cannot_be_settled_keeps_nothing_else_from_being_settled(
    fleet: Fleet, bad: int
) -> None:
    bluestreak = await family(fleet)
    await bluestreak.start("w", "end")
    parent = await workflow_of(bluestreak, "w")
    for child_id in (*(f"c{number}" for number in range(bad)), "last"):
        await fleet.store.create(child_of(parent, child_id, "end"))
        await fleet.store.control(child_id, Transition.CANCEL, fleet.clock.now())
    await settle_left(Refusing(fleet.store))
    unsettled = await fleet.store.find_unsettled(2 * bad)
    assert (len(unsettled), "last" in {seen.workflow_id for seen in unsettled}) == (bad, False)


# What it costs those without a family -------------------------------------------------------------


@pytest.mark.asyncio
@on_memory
async def test_a_workflow_without_relatives_takes_no_call_more(fleet: Fleet) -> None:
    bluestreak = await family(fleet)
    async with fleet.polling(bluestreak):
        await fleet.store.until_returned("find_unsettled")
        await bluestreak.start("w", "end")
        await bluestreak.wait("w")
    for call in ("find_children", "nudge", "settle", "adopt", "find_mail"):
        assert fleet.store.begun[call] == 0
