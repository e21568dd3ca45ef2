"""What searching and pruning ask of a store, as test suites; see `StoreContract`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from itertools import product
from typing import Protocol

import pytest

from bluestreak_core.errors import ClaimLost, WorkflowNotFound
from bluestreak_core.machine import Transition
from bluestreak_core.model import (
    Attempt,
    Claim,
    ClaimRequest,
    FailedStep,
    Failure,
    History,
    Nap,
    Status,
    Step,
    Workflow,
)
from bluestreak_core.store import (
    ENDED,
    CountBy,
    ListPosition,
    Order,
    Pruned,
    Query,
    Records,
    Store,
    SupportsForks,
    SupportsPruning,
    SupportsSearch,
)
from bluestreak_core.store.query import to_summary
from bluestreak_core.testing.contract.arrange import ERROR, LEASE, NOW, SECOND, claimed, found, new
from bluestreak_core.testing.contract.rule import Rules, rule

NOTHING = Pruned()
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
    Query(statuses=statuses, handler_id=handler_id, id_prefix=id_prefix, order=order, **created)
    for statuses, handler_id, id_prefix, created, order in product(
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
            {},
            {"created_from": NOW + 2 * SECOND},
            {"created_from": NOW + SECOND, "created_until": NOW + 3 * SECOND},
        ),
        Order,
    )
]


class SearchingStore(Store, SupportsSearch, SupportsPruning, Protocol):
    """A store with both powers."""


class SearchContract(Rules):
    """Subclass it as `StoreContract`, for a store that `SupportsSearch` and `SupportsPruning`."""

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
        workflows = await _one_of_each(store)
        for query in [one for one in QUERIES if one.order is order]:
            meant = [to_summary(one) for one in workflows if query.accepts(one)]
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
        workflows = await _one_of_each(store)
        for workflow in workflows:
            for near in ("v", "w", "w2x", "x"):
                after = ListPosition(workflow_id=near, created_at=workflow.created_at)
                expected = query.page_of([to_summary(one) for one in workflows], after, 100)
                assert list(await store.find_page(query, after, 100)) == expected
        undated = ListPosition(workflow_id="w3")  # as the JavaScript library leaves them
        expected = query.page_of([to_summary(one) for one in workflows], undated, 100)
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
            expected = sorted(one for one in IDS if one.startswith(prefix))
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
        await _one_of_each(store)
        by_status = dict(await store.count(CountBy.STATUS))
        assert by_status == dict.fromkeys((status.value for status in Status), 1) | {"idle": 3}
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

    # Pruning -----------------------------------------------------------------------------------

    @rule("SupportsSearch.records")
    async def test_what_ended_before_is_deleted_with_its_records(
        self, store: SearchingStore
    ) -> None:
        claim = await claimed(store, "w")
        await store.save_step(claim, "s1", 1, NOW)
        await store.save_step(claim, "s2", 2, NOW)
        await store.save_nap(claim, "n", NOW, NOW)
        await store.finish(claim, None, NOW)
        kept = await claimed(store, "kept")
        await store.save_step(kept, "s1", 3, NOW)
        assert await store.prune(NOW, ENDED, 10, NOW) == NOTHING
        pruned = await store.prune(NOW + SECOND, ENDED, 10, NOW + SECOND)
        assert pruned == Pruned(workflows=1, steps=2, naps=1)
        assert await store.find_workflow("w") is None
        assert await store.records("w") == Records()
        assert [step.output for step in (await store.records("kept")).steps] == [3]
        assert await store.prune(NOW + SECOND, ENDED, 10, NOW + SECOND) == NOTHING

    @pytest.mark.parametrize("status", Status)
    @rule("SupportsPruning.prune")
    async def test_only_the_given_ends_are_deleted(
        self, store: SearchingStore, status: Status
    ) -> None:
        await _one_of_each(store)
        before = dict(await store.count(CountBy.STATUS))
        statuses = [status] if status.ended else ENDED
        pruned = await store.prune(NOW + 90 * SECOND, statuses, 10, NOW + 90 * SECOND)
        assert pruned.workflows == len(statuses)
        gone = {one.value for one in statuses}
        after = {key: number for key, number in before.items() if key not in gone}
        assert dict(await store.count(CountBy.STATUS)) == after

    @rule("SupportsPruning.prune")
    async def test_a_call_deletes_no_more_than_it_is_told(self, store: SearchingStore) -> None:
        for number in range(5):
            await store.create(new(f"w{number}"))
            await store.control(f"w{number}", Transition.CANCEL, NOW)
        later = NOW + SECOND
        assert await store.prune(later, ENDED, 0, later) == NOTHING
        deleted = [(await store.prune(later, ENDED, 2, later)).workflows for _ in range(4)]
        assert deleted == [2, 2, 1, 0]

    @rule("SupportsPruning.prune")
    async def test_a_deleted_id_is_free_and_begins_with_nothing(
        self, store: SearchingStore
    ) -> None:
        claim = await claimed(store, "w")
        await store.save_step(claim, "s", "old", NOW)
        await store.finish(claim, None, NOW)
        await store.prune(NOW + SECOND, ENDED, 10, NOW + SECOND)
        with pytest.raises(WorkflowNotFound):
            await store.control("w", Transition.RETRY, NOW)
        with pytest.raises(ClaimLost):
            await store.finish(claim, "again", NOW)
        again = await claimed(store, "w")
        assert (await store.history([again]))["w"].steps == {}
        assert await store.save_step(again, "s", "new", NOW) == "new"

    @pytest.mark.parametrize("when", ["before the next one", "after it began", "after it recorded"])
    @rule("#deleted-workflows")
    async def test_records_of_a_deleted_workflow_are_not_handed_to_the_next_one(
        self, store: SearchingStore, when: str
    ) -> None:
        stale = await claimed(store, "w")
        await store.control("w", Transition.CANCEL, NOW)
        await store.prune(NOW + SECOND, ENDED, 10, NOW + SECOND)
        if when == "before the next one":
            await _record_late(store, stale)
            assert await store.find_step("w", "s") is None
            assert await store.find_nap("w", "n") is None
            assert await store.records("w") == Records()
        later = NOW + 2 * SECOND
        await store.create(new("w", created_at=later))
        (claim,) = await store.claim(ClaimRequest(worker="worker", now=later, lease=LEASE, limit=1))
        if when == "after it began":
            await _record_late(store, stale)
        tried = replace(_ATTEMPT, retry_at=later)
        for _ in range(2):
            assert await store.save_step(claim, "s", "new", later) == "new"
            assert await store.save_nap(claim, "n", later, later) == later
            assert await store.save_attempt(claim, tried) == tried
        if when == "after it recorded":
            await _record_late(store, stale)
        expected = History(steps={"s": "new"}, naps={"n": later}, attempts={"t": tried})
        assert await store.history([claim]) == {"w": expected}
        step, nap = await store.find_step("w", "s"), await store.find_nap("w", "n")
        assert step == Step(workflow_id="w", step_id="s", output="new", saved_at=later)
        assert nap == Nap(workflow_id="w", nap_id="n", wake_up_at=later, saved_at=later)
        assert await store.records("w") == Records(steps=(step,), naps=(nap,), attempts=(tried,))

    @rule("#deleted-workflows")
    async def test_a_fork_has_no_records_of_a_deleted_workflow(self, store: SearchingStore) -> None:
        if not isinstance(store, SupportsForks):
            return
        stale = await claimed(store, "w")
        await store.control("w", Transition.CANCEL, NOW)
        await store.prune(NOW + SECOND, ENDED, 10, NOW + SECOND)
        await _record_late(store, stale)
        later = NOW + 2 * SECOND
        await store.create(new("w", created_at=later))
        (claim,) = await store.claim(ClaimRequest(worker="worker", now=later, lease=LEASE, limit=1))
        await store.save_step(claim, "s", "new", later)
        await store.save_step(claim, "s2", 2, later + SECOND)
        for before, steps in ((None, ["s", "s2"]), ("s2", ["s"]), ("s", [])):
            await store.fork("w", f"fork before {before}", before, later + LEASE)
            records = await store.records(f"fork before {before}")
            assert [step.step_id for step in records.steps] == steps
            assert records.naps == ()
        forks = await store.claim(
            ClaimRequest(worker="worker", now=later + LEASE, lease=LEASE, limit=10)
        )
        (whole,) = [fork for fork in forks if fork.workflow_id == "fork before None"]
        assert (await store.history([whole]))[whole.workflow_id].steps == {"s": "new", "s2": 2}

    @rule("SupportsPruning.prune")
    async def test_what_has_been_retried_is_kept(self, store: SearchingStore) -> None:
        await store.create(new("w"))
        await store.control("w", Transition.CANCEL, NOW)
        await store.control("w", Transition.RETRY, NOW)
        workflow = await found(store, "w")
        assert await store.prune(NOW + SECOND, ENDED, 10, NOW + SECOND) == NOTHING
        assert await found(store, "w") == workflow
        (claim,) = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
        await store.fail_step(
            claim, FailedStep(step_id="s", error=ERROR, attempts=1, failed_at=NOW)
        )

    @rule("SupportsPruning.prune")
    async def test_other_work_goes_on_when_something_has_been_deleted(
        self, store: SearchingStore
    ) -> None:
        for name in ("w1", "w2"):
            await store.create(new(name))
        await store.control("w1", Transition.CANCEL, NOW)
        await store.prune(NOW + SECOND, ENDED, 10, NOW + SECOND)
        await store.create(new("w1", created_at=NOW + SECOND))
        claims = await store.claim(
            ClaimRequest(worker="worker", now=NOW + SECOND, lease=LEASE, limit=10)
        )
        assert [claim.workflow_id for claim in claims] == ["w2", "w1"]


_ATTEMPT = Attempt(
    workflow_id="w",
    step_id="t",
    round=0,
    number=1,
    error=ERROR,
    retry_at=None,
    saved_at=NOW,
)


async def _record_late(store: Store, stale: Claim) -> None:
    """What a worker does that was stalled while its workflow was deleted."""
    much_later = NOW + 3 * LEASE
    for record in (
        store.save_step(stale, "s", "stale", much_later),
        store.save_nap(stale, "n", much_later, much_later),
        store.save_attempt(stale, _ATTEMPT),
    ):
        with suppress(ClaimLost):  # or it is kept where nobody is handed it
            await record


async def _one_of_each(store: Store) -> list[Workflow]:
    """A workflow in each state, and two more; some of them created at the same instant."""
    names = [f"w{number}" for number in range(len(Status) + 1)] + ["v"]
    for number, name in enumerate(names):
        created_at = NOW + number // 2 * SECOND
        await store.create(new(name, handler_id=f"h{number % 2}", created_at=created_at))
    claims = await store.claim(ClaimRequest(worker="worker", now=NOW + LEASE, lease=LEASE, limit=4))
    by_name = {claim.workflow_id: claim for claim in claims}
    later = NOW + LEASE + SECOND
    await store.finish(by_name["w0"], "done", later)
    await store.fail(by_name["w1"], Failure(error=ERROR, retry_at=None), later)
    await store.fail(by_name["w2"], Failure(error=ERROR, retry_at=later + LEASE), later)
    await store.control("w5", Transition.CANCEL, later, "no more")
    await store.control("w6", Transition.PAUSE, later)
    workflows = [await found(store, name) for name in names]
    assert {workflow.status for workflow in workflows} == set(Status)
    return workflows
