"""What a store knows without a stream: what is done through itself, and what it looks for."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from datetime import timedelta

import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient

from bluestreak_core import Bluestreak, Context, Start
from bluestreak_core.machine import Transition
from bluestreak_core.testing import ManualClock, RecordingStore
from bluestreak_mongo import MongoStore
from tests.mongo.arrange import NOW, SECOND, Document, claimed, polling

pytestmark = [pytest.mark.asyncio, pytest.mark.server]

HOUR = timedelta(hours=1)


@pytest_asyncio.fixture
async def store(
    mongodb_url: str, empty_database: str, clock: ManualClock
) -> AsyncIterator[MongoStore]:
    """It has one connection, and so none for a stream."""
    async with AsyncMongoClient[Document](mongodb_url, maxPoolSize=1) as client:
        store = MongoStore.from_database(client[empty_database], clock=clock)
        await store.init()
        yield store
        await store.close()


STARTS: dict[str, Callable[[Bluestreak], Awaitable[object]]] = {
    "start": lambda bluestreak: bluestreak.start("w", "h"),
    "start_many": lambda bluestreak: bluestreak.start_many([Start("w", "h")]),
    "fork": lambda bluestreak: bluestreak.fork("cancelled", "w"),
    "resume": lambda bluestreak: bluestreak.resume("paused"),
    "retry": lambda bluestreak: bluestreak.retry("cancelled"),
}


@pytest.mark.parametrize("how", STARTS)
async def test_an_idle_worker_begins_at_once_what_is_started_through_its_own_store(
    store: MongoStore, how: str
) -> None:
    recording = RecordingStore(store)
    bluestreak = Bluestreak(recording, poll_interval=HOUR)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        pass

    await bluestreak.init()
    for name, leave in (("cancelled", bluestreak.cancel), ("paused", bluestreak.pause)):
        await bluestreak.start(name, "h")
        await leave(name)
    async with polling(bluestreak):
        await recording.until_begun("wait_for_work")
        await STARTS[how](bluestreak)
        async with asyncio.timeout(20):
            await recording.until_returned("finish")


@pytest.mark.parametrize(
    ("late", "is_noticed"), [(-1.1, False), (-0.9, True), (0, True), (0.9, True), (1.1, False)]
)
async def test_a_cancellation_is_noticed_by_a_clock_that_differs_by_less_than_a_second(
    store: MongoStore, mongodb_url: str, empty_database: str, late: float, *, is_noticed: bool
) -> None:
    await claimed(store)
    there = MongoStore(mongodb_url, database=empty_database, clock=ManualClock())
    await there.init()
    await there.control("w", Transition.CANCEL, NOW + late * SECOND)
    await there.close()
    assert await store.wait_for_control("worker", NOW, timedelta(0)) is is_noticed
