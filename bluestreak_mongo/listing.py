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
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from pymongo import ASCENDING, DESCENDING
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import OperationFailure

from bluestreak_core.model import Attempt, Nap, Status
from bluestreak_core.store import CountBy, ListPosition, Order, Query, Records, WorkflowSummary
from bluestreak_mongo.database import Database
from bluestreak_mongo.schema import FIRST_DATE, Document, Index
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.index import (
    BY_CREATED,
    BY_DUE,
    BY_HANDLER,
    BY_ID,
    BY_RARE_STATUS,
    RARE,
)
from bluestreak_mongo.schema.nap import to_record
from bluestreak_mongo.schema.record import Owner, recorded_at
from bluestreak_mongo.schema.step import to_step
from bluestreak_mongo.unreadable import (
    Cursor,
    Unreadable,
    UnreadableDocuments,
    read_each,
    read_first,
)

T = TypeVar("T")

FEW = 5000
"""Fewer workflows than that are sorted."""

_PAGE = 10_000
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Condition:
    """One of the things that a workflow has to fulfil, and an index that begins with it."""

    filter: Document
    index: Index

    def holds_to(self, index: Index) -> bool:
        """Whether a walk along that index meets nothing that does not fulfil it."""
        return self.filter.keys() <= _exact(index)


class Listing:
    """Answers what `bluestreak_core.query.SupportsSearch` asks."""

    def __init__(self, database: Database, unreadable: UnreadableDocuments) -> None:
        self._database = database
        self._workflows = database.workflows
        self._unreadable = unreadable
        self._has_snapshots = True

    async def page(
        self, query: Query, after: ListPosition | None, limit: int
    ) -> list[WorkflowSummary]:
        """See `SupportsSearch.find_page`. Each stretch of an index is read by one command."""
        if query.statuses == _ALL:
            query = replace(query, statuses=None)
        conditions = _conditions(query)
        index = _ordered(query)
        rare = None
        if not all(condition.holds_to(index) for condition in conditions):
            rare = await self._rare(conditions)
        if rare is None or rare.holds_to(index):  # and so a walk reads no more than what is rare
            return await self._walked(query, index, after, limit)
        return await self._sorted(query, rare.index, after, limit)

    async def count(self, by: CountBy) -> dict[str, int]:
        """See `SupportsSearch.count`. It reads an index, and no document, so marks are not seen."""
        field, index = _COUNTED[by]
        each: Document = {"$group": {"_id": f"${field}", "n": {"$sum": 1}}}

        def query(workflows: AsyncCollection[Any]) -> Cursor:
            return workflows.aggregate([each], hint=dict(index))

        found, _ = await read_each(self._database.tolerant_workflows, query, dict)
        return {row["_id"]: row["n"] for row in found if isinstance(row["_id"], str)}

    async def records(self, workflow_id: str) -> Records:
        """See `SupportsSearch.records`."""
        key = {wf.WORKFLOW_ID: workflow_id}
        workflow = await self._workflows.find_one(key, {wf.CREATED_AT: 1})
        owner = Owner.created(workflow_id, (workflow or {}).get(wf.CREATED_AT))
        steps = await self._recorded(self._database.steps, owner, to_step)
        naps = await self._recorded(self._database.naps, owner, to_record)
        return Records(
            steps=tuple(steps),
            naps=tuple(one for one in naps if isinstance(one, Nap)),
            attempts=tuple(one for one in naps if isinstance(one, Attempt)),
        )

    # Pages -------------------------------------------------------------------------------------

    async def _rare(self, conditions: Sequence[_Condition]) -> _Condition | None:
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
        meant = [*_meant(query), {"$or": _segments(query.order, after)}]
        may_move = _may_move(query, index)

        def look(workflows: AsyncCollection[Any], count: int) -> Cursor:
            stages: list[Document] = [
                {"$match": {"$and": meant}},
                {"$project": _FIELDS},
                *(_ONCE if may_move else ()),
                {"$sort": _sort(query.order)},
                {"$limit": count},
            ]
            return workflows.aggregate(stages, hint=dict(index))

        return await self._read(look, limit, in_snapshot=may_move)

    async def _walked(
        self, query: Query, index: Index, after: ListPosition | None, limit: int
    ) -> list[WorkflowSummary]:
        """Read an index in its order, one stretch of it after the other."""
        found: list[WorkflowSummary] = []
        for segment in _segments(query.order, after):
            # At the root: in an `$and`, it would not occur to the server to use a partial index.
            meant = {"$or": [{"$and": [*_meant(part), segment]} for part in _parts(query, index)]}

            def look(
                workflows: AsyncCollection[Any], count: int, meant: Document = meant
            ) -> Cursor:
                cursor = workflows.find(meant, _FIELDS, batch_size=count)
                return cursor.sort(list(_sort(query.order).items())).hint(index).limit(count)

            in_snapshot = _may_move(query, index)
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
        """The first that can be read; where no snapshot is to be had, without one."""
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
        self._pass_over(unreadable)
        return found

    # Records -----------------------------------------------------------------------------------

    async def _recorded(
        self,
        collection: AsyncCollection[Document],
        owner: Owner,
        read: Callable[[Document], T],
    ) -> list[T]:
        """What one workflow has recorded, and not a deleted one of its id, the oldest first."""

        def query(records: AsyncCollection[Any]) -> Cursor:
            return records.find({wf.WORKFLOW_ID: owner.workflow_id}, batch_size=_PAGE)

        def dated(document: Document) -> tuple[tuple[datetime, str], T] | None:
            if not owner.owns(document):
                return None
            return (recorded_at(document), str(document["_id"])), read(document)

        found, unreadable = await read_each(collection, query, dated)
        self._pass_over(unreadable)
        own = [one for one in found if one is not None]
        return [record for _, record in sorted(own, key=lambda one: one[0])]

    def _pass_over(self, unreadable: Sequence[Unreadable]) -> None:
        for document in unreadable:
            self._unreadable.report(document, "it is passed over")


def _parts(query: Query, index: Index) -> list[Query]:
    """Queries that a walk along an index has a stretch of its own for; together, the whole."""
    if query.statuses is None or index != BY_RARE_STATUS:
        return [query]
    return [replace(query, statuses=frozenset({status})) for status in sorted(query.statuses)]


def _may_move(query: Query, index: Index) -> bool:
    """Whether what a query means may be at another place of an index from one moment to the next.

    The index of the rare states keeps a workflow where it is for as long as it is in one of them.
    """
    return index == BY_DUE or len(_parts(query, index)) > 1


def _meant(query: Query) -> list[Document]:
    """What a workflow has to fulfil, and not to be marked for deletion."""
    return [condition.filter for condition in _conditions(query)] + [{wf.PRUNED_AT: None}]


def _conditions(query: Query) -> list[_Condition]:
    """The things that a workflow has to fulfil."""
    conditions: list[_Condition] = []

    def add(filter: Document, index: Index) -> None:
        conditions.append(_Condition(filter=filter, index=index))

    if query.statuses is not None:
        one_of = [status.value for status in sorted(query.statuses)]
        add({wf.STATUS: {"$in": one_of}}, BY_DUE)
    if query.handler_id is not None:
        add({wf.HANDLER_ID: query.handler_id}, BY_HANDLER)
    if query.id_prefix is not None:
        add({wf.WORKFLOW_ID: _with_prefix(query.id_prefix)}, BY_ID)
    if query.has_range:
        until = {} if query.created_until is None else {"$lt": query.created_until}
        add({wf.CREATED_AT: {"$gte": query.created_from or FIRST_DATE} | until}, BY_CREATED)
    return conditions


def _with_prefix(prefix: str) -> Document:
    """Matches the texts that begin so, which are a stretch of an index."""
    stem = prefix.rstrip("\U0010ffff")
    if not stem:
        return {"$gte": prefix}
    after = ord(stem[-1]) + 1
    if after == 0xD800:  # where no characters are  # noqa: PLR2004
        after = 0xE000
    return {"$gte": prefix, "$lt": stem[:-1] + chr(after)}


def _ordered(query: Query) -> Index:
    """The index to walk for an order: of those that have it, the one that holds the least."""
    if query.order is Order.ID:
        return BY_ID
    if query.statuses is not None and query.statuses <= set(RARE):
        return BY_RARE_STATUS
    return BY_CREATED if query.handler_id is None else BY_HANDLER


def _exact(index: Index) -> set[str]:
    """The fields by which a walk along an index holds to what is meant."""
    fields = [field for field, _ in index]
    last = wf.CREATED_AT if wf.CREATED_AT in fields else wf.WORKFLOW_ID
    return set(fields[: fields.index(last) + 1])


def _sort(order: Order) -> dict[str, int]:
    match order:
        case Order.ID:
            return {wf.WORKFLOW_ID: ASCENDING}
        case Order.OLDEST:
            return {wf.CREATED_AT: ASCENDING, wf.WORKFLOW_ID: ASCENDING}
        case Order.NEWEST:
            return {wf.CREATED_AT: DESCENDING, wf.WORKFLOW_ID: DESCENDING}


def _segments(order: Order, after: ListPosition | None) -> list[Document]:
    """Match what stands behind a position: stretches of an index, in their order.

    A comparison with a date leaves out what has none, so that is a stretch of its own.
    """
    undated: Document = {wf.CREATED_AT: None}
    if after is None:
        return [{}]
    behind = "$lt" if order is Order.NEWEST else "$gt"
    next_id = {wf.WORKFLOW_ID: {behind: after.workflow_id}}
    if order is Order.ID:
        return [next_id]
    same = {wf.CREATED_AT: after.created_at} | next_id
    if after.created_at is not None:
        later = {wf.CREATED_AT: {behind: after.created_at}}
        return [same, later, undated] if order is Order.NEWEST else [same, later]
    dated = {wf.CREATED_AT: {"$gte": FIRST_DATE}}
    return [same] if order is Order.NEWEST else [same, dated]
