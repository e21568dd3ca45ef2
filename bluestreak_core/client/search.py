"""Looking at all workflows, and deleting those that nobody will ask for any more."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Collection, Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Literal

from bluestreak_core.argument import check_id, check_limit, has_real_type, to_instant
from bluestreak_core.client.timeline import Timeline
from bluestreak_core.errors import InvalidArgument, WorkflowNotFound
from bluestreak_core.model import Status, Workflow
from bluestreak_core.store import (
    ENDED,
    CountBy,
    ListPosition,
    Order,
    Pruned,
    Query,
    Store,
    SupportsPruning,
    SupportsSearch,
    WorkflowSummary,
    require,
)
from bluestreak_core.store.query import from_cursor, to_cursor

_PAGE = 200
_PRUNED_AT_ONCE = 500
_MILLISECOND = timedelta(milliseconds=1)
_LAST = datetime.max.replace(microsecond=999_000, tzinfo=UTC)
"""The last instant that can be stored."""


class Search:
    """The part of a `Client` that looks at more than one workflow, or at all of one."""

    _store: Store

    _check_open: Callable[[str], None]

    def list(
        self,
        *,
        status: str | Collection[str] | None = None,
        handler_id: str | None = None,
        id_prefix: str | None = None,
        created: tuple[datetime | None, datetime | None] | None = None,
        order: Literal["newest", "oldest", "id"] | None = None,
        limit: int | None = None,
        after: str | None = None,
    ) -> AsyncIterator[WorkflowSummary]:
        """The workflows that fulfil all that is given, one by one, without inputs and results.

        `status` is one `Status` or several. `created` is from when, and until before when; either
        may be None. What the JavaScript library created counts as the oldest, and is in no range.
        `order` is `"newest"` first, `"oldest"` first, or by `"id"`; that is what it is with an
        `id_prefix` unless it is given, and the newest first otherwise.

        With `after`, the `cursor` of a summary in a list of the same order, it goes on behind that.
        Whatever comes, goes and changes meanwhile, no workflow is listed twice, and none left out
        that is there all the time and fulfils what is asked all the time. But with several states,
        `MongoStore` on a standalone server may leave out one that changes its state just then.

        Raises `InvalidArgument`, `InvalidId` and `Unsupported` at once, and what a store raises
        while it is iterated over. Documents that cannot be read are passed over, and logged.
        """
        store = self._searching("list()")
        created_from, created_until = _to_range("created", created)
        default = Order.NEWEST if id_prefix is None else Order.ID
        query = Query(
            statuses=None if status is None else _to_statuses("status", status, tuple(Status)),
            handler_id=None if handler_id is None else check_id("handler id", handler_id),
            id_prefix=None if id_prefix is None else check_id("id_prefix", id_prefix),
            created_from=created_from,
            created_until=created_until,
            order=_to_order("order", order, default),
        )
        position = _to_position("after", after, query.order)
        check = partial(self._check_open, "list()")
        return _listed(store, query, position, check_limit("limit", limit), check)

    async def count(self, by: Literal["status", "handler_id"] = "status") -> dict[str, int]:
        """How many workflows there are by status, each of which is a key, or by handler id.

        It reads an index of all of them, but no workflow: a second or two for a million. What is
        just being deleted is counted until it is gone. Raises `InvalidArgument` and `Unsupported`.
        """
        store = self._searching("count()")
        if not has_real_type(by, str) or by not in tuple(CountBy):
            raise InvalidArgument("by", by, "expected 'status' or 'handler_id'")
        count_by = CountBy(by)
        counts = await store.count(count_by)
        if count_by is CountBy.HANDLER_ID:
            return dict(sorted(counts.items()))
        return {status.value: counts.get(status.value, 0) for status in Status}

    async def describe(self, workflow_id: str) -> Timeline:
        """A workflow with its steps, naps and failures, and what has happened to it in order.

        Print it. Nothing of it is cut short in the object, and all of it is loaded. Raises
        `InvalidId`, `Unsupported` and `WorkflowNotFound`.
        """
        store = self._searching("describe()")
        workflow_id = check_id("workflow id", workflow_id)
        workflow = await self._find_unpruned(workflow_id)
        records = await store.records(workflow_id)
        if workflow.status.ended:
            await self._find_unpruned(workflow_id)  # or some of the records may have been deleted
        return Timeline.of(workflow, records)

    async def prune(
        self,
        *,
        ended_before: datetime,
        statuses: Collection[str] = ENDED,
        limit: int | None = None,
    ) -> Pruned:
        """Delete what ended before an instant, in one of these states, with steps and naps.

        All that is left of such a workflow is that its id is free again. Leave some time, a lease
        at least, in which a worker that has lost its claim may still record what it was at. What
        the JavaScript library has ended did so when its last lease ended.

        It deletes in batches, which block nobody, and stops at `limit` workflows. What is about to
        be deleted cannot be retried any more. Broken off anywhere, it is gone on with by the next
        call, whatever that one is for. Any process may do it, and several at once. Returns how much
        it has deleted.

        Raises `InvalidArgument`, before anything is deleted, and `Unsupported`.
        """
        self._check_open("prune()")
        store = require(self._store, SupportsPruning, "prune()")
        until = to_instant("ended_before", ended_before)
        ended = _to_statuses("statuses", statuses, ENDED)
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

    async def _find_unpruned(self, workflow_id: str) -> Workflow:
        workflow = await self._store.find_workflow(workflow_id)
        if workflow is None or workflow.pruned_at is not None:
            raise WorkflowNotFound(workflow_id)
        return workflow

    def _searching(self, call: str) -> SupportsSearch:
        self._check_open(call)
        return require(self._store, SupportsSearch, call)


async def _listed(
    store: SupportsSearch,
    query: Query,
    after: ListPosition | None,
    limit: int | None,
    check: Callable[[], None],
) -> AsyncIterator[WorkflowSummary]:
    left = limit
    while left is None or left > 0:
        check()  # it may be iterated over in another event loop than it was made in
        size = _PAGE if left is None else min(_PAGE, left)
        page = await store.find_page(query, after, size)
        for summary in page:
            after = ListPosition.of(summary)
            yield replace(summary, cursor=to_cursor(after, query.order))
        if len(page) < size:
            break
        left = None if left is None else left - size


def _to_statuses(name: str, value: object, allowed: tuple[Status, ...]) -> frozenset[Status]:
    """Some states, given as one or several."""
    known = {status.value: status for status in allowed}
    given = [value] if has_real_type(value, str) else _members(value)
    plain = [str.__str__(one) for one in given if has_real_type(one, str)]
    if not plain or len(plain) < len(given) or not known.keys() >= set(plain):
        raise InvalidArgument(name, value, f"expected one or several of {', '.join(allowed)}")
    return frozenset(known[one] for one in plain)


def _members(value: object) -> list[object]:
    """What a collection holds; nothing if it is none, or a mapping, such as `{"$ne": ...}`."""
    kind = type(value)  # `isinstance` would believe what a mock says of itself
    if not issubclass(kind, Collection) or issubclass(kind, Mapping):
        return []
    try:
        return list(value)  # type: ignore[call-overload, no-any-return]
    except Exception:  # noqa: BLE001 - a collection of somebody's may raise anything
        return []


def _to_range(name: str, value: object) -> tuple[datetime | None, datetime | None]:
    """From when, and until before when."""
    if value is None:
        return None, None
    expected = "expected two instants, from and until, or None for either"
    if not (has_real_type(value, tuple) or has_real_type(value, list)):
        raise InvalidArgument(name, value, expected)
    bounds = [None if one is None else _to_bound(name, one) for one in value]
    if len(bounds) != 2:  # noqa: PLR2004 - from and until
        raise InvalidArgument(name, value, expected)
    return bounds[0], bounds[1]


def _to_bound(name: str, value: object) -> datetime:
    """An instant to compare stored ones with, which are whole milliseconds: it is rounded up."""
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
