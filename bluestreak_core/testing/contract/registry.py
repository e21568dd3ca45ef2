"""What `SupportsRegistry` asks of a store, as a test suite; see `StoreContract`."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime
from typing import Protocol

import pytest

from bluestreak_core.model import RunInFlight, WorkerRecord, WorkerState
from bluestreak_core.store import Store, SupportsRegistry
from bluestreak_core.testing.contract.arrange import LEASE, MS, NOW, SECOND
from bluestreak_core.testing.contract.rule import Rules, rule


class _Registry(Store, SupportsRegistry, Protocol):
    """A store that knows its workers."""


def worker(name: str, until: datetime = NOW + LEASE) -> WorkerRecord:
    """The record of a worker that runs nothing."""
    return WorkerRecord(
        name=name,
        host="host",
        pid=4711,
        bluestreak_version="1.0",
        python_version="3.13.1",
        started_at=NOW - SECOND,
        seen_at=NOW,
        until=until,
        state=WorkerState.POLLING,
        max_concurrency=2,
        runs=0,
    )


BUSY = replace(
    worker("w"),
    state=WorkerState.DRAINING,
    runs=2,
    in_flight=(
        RunInFlight(workflow_id="order-17", handler_id="h", step_id="charge", since=NOW - MS),
        RunInFlight(workflow_id="ordér-18", handler_id="g", step_id=None, since=NOW),
    ),
    handlers=("g", "h"),
    last_store_error="no primary",
)
"""A record with a value in each field."""


class RegistryContract(Rules):
    """The tests of a store that knows its workers, as a part of `StoreContract`."""

    pytestmark = pytest.mark.asyncio

    @rule("SupportsRegistry.register_worker")
    async def test_a_registered_worker_is_found_as_it_is(self, store: _Registry) -> None:
        await store.register_worker(BUSY)
        assert list(await store.find_workers(NOW)) == [BUSY]

    @rule("SupportsRegistry.register_worker")
    async def test_a_later_record_replaces_the_earlier_one(self, store: _Registry) -> None:
        await store.register_worker(BUSY)
        later = worker("w", NOW + 2 * LEASE)
        await store.register_worker(later)
        assert list(await store.find_workers(NOW)) == [later]

    @rule("SupportsRegistry.find_workers")
    async def test_workers_are_found_by_name(self, store: _Registry) -> None:
        assert list(await store.find_workers(NOW)) == []
        for name in ("b", "c", "a"):
            await store.register_worker(worker(name))
        assert [found.name for found in await store.find_workers(NOW)] == ["a", "b", "c"]

    @rule("SupportsRegistry.find_workers")
    async def test_a_worker_is_found_before_its_until_only(self, store: _Registry) -> None:
        await store.register_worker(worker("short"))
        await store.register_worker(worker("long", NOW + 2 * LEASE))
        before = await store.find_workers(NOW + LEASE - MS)
        after = await store.find_workers(NOW + LEASE)
        assert [found.name for found in before] == ["long", "short"]
        assert [found.name for found in after] == ["long"]

    @rule("SupportsRegistry.unregister_worker")
    async def test_an_unregistered_worker_is_not_found(self, store: _Registry) -> None:
        await store.register_worker(worker("a"))
        await store.register_worker(worker("b"))
        for _ in range(2):
            await store.unregister_worker("a")
            assert [found.name for found in await store.find_workers(NOW)] == ["b"]

    @rule("SupportsRegistry.unregister_worker")
    async def test_an_unknown_worker_may_be_unregistered(self, store: _Registry) -> None:
        await store.unregister_worker("a")
        assert list(await store.find_workers(NOW)) == []
