"""When MongoStore asks the server for the time, and what a clock does that was far off."""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient

from bluestreak_core.adapter import ServerClock
from bluestreak_core.clock import elapsed
from bluestreak_core.model import ClaimRequest
from bluestreak_mongo import MongoStore
from tests.mongo.arrange import CALLS, LEASE, NOW, Document, Sent, claimed, new

pytestmark = [pytest.mark.asyncio, pytest.mark.server]


class Machine:
    """This machine's clocks, which a test puts forward or back."""

    def __init__(self) -> None:
        self.suspended = 0.0
        self.time_set_by = 0.0
        self.clock = ServerClock(
            elapsed=lambda: elapsed() + self.suspended,
            time_of_day=lambda: time.time() + self.suspended + self.time_set_by,
        )


Timed = tuple[MongoStore, Machine, Sent]
IsRight = Callable[[MongoStore], Awaitable[bool]]


@pytest_asyncio.fixture
async def server_time(mongodb_url: str) -> AsyncIterator[IsRight]:
    """Asks whether a store's clock gives the server's time."""
    async with AsyncMongoClient[Document](mongodb_url) as client:

        async def is_right(store: MongoStore) -> bool:
            server_time: datetime = (await client.admin.command("hello"))["localTime"]
            return abs(store.clock.now() - server_time.replace(tzinfo=UTC)) < timedelta(minutes=9)

        yield is_right


@pytest_asyncio.fixture
async def timed(mongodb_url: str, empty_database: str) -> AsyncIterator[Timed]:
    """A store that keeps the server's time, on a machine whose clocks the test has."""
    machine, sent = Machine(), Sent()
    async with AsyncMongoClient[Document](mongodb_url, event_listeners=[sent]) as client:
        store = MongoStore.from_database(client[empty_database], clock=machine.clock)
        yield store, machine, sent
        await store.close()


async def test_the_server_is_asked_for_the_time_once_a_minute(
    timed: Timed, server_time: IsRight
) -> None:
    store, machine, sent = timed
    machine.suspended += 3600
    assert not await server_time(store)
    await store.init()
    assert sent.named("hello")
    assert await server_time(store)
    sent.commands.clear()
    await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
    assert sent.names == ["find"]
    machine.suspended += 3600
    assert not await server_time(store)
    sent.commands.clear()
    assert await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1)) == []
    assert set(sent.names) == {"hello"}
    assert await server_time(store)
    sent.commands.clear()
    await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
    assert "hello" not in sent.names


async def test_a_worker_whose_clock_was_far_off_looks_again_at_once(timed: Timed) -> None:
    store, machine, _ = timed
    await store.init()
    await store.create(replace(new("w"), created_at=store.clock.now()))
    machine.suspended += 3600
    assert (
        await store.claim(
            ClaimRequest(worker="worker", now=store.clock.now(), lease=LEASE, limit=1)
        )
        == []
    )
    await store.wait_for_work(timedelta(days=1))
    (claim,) = await store.claim(
        ClaimRequest(worker="worker", now=store.clock.now(), lease=LEASE, limit=1)
    )
    assert claim.workflow_id == "w"


@pytest.mark.parametrize("seconds", [3600, -3600])
async def test_a_time_of_day_that_somebody_sets_costs_a_measurement_and_no_claim(
    timed: Timed, server_time: IsRight, seconds: float
) -> None:
    store, machine, sent = timed
    await store.init()
    await store.create(replace(new("w"), created_at=store.clock.now()))
    sent.commands.clear()
    machine.time_set_by += seconds
    (claim,) = await store.claim(
        ClaimRequest(worker="worker", now=store.clock.now(), lease=LEASE, limit=1)
    )
    assert claim.workflow_id == "w"
    assert "hello" in sent.names
    assert await server_time(store)


@pytest.mark.parametrize("call", ["create", "create_many", "renew", "control", "fork"])
async def test_a_process_that_claims_nothing_has_its_clock_measured(
    timed: Timed, server_time: IsRight, call: str
) -> None:
    store, machine, sent = timed
    await store.init()
    claim = await claimed(store)
    machine.suspended += 3600
    sent.commands.clear()
    await CALLS[call](store, claim)
    while not await server_time(store):  # noqa: ASYNC110 - it is measured beside the call
        await asyncio.sleep(0)
    assert "hello" in sent.names
