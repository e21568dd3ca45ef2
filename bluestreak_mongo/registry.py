"""The workers, each in a document that deletes itself when the worker has died."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from pymongo import ASCENDING
from pymongo.asynchronous.collection import AsyncCollection

from bluestreak_core.model import WorkerRecord
from bluestreak_mongo.database import Database
from bluestreak_mongo.driver import reads, writes
from bluestreak_mongo.schema import FIRST_DATE
from bluestreak_mongo.schema.worker import BLUESTREAK_VERSION, NAME, UNTIL, from_worker, to_worker
from bluestreak_mongo.unreadable import Cursor, UnreadableDocuments, read_each


class Registry:
    """Does what `SupportsRegistry` asks for.

    The index is created by the first worker that registers, not by `init`: a client needs no
    privilege for it, and a user without the privilege can work all the same.
    """

    def __init__(self, database: Database, unreadable: UnreadableDocuments) -> None:
        self._database = database
        self._workers = database.workers
        self._unreadable = unreadable
        self._has_indexes = False

    @writes
    async def register(self, record: WorkerRecord) -> None:
        """See `SupportsRegistry.register_worker`."""
        if not self._has_indexes:
            await self._database.create_worker_indexes()
            self._has_indexes = True
        await self._workers.update_one(
            {NAME: record.name}, {"$set": from_worker(record)}, upsert=True
        )

    @writes
    async def unregister(self, name: str) -> None:
        """See `SupportsRegistry.unregister_worker`. The index deletes the document."""
        await self._workers.update_one({NAME: name}, {"$set": {UNTIL: FIRST_DATE}})

    @reads
    async def find(self, now: datetime) -> list[WorkerRecord]:
        """See `SupportsRegistry.find_workers`."""

        def query(workers: AsyncCollection[Any]) -> Cursor:
            alive = {UNTIL: {"$gt": now}, BLUESTREAK_VERSION: {"$exists": True}}
            return workers.find(alive).sort(NAME, ASCENDING)

        found, unreadable = await read_each(self._workers, query, to_worker)
        for document in unreadable:
            self._unreadable.report(document, "it is passed over")
        return found
