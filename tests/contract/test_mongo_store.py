from __future__ import annotations

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient
from pymongo.asynchronous.client_session import AsyncClientSession
from pymongo.asynchronous.database import AsyncDatabase
from typing_extensions import override

from bluestreak_core.testing import Application, ManualClock, StoreContract
from bluestreak_mongo import MongoStore


class _Entries(Application):
    def __init__(self, database: AsyncDatabase[dict[str, Any]]) -> None:
        self._database = database

    @asynccontextmanager
    @override
    async def transaction(self) -> AsyncIterator[AsyncClientSession]:
        async with (
            self._database.client.start_session() as session,
            await session.start_transaction(),
        ):
            yield session

    @override
    async def write(self, session: AsyncClientSession, entry: str) -> None:
        await self._database["entries"].insert_one({"entry": entry}, session=session)

    @override
    async def entries(self) -> list[str]:
        return [document["entry"] async for document in self._database["entries"].find()]


class TestMongoStore(StoreContract):
    @pytest_asyncio.fixture
    async def database(
        self, mongodb_url: str, empty_database: str
    ) -> AsyncIterator[AsyncDatabase[dict[str, Any]]]:
        client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(mongodb_url)
        async with client:
            yield client[empty_database]

    @pytest_asyncio.fixture
    async def store(
        self, database: AsyncDatabase[dict[str, Any]], mongodb_url: str
    ) -> AsyncIterator[MongoStore]:
        store = MongoStore.from_database(database, clock=ManualClock(), renewal_url=mongodb_url)
        await store.init()
        yield store
        await store.close()

    @pytest.fixture
    def application(self, database: AsyncDatabase[dict[str, Any]]) -> Application:
        return _Entries(database)
