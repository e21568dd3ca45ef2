"""A store that fails as planned."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from bluestreak_core import NewWorkflow, StoreUnavailable
from bluestreak_core.errors import InvalidArgument
from bluestreak_core.model import ClaimRequest
from bluestreak_core.testing import Fault, FaultyStore, ManualClock, RecordingStore
from bluestreak_core.testing.clock import START
from bluestreak_memory import MemoryStore

LEASE = timedelta(seconds=10)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest.fixture
def inner(clock: ManualClock) -> RecordingStore:
    return RecordingStore(MemoryStore(clock=clock))


def _new(workflow_id: str = "w") -> NewWorkflow:
    return NewWorkflow(workflow_id=workflow_id, handler_id="h", input=None, created_at=START)


@pytest.mark.asyncio
async def test_a_failed_call_is_not_carried_out(inner: RecordingStore) -> None:
    store = FaultyStore(inner, faults={1: Fault.FAIL})
    with pytest.raises(StoreUnavailable, match="fail: injected into call 1, create"):
        await store.create(_new())
    assert inner.begun["create"] == 0
    assert await store.create(_new())


@pytest.mark.asyncio
async def test_a_call_whose_answer_is_lost_is_carried_out(inner: RecordingStore) -> None:
    store = FaultyStore(inner, faults={2: Fault.LOSE})
    await store.create(_new())
    with pytest.raises(StoreUnavailable, match="lose: injected into call 2, claim"):
        await store.claim(ClaimRequest(worker="worker", now=START, lease=LEASE, limit=1))
    assert await store.claim(ClaimRequest(worker="worker", now=START, lease=LEASE, limit=1)) == []


@pytest.mark.asyncio
async def test_a_delayed_call_is_carried_out_later(
    inner: RecordingStore, clock: ManualClock
) -> None:
    store = FaultyStore(inner, faults={1: Fault.DELAY}, delay=3)
    creating = asyncio.create_task(store.create(_new()))
    await clock.until_sleeping(timedelta(seconds=3))
    assert inner.begun["create"] == 0
    clock.advance(timedelta(seconds=3))
    assert await creating


@pytest.mark.asyncio
async def test_a_duplicated_call_is_carried_out_twice_and_answered_once(
    inner: RecordingStore,
) -> None:
    store = FaultyStore(inner, faults={1: Fault.DUPLICATE, 2: Fault.DUPLICATE})
    assert await store.create(_new())
    (claim,) = await store.claim(ClaimRequest(worker="worker", now=START, lease=LEASE, limit=1))
    assert (inner.begun["create"], inner.begun["claim"]) == (2, 2)
    await store.finish(claim, None, START)


@pytest.mark.asyncio
async def test_opening_closing_and_hints_are_neither_counted_nor_harmed(
    inner: RecordingStore,
) -> None:
    store = FaultyStore(inner, faults={1: Fault.FAIL}, seed=1, rate=1)
    await store.init()
    await store.wait_for_work(timedelta(0))
    await store.wait_for_end("w", START, timedelta(0))
    await store.close()
    assert (store.calls, store.injected) == (0, [])
    with pytest.raises(StoreUnavailable):
        await store.find_workflow("w")
    assert store.calls == 1


async def _fates(inner: RecordingStore, seed: int, **options: Any) -> list[tuple[int, Fault]]:
    store = FaultyStore(inner, seed=seed, rate=0.3, delay=0, **options)
    for _ in range(200):
        await asyncio.gather(store.find_workflow("w"), return_exceptions=True)
    return [(injected.number, injected.fault) for injected in store.injected]


@pytest.mark.asyncio
async def test_a_seed_decides_what_befalls_which_call(inner: RecordingStore) -> None:
    fates = await _fates(inner, 1)
    assert fates == await _fates(inner, 1)
    assert fates != await _fates(inner, 2)
    assert {fault for _, fault in fates} == set(Fault)
    assert 30 < len(fates) < 90


@pytest.mark.asyncio
async def test_only_the_given_kinds_of_faults_happen(inner: RecordingStore) -> None:
    fates = await _fates(inner, 1, kinds=[Fault.FAIL])
    assert {fault for _, fault in fates} == {Fault.FAIL}


@pytest.mark.asyncio
async def test_without_a_seed_and_with_a_rate_of_nothing_all_is_well(inner: RecordingStore) -> None:
    plain, calm = FaultyStore(inner), FaultyStore(inner, seed=1, rate=1)
    calm.rate = 0
    for store in (plain, calm):
        for _ in range(50):
            await store.find_workflow("w")
        assert store.injected == []


@pytest.mark.parametrize(
    ("make", "named"),
    [
        (lambda store: FaultyStore(store, faults={0: Fault.FAIL}), "number of a call 0"),
        (lambda store: FaultyStore(store, rate=1.5), "rate 1.5"),
        (lambda store: FaultyStore(store, kinds=[]), "kinds"),
        (lambda store: FaultyStore(store, delay=-1), "delay -1"),
    ],
)
def test_what_cannot_be_meant_is_refused(
    inner: RecordingStore, make: Callable[[RecordingStore], FaultyStore], named: str
) -> None:
    with pytest.raises(InvalidArgument, match=f"^{named}"):
        make(inner)
