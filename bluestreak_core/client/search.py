"""Finding workflows, and deleting those that have ended."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Literal

from bluestreak_core import machine
from bluestreak_core.argument import check_id, check_limit, has_real_type, to_instant
from bluestreak_core.client.open_store import OpenStore
from bluestreak_core.client.timeline import Timeline
from bluestreak_core.errors import InvalidArgument, WorkflowNotFound
from bluestreak_core.message import Message, to_message
from bluestreak_core.model import Status, Workflow
from bluestreak_core.run.settling import settle_left
from bluestreak_core.store import (
    ENDED,
    CountBy,
    ListPosition,
    Order,
    Pruned,
    Query,
    SupportsChildren,
    SupportsPruning,
    SupportsSearch,
    WorkflowSummary,
    supports,
)
from bluestreak_core.store.query import from_cursor, to_cursor

_PAGE = 200
_CHILDREN = 1000
_PRUNED_AT_ONCE = 500
_MILLISECOND = timedelta(milliseconds=1)
_LAST = datetime.max.replace(microsecond=999_000, tzinfo=UTC)
"""The last instant that can be stored."""


class Search:
    """The calls of a client that look at more than one workflow, or at all of one; see `Client`."""

    def __init__(self, store: OpenStore) -> None:
        self._store = store

    def list(
        self,
        *,
        status: str | Collection[str] | None,
        handler_id: str | None,
        id_prefix: str | None,
        waiting_for: Message[Any] | str | None,
        parent: str | None,
        created: tuple[datetime | None, datetime | None] | None,
        order: Literal["newest", "oldest", "id"] | None,
        limit: int | None,
        after: str | None,
    ) -> AsyncIterator[WorkflowSummary]:
        """The workflows that match everything given."""
        store = self._store.require_for_later(SupportsSearch, "list()")
        created_from, created_until = _to_range("created", created)
        default = Order.NEWEST if id_prefix is None else Order.ID
        query = Query(
            statuses=None if status is None else _to_statuses("status", status, tuple(Status)),
            handler_id=None if handler_id is None else check_id("handler id", handler_id),
            id_prefix=None if id_prefix is None else check_id("id_prefix", id_prefix),
            waiting_for=(
                None if waiting_for is None else to_message("waiting_for", waiting_for).name
            ),
            parent=None if parent is None else check_id("parent", parent),
            created_from=created_from,
            created_until=created_until,
            order=_to_order("order", order, default),
        )
        position = _to_position("after", after, query.order)
        check = partial(self._store.check, "list()")
        return _listed(store, query, position, check_limit("limit", limit), check)

    async def count(self, by: Literal["status", "handler_id"]) -> dict[str, int]:
        """The number of workflows by status or by handler id."""
        store = self._store.require(SupportsSearch, "count()")
        if not has_real_type(by, str) or by not in tuple(CountBy):
            raise InvalidArgument("by", by, "expected 'status' or 'handler_id'")
        count_by = CountBy(by)
        counts = await store.count(count_by)
        if count_by is CountBy.HANDLER_ID:
            return dict(sorted(counts.items()))
        return {status.value: counts.get(status.value, 0) for status in Status}

    async def describe(self, workflow_id: str) -> Timeline:
        """A workflow with all its records."""
        store = self._store.require(SupportsSearch, "describe()")
        workflow_id = check_id("workflow id", workflow_id)
        workflow = await self._find_unpruned(workflow_id)
        records = await store.records(workflow_id)
        children = await self._find_children(store, workflow)
        if workflow.status.ended:
            await self._find_unpruned(workflow_id)  # a prune may have deleted some of the records
        return Timeline.of(workflow, records, children)

    async def prune(
        self, *, ended_before: datetime, statuses: Collection[str], limit: int | None
    ) -> Pruned:
        """Delete workflows that ended before an instant, batch by batch."""
        store = self._store.require(SupportsPruning, "prune()")
        until = to_instant("ended_before", ended_before)
        ended = _to_statuses("statuses", statuses, ENDED)
        await settle_left(self._store.get("prune()"))
        left = check_limit("limit", limit)
        pruned = Pruned()
        while left is None or left > pruned.workflows:
            size = (
                _PRUNED_AT_ONCE if left is None else min(_PRUNED_AT_ONCE, left - pruned.workflows)
            )
            batch = await store.prune(until, ended, size, self._store.clock.now())
            pruned += batch
            if not batch.workflows:
                break
        return pruned

    async def _find_children(
        self, store: SupportsSearch, workflow: Workflow
    ) -> Sequence[WorkflowSummary]:
        if not supports(self._store.get("describe()"), SupportsChildren):
            return []
        query = Query(parent=workflow.workflow_id, order=Order.OLDEST)
        page = await store.find_page(query, None, _CHILDREN)
        return [each for each in page if each.parent and machine.is_parent(each.parent, workflow)]

    async def _find_unpruned(self, workflow_id: str) -> Workflow:
        workflow = await self._store.get("describe()").find_workflow(workflow_id)
        if workflow is None or workflow.pruned_at is not None:
            raise WorkflowNotFound(workflow_id)
        return workflow


async def _listed(
    store: SupportsSearch,
    query: Query,
    after: ListPosition | None,
    limit: int | None,
    check: Callable[[], None],
) -> AsyncIterator[WorkflowSummary]:
    left = limit
    while left is None or left > 0:
        check()  # here, since another event loop may iterate than the one that called `list`
        size = _PAGE if left is None else min(_PAGE, left)
        page = await store.find_page(query, after, size)
        for summary in page:
            after = ListPosition.of(summary)
            yield replace(summary, cursor=to_cursor(after, query.order))
        if len(page) < size:
            break
        left = None if left is None else left - size


def _to_statuses(name: str, value: object, allowed: tuple[Status, ...]) -> frozenset[Status]:
    """The statuses of an argument that is one or several."""
    known = {status.value: status for status in allowed}
    given = [value] if has_real_type(value, str) else _members(value)
    plain = [str.__str__(status) for status in given if has_real_type(status, str)]
    if not plain or len(plain) < len(given) or not known.keys() >= set(plain):
        raise InvalidArgument(name, value, f"expected one or several of {', '.join(allowed)}")
    return frozenset(known[status] for status in plain)


def _members(value: object) -> list[object]:
    """The members of a collection; none for anything else, such as the mapping `{"$ne": ...}`."""
    kind = type(value)  # `isinstance` would believe what a mock says of itself
    if not issubclass(kind, Collection) or issubclass(kind, Mapping):
        return []
    try:
        return list(value)  # type: ignore[call-overload, no-any-return]
    except Exception:  # noqa: BLE001 - a collection of the caller's may raise anything
        return []


def _to_range(name: str, value: object) -> tuple[datetime | None, datetime | None]:
    """The first instant of a range, and the first one behind it."""
    if value is None:
        return None, None
    expected = "expected two instants, from and until, or None for either"
    if not (has_real_type(value, tuple) or has_real_type(value, list)):
        raise InvalidArgument(name, value, expected)
    bounds = [None if bound is None else _to_bound(name, bound) for bound in value]
    if len(bounds) != 2:  # noqa: PLR2004 - from and until
        raise InvalidArgument(name, value, expected)
    return bounds[0], bounds[1]


def _to_bound(name: str, value: object) -> datetime:
    """An instant to compare with stored ones, which are whole milliseconds: it is rounded up."""
    instant = to_instant(name, value)
    was_cut = has_real_type(value, datetime) and datetime.__gt__(value, instant)
    return instant + _MILLISECOND if was_cut and instant < _LAST else instant


def _to_order(name: str, value: object, default: Order) -> Order:
    if value is None:
        return default
    if not has_real_type(value, str) or str.__str__(value) not in tuple(Order):
        raise InvalidArgument(name, value, f"expected one of {', '.join(Order)}")
    return Order(str.__str__(value))


def _to_position(name: str, value: object, order: Order) -> ListPosition | None:
    if value is None:
        return None
    if not has_real_type(value, str):
        raise InvalidArgument(name, value, "expected the cursor of a summary")
    return from_cursor(name, str.__str__(value), order, partial(check_id, name))
