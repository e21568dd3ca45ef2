"""Leases are counted from before they were asked for, however late the answer is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from typing_extensions import override

from bluestreak_core import Bluestreak, ClaimLost, Context, Retry, Store
from bluestreak_core.machine import Transition
from bluestreak_core.model import ClaimRequest
from bluestreak_core.run import Lease
from bluestreak_core.run.commit import Commits
from bluestreak_core.run.hook import Calls
from bluestreak_core.run.journal import Journal
from bluestreak_core.run.transaction_call import Committed, RolledBack, TransactionCall
from bluestreak_core.testing import ManualClock, RecordingStore, StoreWrapper
from bluestreak_memory import MemoryStore
from tests.arrange import eventually

pytestmark = pytest.mark.asyncio

T = TypeVar("T")

SECOND = timedelta(seconds=1)
SPAN = 9 * SECOND


class LateAnswers(StoreWrapper):
    """Carries the first call of a name out, and answers when so much time has passed."""

    def __init__(self, store: Store, clock: ManualClock, name: str, late: timedelta) -> None:
        super().__init__(store)
        self._manual = clock
        self._late = {name: late}

    @override
    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        result = await call()
        self._manual.advance(self._late.pop(name, timedelta(0)))
        return result


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


class _Held:
    """A worker's one run, which does not end by itself."""

    def __init__(self, store: Store) -> None:
        self.is_cancelled = False
        self.leases: list[Lease] = []
        self.inside = asyncio.Event()
        self.bluestreak = Bluestreak(store, timeout_interval=SPAN, poll_interval=3600)
        self.bluestreak.register_handler("h", self._handle)

    async def _handle(self, ctx: Context, input: None) -> None:
        await ctx.step("s", self._hold)

    async def _hold(self) -> None:
        self.inside.set()
        try:
            await asyncio.Event().wait()
        finally:
            self.is_cancelled = True

    async def begin(self) -> asyncio.Task[None]:
        await self.bluestreak.init()
        await self.bluestreak.start("w", "h")
        poll = asyncio.create_task(self.bluestreak.poll())
        await self.inside.wait()
        return poll


async def _turn() -> None:
    """Let everybody go on who can."""
    for _ in range(50):
        await asyncio.sleep(0)


async def test_a_claim_that_was_answered_late_is_over_when_the_store_says_so(
    clock: ManualClock,
) -> None:
    store = RecordingStore(LateAnswers(MemoryStore(clock=clock), clock, "claim", 5 * SECOND))
    held = _Held(store)
    poll = await held.begin()
    await store.until_returned("claim", 2)
    await clock.until_sleeping(3 * SECOND, count=2)
    held.bluestreak.stop()  # so that it does not claim again what it loses
    clock.advance(4 * SECOND)
    await _turn()
    assert held.is_cancelled
    await poll
    assert store.begun["renew"] == 0


async def test_a_renewal_that_was_answered_late_is_over_when_the_store_says_so(
    clock: ManualClock,
) -> None:
    store = RecordingStore(LateAnswers(MemoryStore(clock=clock), clock, "renew", 8 * SECOND))
    held = _Held(store)
    poll = await held.begin()
    await store.until_returned("claim", 2)
    await clock.until_sleeping(3 * SECOND, count=2)
    clock.advance(3 * SECOND)
    await store.until_returned("renew")
    await clock.until_sleeping()
    held.bluestreak.stop()
    clock.advance(1 * SECOND)
    await _turn()
    assert held.is_cancelled
    await poll
    assert store.begun["renew"] == 1


async def test_the_renewal_after_a_transaction_counts_from_when_it_was_sent(
    clock: ManualClock,
) -> None:
    store = LateAnswers(MemoryStore(clock=clock), clock, "renew", 2 * SECOND)
    bluestreak = Bluestreak(store)
    await bluestreak.init()
    await bluestreak.start("w", "h")
    (claim,) = await store.claim(
        ClaimRequest(worker="worker", now=clock.now(), lease=SPAN, limit=1)
    )
    lease = Lease(claim, clock, clock.monotonic() + SPAN.total_seconds(), SPAN)

    async def fn(session: Any) -> str:
        clock.advance(5 * SECOND)
        return "written"

    assert await _transact(store, lease, fn) == Committed("written")
    assert lease.left == SPAN - 2 * SECOND
    workflow = await store.find_workflow("w")
    assert workflow is not None
    assert workflow.timeout_at == clock.now() + lease.left


class Robbed(StoreWrapper):
    """Lets a thief have what is about to be renewed."""

    @override
    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        if name == "renew":
            await self.claim(
                ClaimRequest(worker="thief", now=self.clock.now() + SPAN, lease=SPAN, limit=1)
            )
        return await call()


async def test_a_claim_that_is_lost_after_a_transaction_is_known_to_be(clock: ManualClock) -> None:
    store = Robbed(MemoryStore(clock=clock))
    bluestreak = Bluestreak(store)
    await bluestreak.init()
    await bluestreak.start("w", "h")
    (claim,) = await store.claim(
        ClaimRequest(worker="worker", now=clock.now(), lease=SPAN, limit=1)
    )
    lease = Lease(claim, clock, clock.monotonic() + SPAN.total_seconds(), SPAN)

    async def fn(session: Any) -> None:
        clock.advance(5 * SECOND)

    with pytest.raises(ClaimLost, match="was taken over"):
        await _transact(store, lease, fn)
    assert lease.left == SPAN - 5 * SECOND


async def test_no_attempt_begins_under_a_lease_that_was_over_when_the_last_one_was_recorded(
    clock: ManualClock,
) -> None:
    store = LateAnswers(MemoryStore(clock=clock), clock, "save_attempt", SPAN)
    bluestreak = Bluestreak(store, timeout_interval=SPAN)
    calls: list[int] = []

    async def fail() -> None:
        calls.append(1)
        bluestreak.stop()
        raise ConnectionError

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("s", fail, retry=Retry(max_attempts=3, initial=0))

    await bluestreak.init()
    await bluestreak.start("w", "h")
    await bluestreak.poll()
    assert len(calls) == 1
    await eventually(lambda: bluestreak.health().runs == 0)


class Cancelling(StoreWrapper):
    """Cancels another workflow while the first renewal is on its way back, which takes a while."""

    def __init__(self, store: Store, clock: ManualClock) -> None:
        super().__init__(store)
        self._manual = clock
        self._is_first = True

    @override
    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        result = await call()
        if name == "renew" and self._is_first:
            self._is_first = False
            await self.control("w2", Transition.CANCEL, self.clock.now())
            self._manual.advance(SECOND / 2)
        return result


async def test_what_is_cancelled_while_another_cancellation_is_looked_at_is_heard_of(
    clock: ManualClock,
) -> None:
    store = RecordingStore(Cancelling(MemoryStore(clock=clock), clock))
    bluestreak = Bluestreak(store, timeout_interval=60, poll_interval=3600)
    begun: list[str] = []

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        begun.append(ctx.workflow_id)
        await asyncio.Event().wait()

    await bluestreak.init()
    await bluestreak.start("w1", "h")
    await bluestreak.start("w2", "h")
    poll = asyncio.create_task(bluestreak.poll())
    await eventually(lambda: len(begun) == 2)
    await bluestreak.cancel("w1")
    for _ in range(10):  # much less than the time to the next renewal
        await _turn()
        clock.advance(SECOND / 5)
    await _turn()
    assert bluestreak.health().runs == 0
    bluestreak.stop()
    await poll


async def _transact(
    store: Store, lease: Lease, fn: Callable[[Any], Awaitable[Any]]
) -> Committed | RolledBack:
    journal = Journal(store, lease)
    call = TransactionCall(Calls((), journal), "w", "s", fn, (), lambda: None)
    return await Commits(store, journal).transact(call)
