"""How a query is answered: its conditions, the index to walk, and where a page begins."""

from __future__ import annotations

from dataclasses import dataclass, replace

from pymongo import ASCENDING, DESCENDING

from bluestreak_core.store import ListPosition, Order, Query
from bluestreak_mongo.schema import FIRST_DATE, Document, Index
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.index import (
    BY_CREATED,
    BY_DUE,
    BY_HANDLER,
    BY_ID,
    BY_PARENT,
    BY_RARE_STATUS,
    BY_WAITING,
    PARENT_ID,
    RARE,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Condition:
    """A condition that a workflow has to fulfil, and an index that begins with it."""

    filter: Document
    index: Index

    def holds_to(self, index: Index) -> bool:
        """Whether a walk along that index meets nothing that does not fulfil it."""
        return self.filter.keys() <= _exact(index)


def stretches_of(query: Query, index: Index) -> list[Query]:
    """The query in parts, each of which is one stretch of an index."""
    if query.statuses is None or index != BY_RARE_STATUS:
        return [query]
    return [replace(query, statuses=frozenset({status})) for status in sorted(query.statuses)]


def may_move(query: Query, index: Index) -> bool:
    """Whether what a query means may be at another place of an index from one moment to the next.

    The index of the rare states keeps a workflow where it is for as long as it is in one of them.
    """
    return index == BY_DUE or len(stretches_of(query, index)) > 1


def filters_of(query: Query) -> list[Document]:
    """The filters that match its conditions, and no workflow that is marked for deletion."""
    return [condition.filter for condition in conditions_of(query)] + [{wf.PRUNED_AT: None}]


def conditions_of(query: Query) -> list[Condition]:
    """The conditions that a workflow has to fulfil."""
    conditions: list[Condition] = []

    def add(filter: Document, index: Index) -> None:
        conditions.append(Condition(filter=filter, index=index))

    if query.statuses is not None:
        one_of = [status.value for status in sorted(query.statuses)]
        add({wf.STATUS: {"$in": one_of}}, BY_DUE)
    if query.handler_id is not None:
        add({wf.HANDLER_ID: query.handler_id}, BY_HANDLER)
    if query.id_prefix is not None:
        add({wf.WORKFLOW_ID: _with_prefix(query.id_prefix)}, BY_ID)
    if query.waiting_for is not None:
        add({wf.WAITING_FOR: query.waiting_for}, BY_WAITING)
    if query.parent is not None:
        add({PARENT_ID: query.parent}, BY_PARENT)
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


def index_to_walk(query: Query) -> Index:
    """The index to walk for an order: of those that have it, the one that holds the least."""
    if query.order is Order.ID:
        return BY_ID
    if query.parent is not None:
        return BY_PARENT
    if query.waiting_for is not None:
        return BY_WAITING
    if query.statuses is not None and query.statuses <= set(RARE):
        return BY_RARE_STATUS
    return BY_CREATED if query.handler_id is None else BY_HANDLER


def _exact(index: Index) -> set[str]:
    """The fields by which a walk along an index holds to what is meant."""
    fields = [field for field, _ in index]
    last = wf.CREATED_AT if wf.CREATED_AT in fields else wf.WORKFLOW_ID
    return set(fields[: fields.index(last) + 1])


def sort_of(order: Order) -> dict[str, int]:
    """The fields to sort by, and in which direction."""
    match order:
        case Order.ID:
            return {wf.WORKFLOW_ID: ASCENDING}
        case Order.OLDEST:
            return {wf.CREATED_AT: ASCENDING, wf.WORKFLOW_ID: ASCENDING}
        case Order.NEWEST:
            return {wf.CREATED_AT: DESCENDING, wf.WORKFLOW_ID: DESCENDING}


def behind(order: Order, after: ListPosition | None) -> list[Document]:
    """Filters for what comes after a position: stretches of an index, in their order.

    A comparison with a date leaves out what has none, so that is a stretch of its own.
    """
    undated: Document = {wf.CREATED_AT: None}
    if after is None:
        return [{}]
    comparison = "$lt" if order is Order.NEWEST else "$gt"
    next_id = {wf.WORKFLOW_ID: {comparison: after.workflow_id}}
    if order is Order.ID:
        return [next_id]
    same = {wf.CREATED_AT: after.created_at} | next_id
    if after.created_at is not None:
        later = {wf.CREATED_AT: {comparison: after.created_at}}
        return [same, later, undated] if order is Order.NEWEST else [same, later]
    dated = {wf.CREATED_AT: {"$gte": FIRST_DATE}}
    return [same] if order is Order.NEWEST else [same, dated]
