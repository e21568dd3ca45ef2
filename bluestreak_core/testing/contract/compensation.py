"""What `SupportsCompensation` asks of a store, as a test suite; see `StoreContract`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest

from bluestreak_core import machine
from bluestreak_core.errors import ClaimLost, TransitionRefused
from bluestreak_core.machine import Transition
from bluestreak_core.model import ClaimRequest, FailedStep, Status
from bluestreak_core.store import (
    ENDED,
    CountBy,
    Query,
    SupportsCompensation,
    SupportsForks,
    SupportsPruning,
    SupportsSearch,
    require,
)
from bluestreak_core.testing.contract.arrange import (
    ERROR,
    LEASE,
    LONG,
    MS,
    NOW,
    SECOND,
    begun,
    claimed,
    failure,
    found,
    new,
)
from bluestreak_core.testing.contract.compensating import (
    ENDINGS,
    LATER,
    PLACES,
    Compensating,
    claim_next,
    compensating,
    parked,
    promised,
    stopped,
)
from bluestreak_core.testing.contract.handing_over import HandingOverContract
from bluestreak_core.testing.contract.rule import rule

TURNS = range(6)
"""The turns of the loop by which one call begins before the other."""


class CompensationContract(HandingOverContract):
    """The tests of workflows that compensate."""

    @rule("SupportsCompensation.promise")
    async def test_a_promise_is_kept_with_the_workflow(self, store: Compensating) -> None:
        claim = await claimed(store, "w")
        for _ in range(2):
            await store.promise(claim)
            assert await found(store, "w") == replace(claim.workflow, compensates=True)

    @rule("SupportsCompensation.promise")
    async def test_a_promise_outlasts_a_claim(self, store: Compensating) -> None:
        await parked(store)
        claim = await claim_next(store, NOW + LEASE)
        assert claim.workflow.compensates

    @rule("SupportsCompensation.promise")
    async def test_a_promise_under_a_claim_that_was_taken_is_refused(
        self, store: Compensating
    ) -> None:
        claim = await claimed(store, "w")
        await store.control("w", Transition.CANCEL, NOW)
        cancelled = await found(store, "w")
        with pytest.raises(ClaimLost):
            await store.promise(claim)
        assert await found(store, "w") == cancelled

    @rule("SupportsCompensation.promise")
    async def test_a_promise_is_kept_beside_one_that_is_refused(self, store: Compensating) -> None:
        cancelled, claim = await claimed(store, "v"), await claimed(store, "w")
        await store.control("v", Transition.CANCEL, NOW)
        outcomes = await asyncio.gather(
            *(store.promise(one) for one in (claim, cancelled)), return_exceptions=True
        )
        assert outcomes[0] is None
        assert isinstance(outcomes[1], ClaimLost)
        assert (await found(store, "w")).compensates

    @rule("SupportsCompensation.promise")
    @pytest.mark.parametrize("turns", TURNS)
    async def test_a_promise_comes_before_or_after_a_cancellation(
        self, store: Compensating, turns: int
    ) -> None:
        claim = await claimed(store, "w")
        promise = asyncio.ensure_future(store.promise(claim))
        for _ in range(turns):
            await asyncio.sleep(0)
        await store.control("w", Transition.CANCEL, LATER)
        (refusal,) = await asyncio.gather(promise, return_exceptions=True)
        workflow = await found(store, "w")
        if refusal is not None:
            assert isinstance(refusal, ClaimLost)
        assert workflow.compensates is (refusal is None)
        ended = Status.CANCELLED if refusal else Status.STOPPING
        assert workflow.status is ended

    @rule("#compensation", SupportsCompensation)
    @pytest.mark.parametrize("status", PLACES)
    async def test_a_cancelled_workflow_that_compensates_stops_wherever_it_is(
        self, store: Compensating, status: Status
    ) -> None:
        await PLACES[status](store)
        before = await found(store, "w")
        assert before.status is status
        await store.control("w", Transition.CANCEL, LATER, "why")
        assert await found(store, "w") == machine.control(before, Transition.CANCEL, LATER, "why")
        assert (await found(store, "w")).status is Status.STOPPING

    @rule("SupportsCompensation.give_up")
    async def test_a_workflow_that_is_given_up_stops_and_shows_its_error(
        self, store: Compensating
    ) -> None:
        claim = await promised(store)
        before = await found(store, "w")
        for _ in range(2):
            await store.give_up(claim, ERROR, LATER)
            assert await found(store, "w") == machine.give_up(before, ERROR, LATER)

    @rule("SupportsCompensation.give_up")
    async def test_a_stale_caller_gives_nothing_up(self, store: Compensating) -> None:
        stale = await promised(store)
        await claim_next(store, NOW + LEASE, "other")
        before = await found(store, "w")
        with pytest.raises(ClaimLost):
            await store.give_up(stale, ERROR, NOW + LEASE)
        assert await found(store, "w") == before

    @rule("Store.claim", SupportsCompensation)
    @pytest.mark.parametrize("outcome", [Status.ABORTED, Status.CANCELLED])
    async def test_a_stopping_workflow_is_claimed_to_compensate(
        self, store: Compensating, outcome: Status
    ) -> None:
        before = await stopped(store, outcome)
        early = ClaimRequest(worker="other", now=LATER - MS, lease=LEASE, limit=1)
        assert await store.claim(early) == []
        claim = await claim_next(store, LATER, "other")
        request = ClaimRequest(worker="other", now=LATER, lease=LEASE, limit=1)
        assert claim.workflow == machine.claim(before, claim.token, request)
        assert claim.workflow == await found(store, "w")
        assert (claim.workflow.status, claim.workflow.crashes) == (Status.COMPENSATING, 0)

    @rule("Store.claim", SupportsCompensation)
    async def test_an_expired_lease_of_a_compensating_workflow_counts_as_a_crash(
        self, store: Compensating
    ) -> None:
        stale = await compensating(store)
        claim = await claim_next(store, LATER + LEASE, "other")
        assert (claim.workflow.status, claim.workflow.crashes) == (Status.COMPENSATING, 1)
        with pytest.raises(ClaimLost):
            await store.end_compensated(stale, LATER + LEASE)
        assert await found(store, "w") == claim.workflow

    @rule("Store.claim", SupportsCompensation)
    async def test_workflows_of_all_kinds_are_claimed_together(self, store: Compensating) -> None:
        await store.create(new("idle"))
        await store.create(new("crashed"))
        await store.claim(ClaimRequest(worker="dead", now=NOW, lease=LEASE, limit=2))
        await compensating(store, now=LATER)
        await store.create(new("new"))
        await store.control("idle", Transition.PAUSE, NOW)
        await store.control("idle", Transition.RESUME, NOW)
        now = LATER + LEASE
        claims = await store.claim(ClaimRequest(worker="w", now=now, lease=LEASE, limit=9))
        statuses = {claim.workflow_id: claim.workflow.status for claim in claims}
        running = dict.fromkeys(["crashed", "idle", "new"], Status.RUNNING)
        assert statuses == running | {"w": Status.COMPENSATING}
        crashes = {claim.workflow_id: claim.workflow.crashes for claim in claims}
        assert crashes == {"crashed": 1, "idle": 0, "new": 0, "w": 1}

    @rule("Store.renew", SupportsCompensation)
    async def test_a_claim_to_compensate_is_renewed(self, store: Compensating) -> None:
        stale = await promised(store, "v")
        await store.control("v", Transition.CANCEL, NOW)
        await store.hand_over(stale, NOW)
        (claim,) = await store.claim(ClaimRequest(worker="worker", now=LATER, lease=LEASE, limit=1))
        running = await claimed(store, "running")
        now = LATER + SECOND
        assert await store.renew([stale, claim, running], now, LEASE) == [stale]
        assert (await found(store, "v")).timeout_at == now + LEASE

    @rule("#compensation", SupportsCompensation)
    async def test_compensations_are_recorded_like_steps(self, store: Compensating) -> None:
        await compensating(store)
        claim = await claim_next(store, LATER + LEASE)
        assert await store.save_step(claim, "refund", "done", LATER) == "done"
        given_up = FailedStep(step_id="release", error=ERROR, attempts=3, failed_at=LATER)
        await store.fail_step(claim, given_up)
        workflow = await found(store, "w")
        assert (workflow.failed_steps, workflow.crashes) == ((given_up,), 0)
        assert (await store.history([claim]))["w"].steps == {"refund": "done"}

    @rule("#compensation", SupportsCompensation)
    @pytest.mark.parametrize("call", ENDINGS)
    @pytest.mark.parametrize("outcome", [Status.ABORTED, Status.CANCELLED])
    async def test_a_claim_to_compensate_ends_once(
        self, store: Compensating, call: str, outcome: Status
    ) -> None:
        claim = await compensating(store, outcome)
        end, ended = ENDINGS[call]
        for _ in range(2):
            await end(store, claim, LATER)
            assert await found(store, "w") == ended(claim.workflow, LATER)

    @rule("#compensation", SupportsCompensation)
    @pytest.mark.parametrize("call", ENDINGS)
    async def test_a_stale_caller_ends_no_claim_to_compensate(
        self, store: Compensating, call: str
    ) -> None:
        stale = await compensating(store)
        owner = await claim_next(store, LATER + LEASE, "other")
        with pytest.raises(ClaimLost):
            await ENDINGS[call][0](store, stale, LATER + LEASE)
        assert await found(store, "w") == owner.workflow

    @rule("SupportsCompensation.postpone")
    async def test_a_postponed_workflow_is_due_at_its_instant(self, store: Compensating) -> None:
        claim = await compensating(store)
        await store.postpone(claim, NOW + LEASE)
        early = ClaimRequest(worker="worker", now=NOW + LEASE - MS, lease=LEASE, limit=1)
        assert await store.claim(early) == []
        again = await claim_next(store, NOW + LEASE)
        assert again.workflow.crashes == 0
        assert again.workflow.outcome is Status.CANCELLED
        await store.postpone(claim, NOW + LEASE)  # a repeat that comes late
        assert await found(store, "w") == again.workflow

    @rule("#compensation", SupportsCompensation)
    @pytest.mark.parametrize("event", machine.CONTROL)
    @pytest.mark.parametrize("begin", [stopped, compensating], ids=["stopping", "compensating"])
    async def test_a_workflow_that_stops_is_not_controlled_from_outside(
        self,
        store: Compensating,
        begin: Callable[[Compensating], Awaitable[Any]],
        event: Transition,
    ) -> None:
        await begin(store)
        before = await found(store, "w")
        with pytest.raises(TransitionRefused) as refused:
            await store.control("w", event, NOW + LEASE)
        assert refused.value.status == before.status
        assert await found(store, "w") == before

    @rule("#compensation", SupportsCompensation)
    @pytest.mark.parametrize("outcome", [Status.ABORTED, Status.CANCELLED])
    async def test_what_has_compensated_is_not_retried(
        self, store: Compensating, outcome: Status
    ) -> None:
        await store.end_compensated(await compensating(store, outcome), LATER)
        before = await found(store, "w")
        with pytest.raises(TransitionRefused) as refused:
            await store.control("w", Transition.RETRY, LATER)
        assert refused.value.status == machine.COMPENSATED
        assert await found(store, "w") == before

    @rule("#compensation", SupportsCompensation)
    async def test_what_has_compensated_is_not_forked_with_all_of_its_records(
        self, store: Compensating
    ) -> None:
        await store.end_compensated(await compensating(store), LATER)
        forking = require(store, SupportsForks, "fork")
        with pytest.raises(TransitionRefused) as refused:
            await forking.fork("w", "fork", None, LATER)
        assert refused.value.status == machine.COMPENSATED
        assert await store.find_workflow("fork") is None

    @rule("#compensation", SupportsCompensation)
    async def test_what_another_library_has_aborted_may_be_retried(
        self, store: Compensating
    ) -> None:
        claim = await promised(store)
        await store.fail(claim, failure(None), LATER)
        await store.control("w", Transition.RETRY, LATER)
        assert (await found(store, "w")).status is Status.IDLE

    @rule("#compensation", SupportsCompensation)
    async def test_a_finished_workflow_forgets_nothing_that_it_has_promised(
        self, store: Compensating
    ) -> None:
        claim = await promised(store)
        await store.finish(claim, "done", LATER)
        assert (await found(store, "w")).status is Status.FINISHED
        with pytest.raises(TransitionRefused):
            await store.control("w", Transition.CANCEL, LATER)

    @rule("#hints", SupportsCompensation)
    async def test_a_workflow_that_stops_is_work(self, store: Compensating) -> None:
        claim = await promised(store)
        await store.claim(ClaimRequest(worker="worker", now=LATER, lease=LEASE, limit=1))
        async with begun(store.wait_for_work(LONG)) as wait:
            await store.give_up(claim, ERROR, NOW)
            await wait

    @rule("#hints", SupportsCompensation)
    async def test_a_worker_whose_workflow_stops_is_woken(self, store: Compensating) -> None:
        await promised(store)
        async with begun(store.wait_for_control("worker", store.clock.now(), LONG)) as wait:
            await store.control("w", Transition.CANCEL, store.clock.now())
            assert await wait

    @rule("#hints", SupportsCompensation)
    async def test_the_end_after_compensations_ends_a_wait_for_it(
        self, store: Compensating
    ) -> None:
        claim = await compensating(store)
        async with begun(store.wait_for_end("w", store.clock.now(), LONG)) as wait:
            await store.end_compensated(claim, LATER)
            assert await wait

    @rule("SupportsForks.fork", SupportsForks, SupportsCompensation)
    async def test_a_fork_has_promised_nothing(self, store: Compensating) -> None:
        claim = await promised(store)
        await store.save_step(claim, "s", 1, NOW)
        await store.give_up(claim, ERROR, LATER)
        forks = require(store, SupportsForks, "fork()")
        await forks.fork("w", "fork", "s", LATER)
        fork = await found(store, "fork")
        assert (fork.compensates, fork.outcome, fork.stopped_at) == (False, None, None)

    @rule("SupportsPruning.prune", SupportsPruning, SupportsCompensation)
    async def test_a_workflow_that_stops_is_not_deleted(self, store: Compensating) -> None:
        await stopped(store)
        pruning = require(store, SupportsPruning, "prune()")
        pruned = await pruning.prune(NOW + LEASE, ENDED, 10, NOW + LEASE)
        assert (pruned.workflows, (await found(store, "w")).status) == (0, Status.STOPPING)

    @rule("SupportsSearch.find_page", SupportsSearch, SupportsCompensation)
    async def test_workflows_that_stop_are_listed_and_counted(self, store: Compensating) -> None:
        await stopped(store)
        await store.create(new("other"))
        search = require(store, SupportsSearch, "list()")
        query = Query(statuses=frozenset({Status.STOPPING, Status.COMPENSATING}))
        assert [each.workflow_id for each in await search.find_page(query, None, 9)] == ["w"]
        assert await search.count(CountBy.STATUS) == {"stopping": 1, "idle": 1}
