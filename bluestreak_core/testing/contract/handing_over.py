"""How a run hands its workflow over whose claim was taken; a part of `CompensationContract`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import pytest

from bluestreak_core import machine
from bluestreak_core.machine import Transition
from bluestreak_core.model import ClaimRequest, Status
from bluestreak_core.store import SupportsCompensation
from bluestreak_core.testing.contract.arrange import LEASE, MS, NOW, SECOND, found
from bluestreak_core.testing.contract.compensating import (
    LATER,
    Compensating,
    claim_next,
    promised,
)
from bluestreak_core.testing.contract.rule import Rules, rule

TAKEN = [
    [Transition.PAUSE, Transition.CANCEL],
    [Transition.PAUSE, Transition.RESUME, Transition.CANCEL],
    [Transition.PAUSE, Transition.RESUME, Transition.PAUSE, Transition.CANCEL],
]
"""How a workflow may come to stop whose claim was taken by a pause."""


class HandingOverContract(Rules):
    """The tests of `hand_over`, and of what waits for it."""

    @rule("SupportsCompensation.hand_over")
    async def test_a_running_workflow_that_stops_is_due_when_its_run_is_over(
        self, store: Compensating
    ) -> None:
        claim = await promised(store)
        await store.control("w", Transition.CANCEL, LATER)
        before = await found(store, "w")
        assert before.timeout_at == NOW + LEASE
        assert before == machine.control(
            replace(claim.workflow, compensates=True), Transition.CANCEL, LATER, None
        )
        for _ in range(2):
            await store.hand_over(claim, LATER)
            assert await found(store, "w") == machine.hand_over(before, LATER)
        await store.hand_over(claim, LATER + SECOND)
        assert (await found(store, "w")).timeout_at == LATER

    @rule("SupportsCompensation.hand_over")
    async def test_a_run_whose_claim_was_not_stopped_hands_nothing_over(
        self, store: Compensating
    ) -> None:
        stale = await promised(store)
        owner = await claim_next(store, NOW + LEASE, "other")
        await store.control("w", Transition.CANCEL, NOW + LEASE)
        before = await found(store, "w")
        await store.hand_over(stale, NOW + LEASE)
        assert await found(store, "w") == before
        await store.hand_over(owner, NOW + LEASE)
        claim = await claim_next(store, NOW + LEASE)
        await store.hand_over(owner, NOW)
        assert await found(store, "w") == claim.workflow

    @rule("Store.control", SupportsCompensation)
    async def test_a_pause_notes_the_end_of_the_lease_that_it_takes(
        self, store: Compensating
    ) -> None:
        await promised(store)
        before = await found(store, "w")
        await store.control("w", Transition.PAUSE, LATER)
        paused = await found(store, "w")
        assert paused == machine.control(before, Transition.PAUSE, LATER, None)
        assert paused.leased_until == NOW + LEASE
        await store.control("w", Transition.RESUME, LATER)
        assert (await claim_next(store, LATER)).workflow.status is Status.RUNNING

    @rule("#compensation", SupportsCompensation)
    @pytest.mark.parametrize("events", TAKEN)
    async def test_nothing_is_undone_before_the_end_of_a_lease_that_a_pause_has_taken(
        self, store: Compensating, events: Sequence[Transition]
    ) -> None:
        await promised(store)
        for event in events:
            await store.control("w", event, LATER)
        early = ClaimRequest(worker="other", now=NOW + LEASE - MS, lease=LEASE, limit=1)
        assert await store.claim(early) == []
        claim = await claim_next(store, NOW + LEASE, "other")
        assert claim.workflow.status is Status.COMPENSATING

    @rule("#compensation", SupportsCompensation)
    async def test_a_workflow_that_stops_long_after_a_pause_is_due_at_once(
        self, store: Compensating
    ) -> None:
        await promised(store)
        await store.control("w", Transition.PAUSE, LATER)
        await store.control("w", Transition.CANCEL, NOW + 2 * LEASE)
        assert (await found(store, "w")).timeout_at == NOW + 2 * LEASE

    @rule("SupportsCompensation.hand_over")
    async def test_a_paused_run_hands_over_before_it_is_cancelled(
        self, store: Compensating
    ) -> None:
        claim = await promised(store)
        await store.control("w", Transition.PAUSE, LATER)
        before = await found(store, "w")
        for _ in range(2):
            await store.hand_over(claim, LATER)
            assert await found(store, "w") == machine.hand_over(before, LATER)
        await store.control("w", Transition.CANCEL, LATER)
        assert (await found(store, "w")).timeout_at == LATER

    @rule("SupportsCompensation.hand_over")
    async def test_a_paused_run_hands_over_after_it_is_cancelled(self, store: Compensating) -> None:
        claim = await promised(store)
        for event in (Transition.PAUSE, Transition.CANCEL):
            await store.control("w", event, NOW)
        before = await found(store, "w")
        for _ in range(2):
            await store.hand_over(claim, LATER)
            assert await found(store, "w") == machine.hand_over(before, LATER)
        assert (await found(store, "w")).timeout_at == LATER

    @rule("SupportsCompensation.hand_over")
    async def test_a_run_from_which_no_pause_has_taken_its_claim_hands_nothing_over(
        self, store: Compensating
    ) -> None:
        stale = await promised(store)
        owner = await claim_next(store, NOW + LEASE, "other")
        await store.control("w", Transition.PAUSE, NOW + LEASE)
        before = await found(store, "w")
        await store.hand_over(stale, NOW + LEASE)
        assert await found(store, "w") == before
        await store.control("w", Transition.RESUME, NOW + LEASE)
        before = await found(store, "w")
        await store.hand_over(owner, NOW + LEASE)
        assert await found(store, "w") == before
