"""Engines over both stores, on a clock that the test moves."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from pymongo import MongoClient

from bluestreak_core.testing import ManualClock, RecordingStore
from bluestreak_memory import MemoryStore
from bluestreak_mongo import MongoStore
from tests.engine.arrange import Fleet

STORES = ["memory", pytest.param("mongo", marks=pytest.mark.server)]


@pytest_asyncio.fixture(autouse=True)
async def _nothing_leaks() -> AsyncIterator[None]:
    """No task and no thread outlives a test; set up first, so checked last."""
    threads = set(threading.enumerate())
    yield
    current = asyncio.current_task()
    assert [task for task in asyncio.all_tasks() if task is not current] == []
    for thread in set(threading.enumerate()) - threads:
        # Those are of the suite's own client, and of the event loop.
        if not thread.name.startswith(("pymongo_", "asyncio_")):
            thread.join(timeout=60)
            assert not thread.is_alive()


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture(params=STORES)
async def store(
    request: pytest.FixtureRequest, clock: ManualClock
) -> AsyncIterator[RecordingStore]:
    """Each of the stores in turn, counting its calls."""
    if request.param == "memory":
        yield RecordingStore(MemoryStore(clock=clock))
        return
    # The engine is measured on memory, and the store by the tests of its own.
    request.getfixturevalue("unmeasured")
    url: str = request.getfixturevalue("mongodb_url")
    database: str = request.getfixturevalue("empty_database")
    store = MongoStore(url, database=database, clock=clock)
    await store.init()
    yield RecordingStore(store)
    await store.close()
    await _no_connection_is_left(request.getfixturevalue("mongodb"))


async def _no_connection_is_left(mongodb: MongoClient[dict[str, Any]]) -> None:
    """The server notices the end of a connection a moment after the client.

    The end of a change stream it notices after a wait in vain for the next event.
    """
    ours = {"$match": {"appName": "bluestreak", "command.getMore": None}}
    everything = {"$currentOp": {"allUsers": True, "idleConnections": True}}
    async with asyncio.timeout(60):
        while list(mongodb.admin.aggregate([everything, ours])):  # noqa: ASYNC110 - it has no event
            await asyncio.sleep(0)


@pytest.fixture
def fleet(store: RecordingStore, clock: ManualClock) -> Fleet:
    return Fleet(store, clock)
