"""How every store lets workflows be moved from outside; a part of `StoreContract`."""

from __future__ import annotations

import pytest

from bluestreak_core import machine
from bluestreak_core.errors import ClaimLost, TransitionRefused, WorkflowNotFound
from bluestreak_core.machine import Transition
from bluestreak_core.model import ClaimRequest, FailedStep, History, Status
from bluestreak_core.store import Store
from bluestreak_core.testing.contract.arrange import (
    ENDINGS,
    ERROR,
    LEASE,
    NOW,
    SECOND,
    STATUSES,
    claimed,
    end,
    failure,
    found,
    new,
    superseded,
)
from bluestreak_core.testing.contract.rule import Rules, rule

CONTROLLED = [
    (status, event)
    for status, row in machine.TRANSITIONS.items()
    for event in machine.CONTROL
    if event in row
]
REFUSED = [
    (status, event)
    for status in STATUSES
    for event in machine.CONTROL
    if (status, event) not in CONTROLLED
]


class ControlContract(Rules):
    """The tests of `control`."""

    @pytest.mark.parametrize(("status", "event"), CONTROLLED)
    @rule("Store.control")
    async def test_an_event_from_outside_follows_its_arrow(
        self, store: Store, status: Status, event: Transition
    ) -> None:
        await _bring(store, "w", status)
        before = await found(store, "w")
        await store.control("w", event, NOW + SECOND, "because")
        after = await found(store, "w")
        assert after == machine.control(before, event, NOW + SECOND, "because")
        assert after.status is machine.target(event)

    @pytest.mark.parametrize("status", STATUSES)
    @rule("Store.find_standing")
    async def test_a_standing_is_the_workflow_without_its_input(
        self, store: Store, status: Status
    ) -> None:
        await _bring(store, "w", status)
        before = await found(store, "w")
        assert await store.find_standing("w") == before.standing
        assert await found(store, "w") == before
        assert await store.find_standing("x") is None

    @pytest.mark.parametrize(("status", "event"), REFUSED)
    @rule("Store.control")
    async def test_an_event_from_outside_is_refused_where_it_has_no_arrow(
        self, store: Store, status: Status, event: Transition
    ) -> None:
        await _bring(store, "w", status)
        before = await found(store, "w")
        with pytest.raises(TransitionRefused, match=f"'{event}' is refused while '{status}'"):
            await store.control("w", event, NOW + SECOND)
        assert await found(store, "w") == before

    @rule("Store.control")
    async def test_there_is_no_control_of_what_does_not_exist(self, store: Store) -> None:
        for event in machine.CONTROL:
            with pytest.raises(WorkflowNotFound, match="'w'"):
                await store.control("w", event, NOW)

    @pytest.mark.parametrize(
        "events", [(Transition.PAUSE, Transition.RESUME), (Transition.CANCEL, Transition.RETRY)]
    )
    @pytest.mark.parametrize("ending", ENDINGS)
    @rule("Store.control")
    async def test_a_claim_that_was_taken_from_outside_has_not_ended_by_its_own_doing(
        self, store: Store, events: tuple[Transition, ...], ending: Transition
    ) -> None:
        stale = await claimed(store, "w")
        for event in events:
            await store.control("w", event, NOW)
        assert await store.claim(ClaimRequest(worker="other", now=NOW, lease=LEASE, limit=1))
        before = await found(store, "w")
        with pytest.raises(ClaimLost):
            await end(store, stale, ending)
        assert await found(store, "w") == before

    @pytest.mark.parametrize("taken", [Transition.CANCEL, Transition.PAUSE])
    @pytest.mark.parametrize("event", ENDINGS)
    @rule("Store.control")
    async def test_whoever_had_the_claim_has_lost_it(
        self, store: Store, taken: Transition, event: Transition
    ) -> None:
        claim = await claimed(store, "w")
        await store.control("w", taken, NOW)
        before = await found(store, "w")
        assert await store.renew([claim], NOW, LEASE) == [claim]
        with pytest.raises(ClaimLost, match=f"has ended, the workflow is '{before.status}'"):
            await end(store, claim, event)
        assert await found(store, "w") == before

    @rule("Store.control")
    async def test_a_paused_or_cancelled_workflow_is_never_claimed(self, store: Store) -> None:
        for name, event in (("w1", Transition.PAUSE), ("w2", Transition.CANCEL)):
            await store.create(new(name))
            await store.control(name, event, NOW)
        assert (
            list(
                await store.claim(
                    ClaimRequest(worker="worker", now=NOW + 100 * LEASE, lease=LEASE, limit=10)
                )
            )
            == []
        )

    @rule("Store.control")
    async def test_a_resumed_workflow_is_due_when_it_was_to_be(self, store: Store) -> None:
        await store.park(await claimed(store, "w"), NOW + 3 * SECOND)
        await store.control("w", Transition.PAUSE, NOW + SECOND)
        await store.control("w", Transition.RESUME, NOW + 2 * SECOND)
        assert (
            list(
                await store.claim(
                    ClaimRequest(worker="worker", now=NOW + 2 * SECOND, lease=LEASE, limit=1)
                )
            )
            == []
        )
        assert (
            len(
                await store.claim(
                    ClaimRequest(worker="worker", now=NOW + 3 * SECOND, lease=LEASE, limit=1)
                )
            )
            == 1
        )

    @rule("Store.control")
    async def test_one_that_was_paused_while_it_ran_is_due_when_it_is_resumed(
        self, store: Store
    ) -> None:
        await claimed(store, "w")
        await store.control("w", Transition.PAUSE, NOW)
        await store.control("w", Transition.RESUME, NOW)
        (again,) = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
        assert (again.number, again.workflow.crashes) == (2, 0)

    @rule("Store.control")
    async def test_a_retried_workflow_keeps_its_records_and_is_due(self, store: Store) -> None:
        claim = await claimed(store, "w")
        await store.save_step(claim, "s", "kept", NOW)
        failed = FailedStep(step_id="t", error=ERROR, attempts=3, failed_at=NOW)
        await store.fail_step(claim, failed)
        await store.fail(claim, failure(None), NOW)
        await store.control("w", Transition.RETRY, NOW + SECOND)
        (again,) = await store.claim(
            ClaimRequest(worker="worker", now=NOW + SECOND, lease=LEASE, limit=1)
        )
        assert (again.workflow.failures, again.workflow.failed_steps) == (0, ())
        assert (again.workflow.retries, again.workflow.error) == (1, None)
        assert await store.history([again]) == {"w": History(steps={"s": "kept"})}

    @rule("Store.control")
    async def test_a_retried_workflow_has_its_crashes_forgotten(self, store: Store) -> None:
        _, owner = await superseded(store, "w")
        await store.fail(owner, failure(None), NOW + LEASE)
        before = await found(store, "w")
        assert before.crashes == 1
        await store.control("w", Transition.RETRY, NOW + LEASE)
        assert await found(store, "w") == machine.control(
            before, Transition.RETRY, NOW + LEASE, None
        )
        (again,) = await store.claim(
            ClaimRequest(worker="worker", now=NOW + LEASE, lease=LEASE, limit=1)
        )
        assert again.workflow.crashes == 0


async def _bring(store: Store, workflow_id: str, status: Status) -> None:
    """A workflow in this state."""
    if status is Status.IDLE:
        await store.create(new(workflow_id))
        return
    claim = await claimed(store, workflow_id)
    match status:
        case Status.FAILED:
            await store.fail(claim, failure(NOW + 2 * SECOND), NOW)
        case Status.ABORTED:
            await store.fail(claim, failure(None), NOW)
        case Status.FINISHED:
            await store.finish(claim, "result", NOW)
        case Status.PAUSED:
            await store.control(workflow_id, Transition.PAUSE, NOW)
        case Status.CANCELLED:
            await store.control(workflow_id, Transition.CANCEL, NOW, "reason")
