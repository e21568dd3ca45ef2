"""Workflows that undo what they have done when they are aborted or cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import Any

import pytest

from bluestreak_core import (
    Abort,
    Bluestreak,
    Context,
    DeadlineExceeded,
    Retry,
    Status,
    StepFailed,
    TransitionRefused,
    WorkflowAborted,
    WorkflowCancelled,
)
from bluestreak_core.testing import ManualClock, RecordingStore
from tests.arrange import pass_time
from tests.engine.arrange import DAY, Fleet, transaction, workflow_of

SECOND = timedelta(seconds=1)

Cause = Callable[[Context], Awaitable[Any]]


class Shop:
    """An order that reserves stock, charges a card, and waits for what becomes of it."""

    def __init__(self, then: Cause) -> None:
        self.done: list[str] = []
        self.then = then

    async def do(self, what: str) -> str:
        self.done.append(what)
        return what

    async def handle(self, ctx: Context, input: None) -> None:
        stock = await ctx.step("reserve", self.do, "reserved")
        await ctx.compensate("release", self.do, f"released what was {stock}")
        charge = await ctx.step("charge", self.do, "charged")
        await ctx.compensate("refund", self.do, f"refunded what was {charge}")
        await self.then(ctx)

    @property
    def undone(self) -> list[str]:
        """What was done after the two steps, which were called once."""
        assert self.done[:2] == ["reserved", "charged"]
        return self.done[2:]


UNDONE = ["refunded what was charged", "released what was reserved"]


async def wait_for_payment(ctx: Context) -> None:
    await ctx.receive("payment", "paid")


async def give_up(ctx: Context) -> None:
    raise Abort("sold out")


async def fail(ctx: Context) -> None:
    raise ValueError("out of paper")


async def fail_a_step(ctx: Context) -> None:
    await ctx.step("ship", fail, ctx, retry=Retry(max_attempts=1))


@asynccontextmanager
async def parked(fleet: Fleet, shop: Shop, **options: Any) -> AsyncIterator[Bluestreak]:
    """A client of a workflow that has left memory; its worker has gone."""
    bluestreak = await fleet.parking(shop.handle, **options)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await pass_time(fleet.clock, lambda: len(shop.done) == 2)
        await pass_time(fleet.clock, lambda: bluestreak.health().runs == 0)
    yield await fleet.engine()


async def _ended(fleet: Fleet, shop: Shop) -> Status:
    """How the workflow ends once another worker runs."""
    bluestreak = await fleet.parking(shop.handle)
    async with fleet.polling(bluestreak):
        with pytest.raises((WorkflowAborted, WorkflowCancelled)):
            await bluestreak.wait("w")
    return (await workflow_of(bluestreak)).status


@pytest.mark.asyncio
async def test_an_order_that_waits_parked_is_cancelled_from_another_process(fleet: Fleet) -> None:
    shop = Shop(wait_for_payment)
    async with parked(fleet, shop) as client:
        assert await client.cancel("w", "changed my mind")
        stopping = await workflow_of(client)
        assert (stopping.status, stopping.reason) == (Status.STOPPING, "changed my mind")
        assert not await client.cancel("w")
        assert shop.undone == []
        assert await _ended(fleet, shop) is Status.CANCELLED
        assert shop.undone == UNDONE
        with pytest.raises(WorkflowCancelled, match="changed my mind"):
            await client.wait("w")
        for step_id, output in (("refund", UNDONE[0]), ("release", UNDONE[1])):
            step = await client.find_step("w", step_id)
            assert step is not None
            assert step.output == output


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("then", "error"),
    [(give_up, Abort), (fail, ValueError), (fail_a_step, StepFailed)],
)
async def test_an_order_that_is_aborted_is_undone(
    fleet: Fleet, then: Cause, error: type[Exception]
) -> None:
    shop = Shop(then)
    bluestreak = await fleet.handling(shop.handle, max_failures=0)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match=error.__name__):
            await bluestreak.wait("w")
    assert shop.undone == UNDONE
    workflow = await workflow_of(bluestreak)
    assert (workflow.status, workflow.failures) == (Status.ABORTED, 1)


@pytest.mark.asyncio
async def test_an_order_whose_deadline_passes_while_it_is_parked_is_undone(
    fleet: Fleet, clock: ManualClock
) -> None:
    shop = Shop(wait_for_payment)
    bluestreak = await fleet.engine(park_after=0, timeout_interval=DAY, poll_interval=DAY)
    bluestreak.register_handler("h", shop.handle, deadline=DAY)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await pass_time(clock, lambda: len(shop.done) == 2)
        await pass_time(clock, lambda: bluestreak.health().runs == 0)
        clock.advance(DAY)
        with pytest.raises(WorkflowAborted, match=DeadlineExceeded.__name__):
            await bluestreak.wait("w")
    assert shop.undone == UNDONE


@pytest.mark.asyncio
async def test_a_paused_order_is_cancelled_and_undone(fleet: Fleet) -> None:
    shop = Shop(wait_for_payment)
    async with parked(fleet, shop) as client:
        await client.pause("w")
        await client.cancel("w")
        assert await _ended(fleet, shop) is Status.CANCELLED
    assert shop.undone == UNDONE


@pytest.mark.asyncio
async def test_a_failed_order_is_cancelled_and_undone(fleet: Fleet) -> None:
    shop = Shop(fail)
    async with parked(fleet, shop, wait_retry_interval=DAY) as client:
        assert (await workflow_of(client)).status is Status.FAILED
        await client.cancel("w")
        assert await _ended(fleet, shop) is Status.CANCELLED
    assert shop.undone == UNDONE


@pytest.mark.asyncio
async def test_a_running_order_is_cancelled_and_undone(fleet: Fleet, clock: ManualClock) -> None:
    inside = asyncio.Event()

    async def hang() -> None:
        inside.set()
        await asyncio.Event().wait()

    shop = Shop(lambda ctx: ctx.step("hang", hang))
    bluestreak = await fleet.handling(shop.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await inside.wait()
        await bluestreak.cancel("w")
        await pass_time(clock, lambda: len(shop.done) == 4)
        with pytest.raises(WorkflowCancelled):
            await bluestreak.wait("w")
    assert shop.undone == UNDONE


@pytest.mark.asyncio
async def test_an_order_is_cancelled_in_a_transaction_and_undone(
    fleet: Fleet, store: RecordingStore
) -> None:
    shop = Shop(wait_for_payment)
    async with parked(fleet, shop) as client:
        async with transaction(store) as session:
            assert await client.cancel("w", session=session)
        assert await _ended(fleet, shop) is Status.CANCELLED
    assert shop.undone == UNDONE


@pytest.mark.asyncio
async def test_nothing_is_undone_after_a_good_end(fleet: Fleet) -> None:
    shop = Shop(lambda ctx: ctx.step("ship", shop.do, "shipped"))
    bluestreak = await fleet.handling(shop.handle)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await bluestreak.wait("w")
    assert shop.undone == ["shipped"]


@pytest.mark.asyncio
async def test_what_has_compensated_is_not_retried(fleet: Fleet) -> None:
    shop = Shop(wait_for_payment)
    async with parked(fleet, shop) as client:
        await client.cancel("w")
        for change, name in ((client.pause, "pause"), (client.retry, "retry")):
            with pytest.raises(TransitionRefused, match=f"'{name}' is refused while 'stopping'"):
                await change("w")
        await _ended(fleet, shop)
        with pytest.raises(TransitionRefused, match="'retry' is refused while 'compensated'"):
            await client.retry("w")
