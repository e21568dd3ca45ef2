"""A lease is never taken to last longer than the store has it."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

import pytest

from bluestreak_core import Claim, ClaimLost, NewWorkflow, StoreUnavailable
from bluestreak_core.model import ClaimRequest
from bluestreak_core.run import Lease
from bluestreak_core.testing import ManualClock
from bluestreak_memory import MemoryStore

pytestmark = pytest.mark.asyncio

SECOND = timedelta(seconds=1)
SPAN = 9 * SECOND


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


async def _claim(clock: ManualClock) -> Claim:
    store = MemoryStore(clock=clock)
    await store.create(
        NewWorkflow(workflow_id="w", handler_id="h", input=None, created_at=clock.now())
    )
    (claim,) = await store.claim(
        ClaimRequest(worker="worker", now=clock.now(), lease=SPAN, limit=1)
    )
    return claim


async def _lease(clock: ManualClock, left: timedelta = SPAN) -> Lease:
    return Lease(await _claim(clock), clock, clock.monotonic() + left.total_seconds(), SPAN)


async def test_a_lease_that_somebody_knows_to_be_over_stays_so(clock: ManualClock) -> None:
    lease = await _lease(clock)
    clock.advance(SPAN)
    lost = lease.error
    assert lost is not None
    lease.extend(clock.monotonic() + 3600)
    assert lease.error is lost
    with pytest.raises(ClaimLost, match="outlived its lease"):
        lease.check()


async def test_a_claim_that_was_taken_over_is_not_had_back_by_a_renewal(clock: ManualClock) -> None:
    lease = await _lease(clock)
    lease.lose("was taken over")
    left = lease.left
    lease.extend(clock.monotonic() + 3600)
    assert lease.left == left
    with pytest.raises(ClaimLost, match="was taken over"):
        lease.check()


async def test_no_renewal_shortens_a_lease(clock: ManualClock) -> None:
    lease = await _lease(clock)
    lease.extend(clock.monotonic() + 1)
    assert lease.left == SPAN


class Away:
    """A call that the store does not answer."""

    def __init__(self, on_call: Callable[[], object] = lambda: None) -> None:
        self.calls = 0
        self._on_call = on_call

    async def __call__(self) -> None:
        self.calls += 1
        self._on_call()
        raise StoreUnavailable("no route")


async def test_no_call_is_made_under_a_lease_that_is_over(clock: ManualClock) -> None:
    lease, away = await _lease(clock), Away()
    clock.advance(SPAN)
    with pytest.raises(ClaimLost):
        await lease.until_answered(away)
    assert away.calls == 0


async def test_a_pause_before_the_next_try_ends_with_the_lease(clock: ManualClock) -> None:
    left = timedelta(milliseconds=1)  # less than the shortest pause
    lease, away = await _lease(clock, left), Away()
    writing = asyncio.create_task(lease.until_answered(away))
    await clock.until_sleeping()
    clock.advance(left)
    for _ in range(3):
        await asyncio.sleep(0)
    assert writing.done()
    with pytest.raises(ClaimLost) as lost:
        await writing
    assert isinstance(lost.value.__cause__, StoreUnavailable)
    assert away.calls == 1


async def test_no_try_follows_on_a_claim_that_was_lost_meanwhile(clock: ManualClock) -> None:
    lease = await _lease(clock)
    away = Away()
    writing = asyncio.create_task(lease.until_answered(away))
    await clock.until_sleeping()
    lease.lose("was taken over")
    clock.advance(SECOND)
    with pytest.raises(ClaimLost, match="was taken over"):
        await writing
    assert away.calls == 1


async def test_no_try_follows_on_a_call_that_outlasted_the_lease(clock: ManualClock) -> None:
    away = Away(on_call=lambda: clock.advance(SPAN))
    lease = await _lease(clock)
    with pytest.raises(ClaimLost):
        await lease.until_answered(away)
    assert away.calls == 1


@pytest.mark.parametrize(("used", "is_due"), [(0, False), (2.9, False), (3, True), (9, True)])
async def test_a_lease_is_due_when_a_third_of_it_is_used(
    clock: ManualClock, used: float, is_due: bool
) -> None:
    lease = await _lease(clock)
    assert lease.is_due_within(used * SECOND) is is_due
    clock.advance(used * SECOND)
    assert lease.is_due_within(timedelta(0)) is is_due
