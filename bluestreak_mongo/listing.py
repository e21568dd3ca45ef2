"""Finding and counting workflows, each question by an index that leads to the answer.

A page is read in one of two ways. The index that has the order is walked from where the page
begins, if it holds nothing but what is meant. Otherwise, where few workflows fulfil one of the
conditions, those are read and sorted, without their values; and where many do, the index that has
the order is walked all the same, and what is not meant is passed over.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any, TypeVar

from bson import ObjectId
from pymongo import ASCENDING, DESCENDING
from pymongo.asynchronous.collection import AsyncCollection

from bluestreak_core.model import Attempt, Nap, Status
from bluestreak_core.query import Count, Order, Position, Query, Records, WorkflowSummary
from bluestreak_mongo import documents as doc
from bluestreak_mongo.database import Database
from bluestreak_mongo.documents import FIRST_DATE, Document, Index
from bluestreak_mongo.stray import Cursor, Stray, Strays, read_each, read_first

T = TypeVar("T")

FEW = 5000
"""Fewer workflows than that are sorted."""

_PAGE = 10_000
_COUNTED = {
    Count.STATUS: (doc.STATUS, doc.BY_DUE),
    Count.HANDLER_ID: (doc.HANDLER_ID, doc.BY_HANDLER),
}
_FIELDS = dict.fromkeys(doc.SUMMARY_FIELDS, 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Condition:
    """One of the things that a workflow has to fulfil, and an index that begins with it."""

    filter: Document
    index: Index


class Listing:
    """Answers what `bluestreak_core.query.Searches` asks."""

    def __init__(self, database: Database, strays: Strays) -> None:
        self._database = database
        self._workflows = database.workflows
        self._strays = strays

    async def page(self, query: Query, after: Position | None, limit: int) -> list[WorkflowSummary]:
        """See `Searches.find_page`. For several states, their pages are merged."""
        found: list[WorkflowSummary] = []
        for part in _parts(query):
            found += await self._page(part, after, limit)
        return query.merged(found, after, limit)

    async def count(self, by: Count) -> dict[str, int]:
        """See `Searches.count`. It reads an index, and no document."""
        field, index = _COUNTED[by]
        each: Document = {"$group": {"_id": f"${field}", "n": {"$sum": 1}}}

        def query(workflows: AsyncCollection[Any]) -> Cursor:
            return workflows.aggregate([each], hint=dict(index))

        found, _ = await read_each(self._database.tolerant_workflows, query, dict)
        return {row["_id"]: row["n"] for row in found if isinstance(row["_id"], str)}

    async def records(self, workflow_id: str) -> Records:
        """See `Searches.records`."""
        steps = await self._recorded(self._database.steps, workflow_id, doc.to_step)
        naps = await self._recorded(self._database.naps, workflow_id, _to_record)
        return Records(
            steps=tuple(steps),
            naps=tuple(one for one in naps if isinstance(one, Nap)),
            attempts=tuple(one for one in naps if isinstance(one, Attempt)),
        )

    # Pages -------------------------------------------------------------------------------------

    async def _page(
        self, query: Query, after: Position | None, limit: int
    ) -> list[WorkflowSummary]:
        conditions = _conditions(query)
        index = _ordered(query)
        if any(not condition.filter.keys() <= _exact(index) for condition in conditions):
            for condition in conditions:
                if await self._is_rare(condition):
                    return await self._sorted(query, conditions, condition.index, after, limit)
        return await self._walked(query, conditions, index, after, limit)

    async def _is_rare(self, condition: _Condition) -> bool:
        found = await self._workflows.count_documents(
            condition.filter, limit=FEW, hint=condition.index
        )
        return found < FEW

    async def _sorted(
        self,
        query: Query,
        conditions: Sequence[_Condition],
        index: Index,
        after: Position | None,
        limit: int,
    ) -> list[WorkflowSummary]:
        """Read all that an index leads to; the server sorts what a list shows of them."""
        meant = [condition.filter for condition in conditions]
        meant.append({"$or": _segments(query.order, after)})

        def look(workflows: AsyncCollection[Any], count: int) -> Cursor:
            stages: list[Document] = [
                {"$match": {"$and": meant}},
                {"$project": _FIELDS},
                {"$sort": _sort(query.order)},
                {"$limit": count},
            ]
            return workflows.aggregate(stages, hint=dict(index))

        return await self._read(look, limit)

    async def _walked(
        self,
        query: Query,
        conditions: Sequence[_Condition],
        index: Index,
        after: Position | None,
        limit: int,
    ) -> list[WorkflowSummary]:
        """Read an index in its order, one stretch of it after the other."""
        found: list[WorkflowSummary] = []
        for segment in _segments(query.order, after):
            meant = [condition.filter for condition in conditions] + [segment]

            def look(
                workflows: AsyncCollection[Any], count: int, meant: list[Document] = meant
            ) -> Cursor:
                cursor = workflows.find({"$and": meant}, _FIELDS, batch_size=count)
                return cursor.sort(list(_sort(query.order).items())).hint(index).limit(count)

            found += await self._read(look, limit - len(found))
            if len(found) == limit:
                break
        return found

    async def _read(
        self, look: Callable[[AsyncCollection[Any], int], Cursor], limit: int
    ) -> list[WorkflowSummary]:
        found, strays = await read_first(self._workflows, look, doc.to_summary, limit)
        self._pass_over(strays)
        return found

    # Records -----------------------------------------------------------------------------------

    async def _recorded(
        self,
        collection: AsyncCollection[Document],
        workflow_id: str,
        read: Callable[[Document], T],
    ) -> list[T]:
        """What one workflow has recorded, the oldest first."""

        def query(records: AsyncCollection[Any]) -> Cursor:
            return records.find({doc.WORKFLOW_ID: workflow_id}, batch_size=_PAGE)

        def dated(document: Document) -> tuple[tuple[datetime, str], T]:
            return _recorded_at(document), read(document)

        found, strays = await read_each(collection, query, dated)
        self._pass_over(strays)
        return [record for _, record in sorted(found, key=lambda one: one[0])]

    def _pass_over(self, strays: Sequence[Stray]) -> None:
        for stray in strays:
            self._strays.meet(stray, "it is passed over")


def _parts(query: Query) -> list[Query]:
    """Queries of one state each, or of any, which together are the whole."""
    if query.statuses is None or query.statuses == set(Status):
        return [replace(query, statuses=None)]
    return [replace(query, statuses=frozenset({status})) for status in sorted(query.statuses)]


def _conditions(query: Query) -> list[_Condition]:
    """What a workflow of one of the parts has to fulfil."""
    conditions: list[_Condition] = []

    def add(filter: Document, index: Index) -> None:
        conditions.append(_Condition(filter=filter, index=index))

    for status in query.statuses or ():
        add({doc.STATUS: status.value}, doc.BY_DUE)
    if query.handler_id is not None:
        add({doc.HANDLER_ID: query.handler_id}, doc.BY_HANDLER)
    if query.id_prefix is not None:
        add({doc.WORKFLOW_ID: _with_prefix(query.id_prefix)}, doc.BY_ID)
    if query.has_range:
        until = {} if query.created_until is None else {"$lt": query.created_until}
        add({doc.CREATED_AT: {"$gte": query.created_from or FIRST_DATE} | until}, doc.BY_CREATED)
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
        return doc.BY_ID
    if query.statuses is not None and query.statuses <= set(doc.RARE):
        return doc.BY_RARE_STATUS
    return doc.BY_CREATED if query.handler_id is None else doc.BY_HANDLER


def _exact(index: Index) -> set[str]:
    """The fields by which a walk along an index holds to what is meant."""
    fields = [field for field, _ in index]
    last = doc.CREATED_AT if doc.CREATED_AT in fields else doc.WORKFLOW_ID
    return set(fields[: fields.index(last) + 1])


def _sort(order: Order) -> dict[str, int]:
    match order:
        case Order.ID:
            return {doc.WORKFLOW_ID: ASCENDING}
        case Order.OLDEST:
            return {doc.CREATED_AT: ASCENDING, doc.WORKFLOW_ID: ASCENDING}
        case Order.NEWEST:
            return {doc.CREATED_AT: DESCENDING, doc.WORKFLOW_ID: DESCENDING}


def _segments(order: Order, after: Position | None) -> list[Document]:
    """Match what stands behind a position: stretches of an index, in their order.

    A comparison with a date leaves out what has none, so that is a stretch of its own.
    """
    undated: Document = {doc.CREATED_AT: None}
    if after is None:
        return [{}]
    behind = "$lt" if order is Order.NEWEST else "$gt"
    next_id = {doc.WORKFLOW_ID: {behind: after.workflow_id}}
    if order is Order.ID:
        return [next_id]
    same = {doc.CREATED_AT: after.created_at} | next_id
    if after.created_at is not None:
        later = {doc.CREATED_AT: {behind: after.created_at}}
        return [same, later, undated] if order is Order.NEWEST else [same, later]
    dated = {doc.CREATED_AT: {"$gte": FIRST_DATE}}
    return [same] if order is Order.NEWEST else [same, dated]


def _to_record(document: Document) -> Nap | Attempt:
    return doc.to_attempt(document) if doc.ATTEMPT in document else doc.to_nap(document)


def _recorded_at(document: Document) -> tuple[datetime, str]:
    """When a record was made; the JavaScript library's tell it by their `_id`, to the second."""
    key = document["_id"]
    saved_at = document.get(doc.SAVED_AT)
    if saved_at is None and isinstance(key, ObjectId):
        saved_at = key.generation_time
    return (saved_at if isinstance(saved_at, datetime) else FIRST_DATE), str(key)
