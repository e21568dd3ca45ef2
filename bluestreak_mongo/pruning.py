"""Deleting workflows that have ended, without ever taking a step from one that may run.

A batch is marked, which nothing undoes; then its records (steps, naps and messages) are deleted,
then the workflows. Several may be at the same batch, and one of them may be so slow that an id has
been started again meanwhile. So records are deleted by their own keys, of which it is known that
they were read while the marked document was still there: it keeps the id from being used. Behind a
router, each write names one workflow: a sharded cluster may pass over some of what is deleted
together.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from pymongo import DeleteMany, UpdateMany
from pymongo.asynchronous.collection import AsyncCollection

from bluestreak_core.model import Status
from bluestreak_core.store import Pruned
from bluestreak_mongo import transitions
from bluestreak_mongo.database import Database
from bluestreak_mongo.driver import writes
from bluestreak_mongo.routing import write_each
from bluestreak_mongo.schema import Document
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.index import BY_DUE
from bluestreak_mongo.unreadable import (
    Cursor,
    Unreadable,
    UnreadableDocuments,
    read_each,
    read_first,
)

WORKFLOWS_AT_ONCE = 500
"""Workflows of a batch, at most: their ids, which may be long, go into each of its commands."""

RECORDS_AT_ONCE = 10_000
"""Steps, naps or messages that are read, and then deleted, by one command each."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Doomed:
    """What is to be deleted: a workflow, or a record of one; `key` is its `_id`."""

    key: Any
    workflow_id: str


class Pruning:
    """Does what `bluestreak_core.query.SupportsPruning` asks for."""

    def __init__(self, database: Database) -> None:
        self._is_routed = database.is_routed
        self._workflows = database.workflows
        self._records = (database.steps, database.naps, database.messages)
        self._unreadable = UnreadableDocuments()  # its own: ended workflows disturb no claim

    @writes
    async def prune(
        self, ended_before: datetime, statuses: Collection[Status], limit: int, now: datetime
    ) -> Pruned:
        """See `SupportsPruning.prune`. What an earlier call has left behind comes first.

        Of a batch nothing may be left to delete, since others were at the same, or since it has
        records that cannot be read: it is left alone then, and the next one has its turn.
        """
        ended = transitions.ended_before(ended_before, statuses)
        pruned = Pruned()
        while limit and not pruned.workflows:
            batch = await self._find_and_mark(ended, min(limit, WORKFLOWS_AT_ONCE), now)
            if not batch:
                break
            pruned += await self._delete(batch, now)
        return pruned

    async def _find_and_mark(self, ended: Document, limit: int, now: datetime) -> list[_Doomed]:
        batch = await self._find(transitions.left_behind(), limit, now)
        if len(batch) < limit:
            found = await self._find(ended, limit - len(batch), now)
            if found:
                mark = transitions.mark(now)
                each = [UpdateMany(these | ended, mark) for these in self._together(found)]
                await write_each(self._workflows, each)
            batch += found
        return batch

    async def _find(self, meant: Document, limit: int, now: datetime) -> list[_Doomed]:
        meant = meant | self._unreadable.excluded(now)

        def look(workflows: AsyncCollection[Any], count: int) -> Cursor:
            found = workflows.find(meant, {wf.WORKFLOW_ID: 1}, batch_size=count)
            return found.hint(BY_DUE).limit(count)

        found, unreadable = await read_first(self._workflows, look, _read_workflow, limit)
        for document in unreadable:
            self._unreadable.report(document, "it is not deleted")
        return found

    async def _delete(self, batch: Iterable[_Doomed], now: datetime) -> Pruned:
        doomed = {workflow.workflow_id: workflow for workflow in batch}
        deleted = [0 for _ in self._records]
        is_more = True
        while is_more and doomed:
            parts = [await self._read(collection, doomed, now) for collection in self._records]
            is_more = any(is_full for _, is_full in parts)
            await self._keep_to_marked(doomed)
            for place, collection in enumerate(self._records):
                records = [record for record in parts[place][0] if record.workflow_id in doomed]
                each = [DeleteMany(these) for these in self._together(records)]
                deleted[place] += await _delete_each(collection, each)
        marked = [these | transitions.marked() for these in self._together(doomed.values())]
        gone = await _delete_each(self._workflows, [DeleteMany(these) for these in marked])
        steps, naps, messages = deleted
        return Pruned(workflows=gone, steps=steps, naps=naps, messages=messages)

    async def _read(
        self, collection: AsyncCollection[Document], doomed: dict[str, _Doomed], now: datetime
    ) -> tuple[list[_Doomed], bool]:
        """Some records of these workflows, and whether there may be more.

        A workflow with an unreadable record is taken out, with what is left of it: not all of it
        could be deleted.
        """
        theirs = {wf.WORKFLOW_ID: {"$in": list(doomed), "$not": {"$type": "array"}}}

        def query(records: AsyncCollection[Any]) -> Cursor:
            found = records.find(theirs, {wf.WORKFLOW_ID: 1}, batch_size=RECORDS_AT_ONCE)
            return found.limit(RECORDS_AT_ONCE)

        found, unreadable = await read_each(collection, query, _read_record)
        for document in unreadable:
            spared = doomed.pop(str(document.error.document_id), None)
            if spared is not None:
                self._unreadable.set_aside(Unreadable(key=spared.key, error=document.error), now)
        return found, len(found) + len(unreadable) >= RECORDS_AT_ONCE

    def _together(self, doomed: Collection[_Doomed]) -> list[Document]:
        """Match them, each time as many as one command may change: behind a router one workflow."""
        if not self._is_routed:
            return [_these(doomed)] if doomed else []
        parts: dict[str, list[_Doomed]] = {}
        for each in doomed:
            parts.setdefault(each.workflow_id, []).append(each)
        return [_these(part) for part in parts.values()]

    async def _keep_to_marked(self, doomed: dict[str, _Doomed]) -> None:
        """Take out what is not marked for deletion, or not there any more."""
        marked = _these(doomed.values()) | transitions.marked()
        found = self._workflows.find(marked, {wf.WORKFLOW_ID: 1})
        left = {workflow[wf.WORKFLOW_ID] async for workflow in found}
        for workflow_id in doomed.keys() - left:
            del doomed[workflow_id]


def _read_workflow(document: Document) -> _Doomed:
    return _Doomed(key=document["_id"], workflow_id=wf.to_workflow_id(document))


def _read_record(document: Document) -> _Doomed:
    return _Doomed(key=document["_id"], workflow_id=document[wf.WORKFLOW_ID])


def _these(doomed: Collection[_Doomed]) -> Document:
    return {
        wf.WORKFLOW_ID: transitions.one_of(sorted({each.workflow_id for each in doomed})),
        "_id": {"$in": [each.key for each in doomed]},
    }


async def _delete_each(collection: AsyncCollection[Document], deletes: Sequence[DeleteMany]) -> int:
    return (await write_each(collection, deletes)).deleted_count if deletes else 0
