"""Stores on a server, and ways to look at it."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from uuid import uuid4

import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient, MongoClient
from pymongo.database import Database

from bluestreak_core.testing import ManualClock
from bluestreak_mongo import MongoStore
from tests.mongo.arrange import (
    AWARE,
    Application,
    Document,
    Sent,
)


@pytest.fixture
def clock() -> ManualClock:
    return ManualClock()


@pytest_asyncio.fixture
async def application(
    mongodb_url: str, empty_database: str, clock: ManualClock
) -> AsyncIterator[Application]:
    sent = Sent()
    async with AsyncMongoClient[Document](mongodb_url, event_listeners=[sent]) as client:
        store = MongoStore.from_database(client[empty_database], clock=clock)
        await store.init()
        sent.commands.clear()
        yield Application(database=client[empty_database], store=store, sent=sent)


@pytest.fixture
def raw(mongodb: MongoClient[Document], empty_database: str) -> Database[Document]:
    """The store's database, for looking behind its back; dates are aware."""
    return mongodb.get_database(empty_database, codec_options=AWARE)


@pytest.fixture
def fresh_database(mongodb: MongoClient[Document]) -> Iterator[Database[Document]]:
    """A database without anything in it, not even indexes."""
    name = f"test-{uuid4().hex[:12]}"
    yield mongodb.get_database(name, codec_options=AWARE)
    mongodb.drop_database(name)
