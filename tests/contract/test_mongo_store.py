from __future__ import annotations

from collections.abc import AsyncIterator

import pytest_asyncio

from bluestreak_core.testing import ManualClock, SearchContract, StoreContract
from bluestreak_mongo import MongoStore


class TestMongoStore(StoreContract, SearchContract):
    @pytest_asyncio.fixture
    async def store(self, mongodb_url: str, empty_database: str) -> AsyncIterator[MongoStore]:
        store = MongoStore(mongodb_url, database=empty_database, clock=ManualClock())
        await store.init()
        yield store
        await store.close()
