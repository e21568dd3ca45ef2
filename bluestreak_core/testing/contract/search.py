"""What `SupportsSearch` asks of a store, as a test suite; see `StoreContract`."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from typing import Protocol

import pytest

from bluestreak_core.model import (
    Attempt,
    Failure,
    Status,
)
from bluestreak_core.store import (
    CountBy,
    ListPosition,
    Order,
    Query,
    Records,
    Store,
    SupportsPruning,
    SupportsSearch,
)
from bluestreak_core.store.query import to_summary
from bluestreak_core.testing.contract.arrange import (
    ERROR,
    LEASE,
    NOW,
    SECOND,
    STATUSES,
    claimed,
    found,
    new,
    one_of_each,
)
from bluestreak_core.testing.contract.rule import Rules, rule

IDS = (
    "a",
    "aa",
    "ab",
    "b",
    "B",
    "$a",
    "a.b",
    "a%b",
    "a_b",
    "axb",
    "a\\b",
    "a*b",
    "A%B",
    "é",
    "퟿x",
    "퟿",
    "\ue000",
    "🐦",
    "\U0010ffff",
    "a\U0010ffffb",
)
QUERIES = [
    Query(
        statuses=statuses,
        handler_id=handler_id,
        id_prefix=id_prefix,
        created_from=created_from,
        created_until=created_until,
        order=order,
    )
    for statuses, handler_id, id_prefix, (created_from, created_until), order in product(
        (
            None,
            frozenset({Status.IDLE}),
            frozenset({Status.ABORTED}),
            frozenset({Status.ABORTED, Status.FAILED, Status.PAUSED}),
            frozenset({Status.FINISHED, Status.CANCELLED, Status.RUNNING}),
        ),
        (None, "h1"),
        (None, "w"),
        (
            (None, None),
            (NOW + 2 * SECOND, None),
            (NOW + SECOND, NOW + 3 * SECOND),
        ),
        Order,
    )
]


class SearchingStore(Store, SupportsSearch, SupportsPruning, Protocol):
    """A store with both powers."""


class SearchContract(Rules):
    """The tests of a store that can be searched, as a part of `StoreContract`."""

    pytestmark = pytest.mark.asyncio

    # Pages -------------------------------------------------------------------------------------

    @rule("SupportsSearch.find_page")
    async def test_no_workflows_are_an_empty_page(self, store: SearchingStore) -> None:
        for query in QUERIES:
            assert list(await store.find_page(query, None, 10)) == []

    @pytest.mark.parametrize("order", Order)
    @rule("SupportsSearch.find_page")
    async def test_a_page_has_what_is_meant_in_order(
        self, store: SearchingStore, order: Order
    ) -> None:
        workflows = await one_of_each(store)
        for query in [query for query in QUERIES if query.order is order]:
            meant = [to_summary(each) for each in workflows if query.accepts(each)]
            expected = query.page_of(meant, None, 100)
            assert list(await store.find_page(query, None, 100)) == expected, query
            assert list(await store.find_page(query, None, 3)) == expected[:3], query
            for place, summary in enumerate(expected):
                behind = await store.find_page(query, ListPosition.of(summary), 2)
                assert list(behind) == expected[place + 1 : place + 3], query

    @pytest.mark.parametrize("order", Order)
    @rule("SupportsSearch.find_page")
    async def test_a_page_begins_behind_a_position_that_nobody_has(
        self, store: SearchingStore, order: Order
    ) -> None:
        query = Query(order=order)
        workflows = await one_of_each(store)
        for workflow in workflows:
            for near in ("v", "w", "w2x", "x"):
                after = ListPosition(workflow_id=near, created_at=workflow.created_at)
                expected = query.page_of([to_summary(each) for each in workflows], after, 100)
                assert list(await store.find_page(query, after, 100)) == expected
        undated = ListPosition(workflow_id="w3")  # as the JavaScript library leaves them
        expected = query.page_of([to_summary(each) for each in workflows], undated, 100)
        assert list(await store.find_page(query, undated, 100)) == expected

    @pytest.mark.parametrize("prefix", [*IDS, "퟿xx", "A", "a%", "a_", "%", "_", "a*", "a[", "\\"])
    @rule("SupportsSearch.find_page")
    async def test_a_prefix_is_matched_character_by_character(
        self, store: SearchingStore, prefix: str
    ) -> None:
        for workflow_id in IDS:
            await store.create(new(workflow_id))
        for order in Order:
            page = await store.find_page(Query(id_prefix=prefix, order=order), None, 100)
            expected = sorted(each for each in IDS if each.startswith(prefix))
            in_order = expected[::-1] if order is Order.NEWEST else expected
            assert [summary.workflow_id for summary in page] == in_order

    @pytest.mark.parametrize("order", Order)
    @rule("SupportsSearch.find_page")
    async def test_workflows_of_one_instant_are_in_the_order_of_their_code_points(
        self, store: SearchingStore, order: Order
    ) -> None:
        for workflow_id in IDS:
            await store.create(new(workflow_id))
        page = await store.find_page(Query(order=order), None, 100)
        in_order = sorted(IDS, reverse=order is Order.NEWEST)
        assert [summary.workflow_id for summary in page] == in_order

    @rule("SupportsSearch.find_page")
    async def test_a_summary_is_of_the_workflow_as_it_is(self, store: SearchingStore) -> None:
        claim = await claimed(store, "w", input={"large": "x" * 1000})
        await store.fail(claim, Failure(error=ERROR, retry_at=NOW + SECOND), NOW)
        (summary,) = await store.find_page(Query(), None, 10)
        assert summary == to_summary(await found(store, "w"))
        assert (summary.status, summary.error_message) == (Status.FAILED, "no such card")

    # Counts ------------------------------------------------------------------------------------

    @rule("SupportsSearch.count")
    async def test_workflows_are_counted(self, store: SearchingStore) -> None:
        assert dict(await store.count(CountBy.STATUS)) == {}
        await one_of_each(store)
        by_status = dict(await store.count(CountBy.STATUS))
        assert by_status == dict.fromkeys((status.value for status in STATUSES), 1) | {"idle": 3}
        by_handler = dict(await store.count(CountBy.HANDLER_ID))
        assert by_handler == {"h0": 5, "h1": 4}

    # Records -----------------------------------------------------------------------------------

    @rule("SupportsSearch.records")
    async def test_records_are_in_the_order_in_which_they_were_made(
        self, store: SearchingStore
    ) -> None:
        claim = await claimed(store, "w")
        attempt = Attempt(
            workflow_id="w",
            step_id="b",
            round=0,
            number=1,
            error=ERROR,
            retry_at=NOW + SECOND,
            saved_at=NOW,
        )
        last = replace(attempt, number=2, retry_at=None, saved_at=NOW + SECOND)
        for later, name in enumerate(("c", "a", "b")):
            await store.save_step(claim, name, {"step": name}, NOW + later * SECOND)
            await store.save_nap(claim, name, NOW + LEASE, NOW + later * SECOND)
        await store.save_attempt(claim, attempt)
        await store.save_attempt(claim, last)
        other = await claimed(store, "other")
        await store.save_step(other, "c", None, NOW)
        records = await store.records("w")
        assert [step.step_id for step in records.steps] == ["c", "a", "b"]
        assert records.steps[0] == await store.find_step("w", "c")
        assert [nap.nap_id for nap in records.naps] == ["c", "a", "b"]
        assert records.naps[0] == await store.find_nap("w", "c")
        assert records.attempts == (attempt, last)
        assert await store.records("nobody") == Records()
