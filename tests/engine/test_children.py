"""Workflows start others, and get their results."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from bluestreak_core import (
    Abort,
    Bluestreak,
    ChildFailed,
    ChildHandle,
    Context,
    Parent,
    Retry,
    Status,
    WorkflowAborted,
    WorkflowConflict,
)
from bluestreak_core.testing import ManualClock
from tests.arrange import pass_time
from tests.engine.arrange import Fleet, Gate, aborted_by, listed, on_memory, workflow_of

DAY = timedelta(days=1)


async def double(ctx: Context, input: int) -> int:
    return 2 * input


async def refuse(ctx: Context, input: Any) -> None:
    raise Abort("not today")


async def ask_child(ctx: Context, input: int) -> int:
    return await ctx.child("ask", double, input)


async def ask_many(ctx: Context, input: int) -> list[int]:
    return list(await asyncio.gather(*(ctx.child(f"ask {n}", double, n) for n in range(input))))


async def family(fleet: Fleet, *, park_after: Any = DAY, **handlers: Any) -> Bluestreak:
    """An engine with these handlers, and those of the children of this module."""
    bluestreak = await fleet.engine(
        timeout_interval=DAY, poll_interval=DAY, max_failures=3, park_after=park_after
    )
    for name, handler in {"double": double, "refuse": refuse, **handlers}.items():
        bluestreak.register_handler(name, handler)
    return bluestreak


# Results ------------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("park_after", [0, DAY], ids=["parked", "in memory"])
async def test_a_child_is_a_workflow_whose_result_its_parent_gets(
    fleet: Fleet, park_after: Any
) -> None:
    bluestreak = await family(fleet, park_after=park_after, h=ask_child)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h", 21)
        assert await bluestreak.wait("w") == 42
    child, parent = await workflow_of(bluestreak, "w/ask"), await workflow_of(bluestreak)
    assert child.parent == Parent(workflow_id="w", created_at=parent.created_at)
    assert (child.handler_id, child.input, child.result) == ("double", 21, 42)
    step = await bluestreak.find_step("w", "ask")
    assert step is not None
    assert step.output == 42
    assert not child.unsettled
    assert not parent.unsettled


@pytest.mark.asyncio
async def test_each_generation_has_children_of_its_own(fleet: Fleet) -> None:
    async def handle(ctx: Context, number: int) -> int:
        doubled = await ctx.child("ask", double, number)
        return doubled if doubled > 2 else await ctx.restart(doubled)

    bluestreak = await family(fleet, h=handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h", 1)
        assert await bluestreak.wait("w") == 4
    results = [(await workflow_of(bluestreak, child)).result for child in ("w/ask", "w/ask#1")]
    assert results == [2, 4]


@pytest.mark.asyncio
async def test_a_parent_leaves_memory_until_its_child_has_ended(fleet: Fleet) -> None:
    gate = Gate()

    async def handle(ctx: Context, input: None) -> str:
        return await ctx.child("gate", gate.handle)

    bluestreak = await family(fleet, park_after=0, h=handle, gate=gate.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await gate.inside.wait()
        await fleet.store.until_returned("park_until_message")
        parked = await workflow_of(bluestreak)
        assert (parked.status, parked.waiting_for) == (Status.IDLE, ("child/w/gate",))
        gate.go_on.set()
        assert await bluestreak.wait("w") == "through"
    assert gate.calls == 1
    assert (await workflow_of(bluestreak)).claims == 2


@pytest.mark.asyncio
async def test_a_parent_in_memory_is_parked_once_it_is_quiet(
    fleet: Fleet, clock: ManualClock
) -> None:
    gate = Gate()

    async def handle(ctx: Context, input: None) -> str:
        quick = await ctx.child("quick", double, 1)
        return f"{quick} {await ctx.child('gate', gate.handle)}"

    bluestreak = await family(fleet, park_after=5, h=handle, gate=gate.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await gate.inside.wait()
        assert (await workflow_of(bluestreak)).claims == 1
        await pass_time(clock, lambda: fleet.store.returned["park_until_message"] == 1)
        parked = await workflow_of(bluestreak)
        assert (parked.status, parked.waiting_for) == (Status.IDLE, ("child/w/gate",))
        gate.go_on.set()
        assert await bluestreak.wait("w") == "2 through"
    assert (await workflow_of(bluestreak)).claims == 2


@pytest.mark.asyncio
@pytest.mark.parametrize("park_after", [0, DAY], ids=["parked", "in memory"])
async def test_many_children_run_side_by_side(fleet: Fleet, park_after: Any) -> None:
    bluestreak = await family(fleet, park_after=park_after, h=ask_many)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h", 50)
        assert await bluestreak.wait("w") == [2 * number for number in range(50)]
    assert len(await listed(bluestreak.list(parent="w"))) == 50


@pytest.mark.asyncio
@pytest.mark.parametrize("slots", [1, 3])
async def test_parents_leave_their_slots_to_their_children(fleet: Fleet, slots: int) -> None:
    """They would stay in memory for a day, and nobody else runs the children."""
    bluestreak = await family(fleet, h=ask_child)
    crowded = await fleet.engine(
        timeout_interval=DAY, poll_interval=DAY, park_after=DAY / 2, max_concurrency=slots
    )
    for handler_id, handler in bluestreak.handlers.items():
        crowded.register_handler(handler_id, handler)
    for number in range(10):
        await crowded.start(f"w{number}", "h", number)
    async with fleet.polling(crowded):
        await pass_time(fleet.clock, lambda: fleet.store.returned["finish"] == 20)
        for number in range(10):
            assert await crowded.wait(f"w{number}") == 2 * number


@pytest.mark.asyncio
async def test_a_child_is_started_and_awaited_later(fleet: Fleet) -> None:
    gate = Gate()
    handles: list[ChildHandle[Any]] = []

    async def handle(ctx: Context, input: None) -> list[Any]:
        handles.append(await ctx.start_child("gate", gate.handle))
        other = await ctx.start_child("double", "double", 4, workflow_id="other")
        await ctx.step("beside", gate.go_on.set)
        return [await handles[-1].result(), await other.result()]

    bluestreak = await family(fleet, park_after=0, h=handle, gate=gate.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == ["through", 8]
    assert {handle.workflow_id for handle in handles} == {"w/gate"}
    assert (await workflow_of(bluestreak, "other")).parent is not None
    for step_id, output in (
        ("gate", {"workflow_id": "w/gate", "parent": "w"}),
        ("gate/result", "through"),
        ("double", {"workflow_id": "other", "parent": "w"}),
        ("double/result", 8),
    ):
        step = await bluestreak.find_step("w", step_id)
        assert step is not None
        assert step.output == output


@pytest.mark.asyncio
async def test_a_recorded_child_is_not_looked_for_again(fleet: Fleet) -> None:
    gate = Gate()

    async def handle(ctx: Context, input: None) -> int:
        handle = await ctx.start_child("handle", double, 1)
        total = await ctx.child("ask", double, 2) + await handle.result()
        await ctx.sleep("nap", DAY)
        return total

    bluestreak = await family(fleet, park_after=0, h=handle, gate=gate.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park")
        created, looked = fleet.store.begun["create"], fleet.store.begun["find_standing"]
        fleet.clock.advance(DAY)
        await fleet.store.until_returned("finish", 3)
        assert fleet.store.begun["create"] == created
        assert fleet.store.begun["find_standing"] == looked
        assert await bluestreak.wait("w") == 6


@pytest.mark.asyncio
async def test_children_have_children(fleet: Fleet) -> None:
    async def descend(ctx: Context, input: int) -> int:
        if input == 0:
            return 0
        return 1 + int(await ctx.child("next", "descend", input - 1))

    bluestreak = await family(fleet, park_after=0, descend=descend)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "descend", 6)
        assert await bluestreak.wait("w") == 6
    assert (await workflow_of(bluestreak, "w" + 6 * "/next")).result == 0


# Failures -----------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("park_after", [0, DAY], ids=["parked", "in memory"])
async def test_an_aborted_child_fails_in_each_run(fleet: Fleet, park_after: Any) -> None:
    seen: list[ChildFailed] = []

    async def handle(ctx: Context, input: None) -> str:
        try:
            await ctx.child("ask", refuse)
        except ChildFailed as failed:
            seen.append(failed)
        await ctx.sleep("nap", 2 * DAY)
        return "went on"

    bluestreak = await family(fleet, park_after=park_after and DAY, h=handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park")
        fleet.clock.advance(2 * DAY)
        assert await bluestreak.wait("w") == "went on"
    assert len({id(failed) for failed in seen}) == len(seen) >= 2
    for failed in seen:
        assert (failed.workflow_id, failed.step_id) == ("w", "ask")
        assert (failed.child_id, failed.status) == ("w/ask", "aborted")
        assert (failed.error_type, failed.error_message) == (
            "bluestreak_core.errors.Abort",
            "not today",
        )
        assert "Traceback" in failed.error_traceback
        assert failed.reason is None
        assert str(failed) == (
            "workflow 'w': child 'w/ask' of 'ask' was aborted: "
            "bluestreak_core.errors.Abort: not today"
        )


@pytest.mark.asyncio
@pytest.mark.parametrize("reason", ["no stock", None])
async def test_a_cancelled_child_fails_with_the_reason(fleet: Fleet, reason: str | None) -> None:
    gate = Gate()

    async def handle(ctx: Context, input: None) -> list[Any]:
        handle = await ctx.start_child("gate", gate.handle)
        try:
            await handle.result()
        except ChildFailed as failed:
            return [failed.step_id, failed.status, failed.reason, str(failed)]
        return []

    bluestreak = await family(fleet, park_after=0, h=handle, gate=gate.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message")
        await bluestreak.cancel("w/gate", reason)
        why = f": {reason}" if reason else ""
        text = f"workflow 'w': child 'w/gate' of 'gate/result' was cancelled{why}"
        assert await bluestreak.wait("w") == ["gate/result", "cancelled", reason, text]


@pytest.mark.asyncio
async def test_a_failed_child_that_is_not_caught_aborts_its_parent(fleet: Fleet) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.child("ask", refuse)

    bluestreak = await family(fleet, h=handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        aborted: WorkflowAborted = await aborted_by(bluestreak, ChildFailed)
    assert "child 'w/ask' of 'ask' was aborted" in aborted.error_message
    (failed,) = (await workflow_of(bluestreak)).failed_steps
    assert failed.child is not None
    assert (failed.child.workflow_id, failed.child.status) == ("w/ask", Status.ABORTED)


@pytest.mark.asyncio
@on_memory
async def test_the_failed_child_of_another_workflow_is_an_error_like_any_other(
    fleet: Fleet,
) -> None:
    """Another run may not meet it again."""

    async def handle(ctx: Context, input: None) -> None:
        raise ChildFailed("another", "s", "child", "aborted", "ValueError", "", "")

    bluestreak = await family(fleet, h=handle)
    bluestreak.register_handler("twice", handle, max_failures=1, wait_retry_interval=0)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "twice")
        await aborted_by(bluestreak, ChildFailed, failures=2)


# Ids ----------------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("other", ["no child", "another's child", "of another handler", "itself"])
async def test_a_child_whose_id_is_taken_is_a_conflict(fleet: Fleet, other: str) -> None:
    conflicts: list[WorkflowConflict] = []
    child_id = "w" if other == "itself" else "taken"

    async def handle(ctx: Context, input: None) -> None:
        if other == "of another handler":
            await ctx.start_child("first", refuse, workflow_id=child_id)
        try:
            await ctx.child("second", double, 1, workflow_id=child_id)
        except WorkflowConflict as conflict:
            conflicts.append(conflict)

    async def other_parent(ctx: Context, input: None) -> None:
        await ctx.start_child("child", double, 1, workflow_id=child_id)

    bluestreak = await family(fleet, h=handle, other=other_parent)
    async with fleet.polling(bluestreak):
        if other == "no child":
            await bluestreak.start("taken", "double", 1)
        elif other == "another's child":
            await bluestreak.start("other", "other")
            await bluestreak.wait("other")
        await bluestreak.start("w", "h")
        await bluestreak.wait("w")
    (conflict,) = conflicts
    differs = "handler" if other == "of another handler" else "parent"
    assert (conflict.workflow_id, conflict.differs) == (child_id, differs)
    assert await bluestreak.find_step("w", "second") is None


@pytest.mark.asyncio
async def test_a_child_that_an_earlier_run_has_started_is_found_again(fleet: Fleet) -> None:
    """The handler fails between the start of a child and its result."""
    failures: list[None] = []
    gate = Gate()

    async def handle(ctx: Context, input: None) -> str:
        result = asyncio.ensure_future(ctx.child("gate", gate.handle))
        await gate.inside.wait()
        if len(failures) < 2:
            failures.append(None)
            result.cancel()
            raise ValueError
        gate.go_on.set()
        return await result

    bluestreak = await family(fleet, h=handle, gate=gate.handle)
    bluestreak.register_handler("again", handle, wait_retry_interval=0)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "again")
        assert await bluestreak.wait("w") == "through"
    assert len(failures) == 2
    assert gate.calls == 1


@pytest.mark.asyncio
@on_memory
async def test_a_child_in_a_branch_with_retries_beside_it_is_awaited(fleet: Fleet) -> None:
    calls: list[None] = []

    def flaky() -> str:
        calls.append(None)
        if len(calls) < 3:
            raise ConnectionError
        return "done"

    async def handle(ctx: Context, input: None) -> list[Any]:
        return list(
            await asyncio.gather(
                ctx.child("ask", double, 4),
                ctx.step("flaky", flaky, retry=Retry(max_attempts=5, initial=0)),
            )
        )

    bluestreak = await family(fleet, park_after=0, h=handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == [8, "done"]
