"""Parents and children that undo what they have done."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from bluestreak_core import (
    Abort,
    Bluestreak,
    ChildFailed,
    Context,
    Status,
    WorkflowAborted,
    WorkflowCancelled,
)
from tests.engine.arrange import Fleet, workflow_of

DAY = timedelta(days=1)


class Ledger:
    """What the steps of a family have done, in order."""

    def __init__(self) -> None:
        self.entries: list[str] = []

    async def note(self, entry: str) -> None:
        self.entries.append(entry)

    async def book(self, ctx: Context, name: str) -> None:
        """A child that has booked something, and waits."""
        await ctx.step("book", self.note, f"{name} booked")
        await ctx.compensate("unbook", self.note, f"{name} unbooked")
        await ctx.receive("departure", "departed")

    async def fail(self, ctx: Context, name: str) -> None:
        """A child that has booked something, and gives up."""
        await ctx.step("book", self.note, f"{name} booked")
        await ctx.compensate("unbook", self.note, f"{name} unbooked")
        raise Abort("no seat")


async def family(fleet: Fleet, ledger: Ledger, handler: Any) -> Bluestreak:
    bluestreak = await fleet.engine(timeout_interval=DAY, poll_interval=DAY, park_after=0)
    bluestreak.register_handler("h", handler)
    bluestreak.register_handler("book", ledger.book)
    bluestreak.register_handler("fail", ledger.fail)
    return bluestreak


@pytest.mark.asyncio
async def test_a_parent_hears_of_a_child_once_that_has_compensated(fleet: Fleet) -> None:
    ledger = Ledger()

    async def handle(ctx: Context, input: None) -> list[str]:
        with pytest.raises(ChildFailed) as caught:
            await ctx.child("flight", ledger.fail, "flight")
        assert caught.value.status == Status.ABORTED
        return list(ledger.entries)

    bluestreak = await family(fleet, ledger, handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == ["flight booked", "flight unbooked"]
    assert not (await workflow_of(bluestreak, "w/flight")).unsettled


@pytest.mark.asyncio
async def test_children_compensate_once_their_parent_has(fleet: Fleet) -> None:
    ledger = Ledger()

    async def handle(ctx: Context, input: None) -> None:
        await ctx.compensate("report", ledger.note, "trip cancelled")
        await ctx.child("flight", ledger.book, "flight")

    bluestreak = await family(fleet, ledger, handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message", 2)
        await bluestreak.cancel("w", "changed my mind")
        with pytest.raises(WorkflowCancelled):
            await bluestreak.wait("w")
        with pytest.raises(WorkflowCancelled, match="its parent has ended"):
            await bluestreak.wait("w/flight")
    assert ledger.entries == ["flight booked", "trip cancelled", "flight unbooked"]
    parent, child = await workflow_of(bluestreak), await workflow_of(bluestreak, "w/flight")
    assert (parent.status, child.status) == (Status.CANCELLED, Status.CANCELLED)
    assert not parent.unsettled
    assert not child.unsettled


@pytest.mark.asyncio
async def test_a_replay_starts_no_child_and_waits_for_none(fleet: Fleet) -> None:
    ledger, has_aborted = Ledger(), list[bool]()

    async def handle(ctx: Context, input: None) -> None:
        with pytest.raises(ChildFailed):
            await ctx.child("first", ledger.fail, "first")
        await ctx.compensate("report", ledger.note, "reported")
        if not has_aborted:
            has_aborted.append(True)
            raise Abort("no second one")
        await ctx.child("second", ledger.book, "second")

    bluestreak = await family(fleet, ledger, handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted):
            await bluestreak.wait("w")
    assert ledger.entries == ["first booked", "first unbooked", "reported"]
    assert await bluestreak.find_workflow("w/second") is None


@pytest.mark.asyncio
@pytest.mark.parametrize("is_awaited_at_once", [True, False], ids=["child", "start_child"])
async def test_a_retried_parent_hears_that_a_child_has_compensated_at_its_former_end(
    fleet: Fleet, *, is_awaited_at_once: bool
) -> None:
    """Such a child cannot be retried, as its steps are undone."""
    ledger = Ledger()

    async def handle(ctx: Context, input: None) -> str:
        try:
            if is_awaited_at_once:
                await ctx.child("flight", ledger.book, "flight")
            else:
                flight = await ctx.start_child("flight", ledger.book, "flight")
                await flight.result()
        except ChildFailed as failed:
            return f"{failed.status}: {failed.error_message}"
        return "departed"

    bluestreak = await family(fleet, ledger, handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await fleet.store.until_returned("park_until_message", 2)
        await bluestreak.cancel("w", "changed my mind")
        with pytest.raises(WorkflowCancelled, match="its parent has ended"):
            await bluestreak.wait("w/flight")
        await bluestreak.retry("w")
        assert await bluestreak.wait("w") == "cancelled: its parent has ended"
    assert ledger.entries == ["flight booked", "flight unbooked"]
