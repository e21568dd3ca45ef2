"""Finding and counting workflows, each question by an index that leads to the answer.

A page is read in one of two ways. The index that has the order is walked from where the page
begins, if it holds nothing but what is meant. Otherwise, where few workflows fulfil one of the
conditions, those are read and sorted, without their values; and where many do, the index that has
the order is walked all the same, and what is not meant is passed over.

What a workflow is created with never changes, but its status and when it is due do. An index by
those may show it twice while it is read, or not at all. So that is read in a snapshot, which only a
replica set has; on a standalone server what has been met twice is still listed once.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure

from bluestreak_core.model import Status
from bluestreak_core.store import CountBy, ListPosition, Query, WorkflowSummary
from bluestreak_mongo.database import Database
from bluestreak_mongo.driver import reads
from bluestreak_mongo.query_plan import (
    Condition,
    behind,
    conditions_of,
    filters_of,
    index_to_walk,
    may_move,
    sort_of,
    stretches_of,
)
from bluestreak_mongo.schema import Document, Index
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.index import (
    BY_DUE,
    BY_HANDLER,
)
from bluestreak_mongo.unreadable import (
    Cursor,
    UnreadableDocuments,
    read_each,
    read_first,
)

FEW = 5000
"""Fewer workflows than that are sorted."""

_COUNTED = {
    CountBy.STATUS: (wf.STATUS, BY_DUE),
    CountBy.HANDLER_ID: (wf.HANDLER_ID, BY_HANDLER),
}
_ALL = frozenset(Status)
_FIELDS = dict.fromkeys(wf.SUMMARY_FIELDS, 1)
_ONCE: list[Document] = [
    {"$group": {"_id": "$_id", "met": {"$first": "$$ROOT"}}},
    {"$replaceRoot": {"newRoot": "$met"}},
]
"""Stages that let each document pass only once."""

_NOT_A_REPLICA_SET = 123
_NO_SNAPSHOT = frozenset({_NOT_A_REPLICA_SET, 239, 246, 250, 272})
"""And SnapshotTooOld and SnapshotUnavailable, as of an index that has just been created; and
StaleChunkHistory and MigrationConflict, where a chunk has moved to another shard meanwhile.
"""


class Listing:
    """Answers what `SupportsSearch` asks."""

    def __init__(self, database: Database, unreadable: UnreadableDocuments) -> None:
        self._database = database
        self._workflows = database.workflows
        self._unreadable = unreadable
        self._has_snapshots = True

    @reads
    async def page(
        self, query: Query, after: ListPosition | None, limit: int
    ) -> list[WorkflowSummary]:
        """See `SupportsSearch.find_page`. Each stretch of an index is read by one command."""
        if query.statuses == _ALL:
            query = replace(query, statuses=None)
        conditions = conditions_of(query)
        index = index_to_walk(query)
        rare = None
        if not all(condition.holds_to(index) for condition in conditions):
            rare = await self._rare(conditions)
        if rare is None or rare.holds_to(index):  # and so a walk reads no more than what is rare
            return await self._walked(query, index, after, limit)
        return await self._sorted(query, rare.index, after, limit)

    @reads
    async def count(self, by: CountBy) -> dict[str, int]:
        """See `SupportsSearch.count`. It reads an index, and no document, so marks are not seen."""
        field, index = _COUNTED[by]
        each: Document = {"$group": {"_id": f"${field}", "n": {"$sum": 1}}}

        def query(workflows: AsyncCollection[Any]) -> Cursor:
            return workflows.aggregate([each], hint=dict(index))

        found, _ = await read_each(self._database.tolerant_workflows, query, dict)
        return {row["_id"]: row["n"] for row in found if isinstance(row["_id"], str)}

    async def _rare(self, conditions: Sequence[Condition]) -> Condition | None:
        """The first condition that few workflows fulfil."""
        for condition in conditions:
            found = await self._workflows.count_documents(
                condition.filter, limit=FEW, hint=condition.index
            )
            if found < FEW:
                return condition
        return None

    async def _sorted(
        self, query: Query, index: Index, after: ListPosition | None, limit: int
    ) -> list[WorkflowSummary]:
        """Read all that an index leads to; the server sorts what a list shows of them."""
        meant = [*filters_of(query), {"$or": behind(query.order, after)}]
        in_snapshot = may_move(query, index)

        def look(workflows: AsyncCollection[Any], count: int) -> Cursor:
            stages: list[Document] = [
                {"$match": {"$and": meant}},
                {"$project": _FIELDS},
                *(_ONCE if in_snapshot else ()),
                {"$sort": sort_of(query.order)},
                {"$limit": count},
            ]
            return workflows.aggregate(stages, hint=dict(index))

        return await self._read(look, limit, in_snapshot=in_snapshot)

    async def _walked(
        self, query: Query, index: Index, after: ListPosition | None, limit: int
    ) -> list[WorkflowSummary]:
        """Read an index in its order, one stretch of it after the other."""
        found: list[WorkflowSummary] = []
        for segment in behind(query.order, after):
            # At the root: in an `$and`, it would not occur to the server to use a partial index.
            meant = {
                "$or": [
                    {"$and": [*filters_of(part), segment]} for part in stretches_of(query, index)
                ]
            }

            def look(
                workflows: AsyncCollection[Any], count: int, meant: Document = meant
            ) -> Cursor:
                cursor = workflows.find(meant, _FIELDS, batch_size=count)
                return cursor.sort(list(sort_of(query.order).items())).hint(index).limit(count)

            in_snapshot = may_move(query, index)
            found += await self._read(look, limit - len(found), in_snapshot=in_snapshot)
            if len(found) == limit:
                break
        return found

    async def _read(
        self,
        look: Callable[[AsyncCollection[Any], int], Cursor],
        limit: int,
        *,
        in_snapshot: bool,
    ) -> list[WorkflowSummary]:
        """The first readable workflows; without a snapshot where the server has none."""
        if in_snapshot and self._has_snapshots:
            try:
                return await self._read_from(self._database.snapshot_workflows, look, limit)
            except OperationFailure as error:
                if error.code not in _NO_SNAPSHOT:
                    raise
                self._has_snapshots = error.code != _NOT_A_REPLICA_SET
        return await self._read_from(self._workflows, look, limit)

    async def _read_from(
        self,
        workflows: AsyncCollection[Document],
        look: Callable[[AsyncCollection[Any], int], Cursor],
        limit: int,
    ) -> list[WorkflowSummary]:
        found, unreadable = await read_first(workflows, look, wf.to_summary, limit)
        for document in unreadable:
            self._unreadable.report(document, "it is passed over")
        return found
