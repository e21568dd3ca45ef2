"""Deleting workflows that have ended, without ever taking a step from one that may run.

A batch is marked, which nothing undoes; then its steps and naps are deleted, then the workflows.
Several may be at the same batch, and one of them may be so slow that an id has been started again
meanwhile. So steps and naps are deleted by their own keys, of which it is known that they were read
while the marked document was still there: it keeps the id from being used.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo.asynchronous.collection import AsyncCollection

from bluestreak_core.model import Status
from bluestreak_core.query import Pruned
from bluestreak_mongo import documents as doc
from bluestreak_mongo import transitions
from bluestreak_mongo.database import Database
from bluestreak_mongo.documents import Document
from bluestreak_mongo.stray import Cursor, Strays, read_first

_AT_ONCE = 10_000
"""Records that are deleted by one command."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Doomed:
    """A workflow that is to be deleted; `key` is its `_id`."""

    key: Any
    workflow_id: str


class Pruning:
    """Does what `bluestreak_core.query.Prunes` asks for."""

    def __init__(self, database: Database, strays: Strays) -> None:
        self._workflows = database.workflows
        self._records = (database.steps, database.naps)
        self._strays = strays

    async def prune(
        self, ended_before: datetime, statuses: Collection[Status], limit: int, now: datetime
    ) -> Pruned:
        """See `Prunes.prune`. What an earlier call has left behind comes first."""
        batch = await self._find(transitions.left_behind(), limit)
        if len(batch) < limit:
            ended = transitions.ended_before(ended_before, statuses)
            found = await self._find(ended, limit - len(batch))
            if found:
                still_ended = {"$and": [_these(found), ended]}
                await self._workflows.update_many(still_ended, transitions.mark(now))
            batch += found
        return await self._delete(batch) if batch else Pruned()

    async def _find(self, filter: Document, limit: int) -> list[_Doomed]:
        fields = {doc.WORKFLOW_ID: 1}

        def look(workflows: AsyncCollection[Any], count: int) -> Cursor:
            found = workflows.find(filter, fields, batch_size=count)
            return found.hint(doc.BY_DUE).limit(count)

        def read(document: Document) -> _Doomed:
            return _Doomed(key=document["_id"], workflow_id=doc.to_workflow_id(document))

        found, strays = await read_first(self._workflows, look, read, limit)
        for stray in strays:
            self._strays.meet(stray, "it is not deleted")
        return found

    async def _delete(self, batch: Sequence[_Doomed]) -> Pruned:
        theirs = {doc.WORKFLOW_ID: {"$in": [one.workflow_id for one in batch]}}
        found = [await _keys(collection, theirs) for collection in self._records]
        marked = {"$and": [_these(batch), transitions.marked()]}
        left = [one async for one in self._workflows.find(marked, {doc.WORKFLOW_ID: 1})]
        doomed = {one[doc.WORKFLOW_ID] for one in left}
        deleted = [
            await _delete_records(collection, [one for one in records if one.workflow_id in doomed])
            for collection, records in zip(self._records, found, strict=True)
        ]
        gone = await self._workflows.delete_many(marked)
        return Pruned(workflows=gone.deleted_count, steps=deleted[0], naps=deleted[1])


def _these(batch: Sequence[_Doomed]) -> Document:
    return {
        doc.WORKFLOW_ID: {"$in": [one.workflow_id for one in batch]},
        "_id": {"$in": [one.key for one in batch]},
    }


async def _keys(collection: AsyncCollection[Document], theirs: Document) -> list[_Doomed]:
    """The keys of the records of some workflows."""
    found = collection.find(theirs, {doc.WORKFLOW_ID: 1}, batch_size=_AT_ONCE)
    return [
        _Doomed(key=record["_id"], workflow_id=record[doc.WORKFLOW_ID]) async for record in found
    ]


async def _delete_records(collection: AsyncCollection[Document], records: Sequence[_Doomed]) -> int:
    """How many of these records were there."""
    deleted = 0
    for part in _parts(records):
        deleted += (await collection.delete_many(_these(part))).deleted_count
    return deleted


def _parts(records: Sequence[_Doomed]) -> Iterator[Sequence[_Doomed]]:
    for start in range(0, len(records), _AT_ONCE):
        yield records[start : start + _AT_ONCE]
