"""Databases to measure in: new ones, used with the store's own concerns."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from typing import Any
from uuid import uuid4

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.monitoring import CommandListener

from bluestreak_mongo import MongoStore
from bluestreak_mongo.bson_rules import CODEC
from bluestreak_mongo.database import READ_CONCERN, WRITE_CONCERN
from bluestreak_mongo.schema import WORKFLOWS
from bluestreak_mongo.schema import workflow as wf

Document = dict[str, Any]

BATCH = 1000
CLAIMABLE = {wf.STATUS: {"$in": ["idle", "running", "failed"]}}
_LOOK_AGAIN = 0.02  # seconds


@asynccontextmanager
async def connected(
    url: str, name: str, listeners: Sequence[CommandListener] = ()
) -> AsyncIterator[AsyncDatabase[Document]]:
    """A database with the concerns and the codec of `MongoStore`."""
    client: AsyncMongoClient[Document] = AsyncMongoClient(url, event_listeners=[*listeners])
    async with client:
        yield client.get_database(
            name, codec_options=CODEC, write_concern=WRITE_CONCERN, read_concern=READ_CONCERN
        )


@asynccontextmanager
async def new_database(
    url: str, listeners: Sequence[CommandListener] = ()
) -> AsyncIterator[AsyncDatabase[Document]]:
    """A database of its own, with nothing in it but what `MongoStore.init` makes; then dropped."""
    async with connected(url, f"bench-{uuid4().hex[:12]}", listeners) as database:
        store = MongoStore.from_database(database)
        await store.init()
        await store.close()
        try:
            yield database
        finally:
            await database.client.drop_database(database.name)


async def fill(database: AsyncDatabase[Document], collection: str, rows: list[Document]) -> None:
    """Insert documents, not to be measured: at the pace of a cache."""
    for start in range(0, len(rows), BATCH):
        await database[collection].insert_many(rows[start : start + BATCH], ordered=False)


async def until(condition: Callable[[], Awaitable[bool]], pause: float = _LOOK_AGAIN) -> None:
    """The only place that looks again and again: at what gives no event."""
    while not await condition():  # noqa: ASYNC110 - the database has no event for it
        await asyncio.sleep(pause)


async def until_all_ended(database: AsyncDatabase[Document], pause: float = _LOOK_AGAIN) -> None:
    """Return when a majority shows no workflow that may still be claimed."""

    async def all_ended() -> bool:
        return await database[WORKFLOWS].find_one(CLAIMABLE, {"_id": 1}) is None

    await until(all_ended, pause)
