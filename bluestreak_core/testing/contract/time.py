"""How every store treats time; a part of `StoreContract`."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, timedelta

from bluestreak_core import machine
from bluestreak_core.clock import SystemClock, in_milliseconds
from bluestreak_core.machine import Transition
from bluestreak_core.model import ClaimRequest, FailedStep, Failure
from bluestreak_core.store import Store
from bluestreak_core.testing.clock import ManualClock
from bluestreak_core.testing.contract.arrange import (
    ERROR,
    LEASE,
    MS,
    NOW,
    attempt,
    claimed,
    found,
    new,
)
from bluestreak_core.testing.contract.rule import Rules, rule

TOLERANCE = timedelta(minutes=1)
"""The largest accepted difference between the clocks of the server and of this machine."""


class TimeContract(Rules):
    """The tests of the clock, and of stored instants."""

    @rule("Store.clock")
    async def test_the_clock_shows_the_time_of_day(self, store: Store) -> None:
        now = store.clock.now()
        assert now.tzinfo is UTC
        assert now == in_milliseconds(now)
        if not isinstance(store.clock, ManualClock):  # which shows the time of the test
            assert abs(now - SystemClock().now()) < TOLERANCE

    @rule("Store.clock")
    async def test_the_clock_never_goes_back(self, store: Store) -> None:
        before = store.clock.now(), store.clock.monotonic()
        await store.clock.sleep(timedelta(0))
        await store.clock.sleep(-LEASE)
        after = store.clock.now(), store.clock.monotonic()
        assert before[0] <= after[0]
        assert before[1] <= after[1]

    @rule("#time")
    async def test_a_workflow_is_due_to_the_millisecond(self, store: Store) -> None:
        delayed = replace(new("late", created_at=NOW + 2 * MS), start_at=NOW + 5 * MS)
        await store.create(delayed)
        await store.create(new("early", created_at=NOW + 4 * MS))
        assert await found(store, "late") == machine.create(delayed)
        assert (
            list(
                await store.claim(
                    ClaimRequest(worker="worker", now=NOW + 3 * MS, lease=LEASE, limit=10)
                )
            )
            == []
        )
        (early,) = await store.claim(
            ClaimRequest(worker="worker", now=NOW + 4 * MS, lease=LEASE, limit=10)
        )
        assert early.workflow_id == "early"
        (late,) = await store.claim(
            ClaimRequest(worker="worker", now=NOW + 5 * MS, lease=LEASE, limit=10)
        )
        assert late.workflow.timeout_at == NOW + 5 * MS + LEASE
        assert late.workflow.started_at == NOW + 5 * MS

    @rule("#time")
    async def test_the_longest_due_is_the_longest_due_to_the_millisecond(
        self, store: Store
    ) -> None:
        for name, place in (("a", 3), ("b", 1), ("c", 2)):
            await store.create(new(name, created_at=NOW + place * MS))
        claims = await store.claim(
            ClaimRequest(worker="worker", now=NOW + 3 * MS, lease=LEASE, limit=2)
        )
        assert [claim.workflow_id for claim in claims] == ["b", "c"]

    @rule("#time")
    async def test_a_lease_ends_to_the_millisecond(self, store: Store) -> None:
        claim = await claimed(store, "w")
        assert await store.renew([claim], NOW + 7 * MS, LEASE) == []
        assert (await found(store, "w")).timeout_at == NOW + 7 * MS + LEASE
        assert (
            list(
                await store.claim(
                    ClaimRequest(worker="other", now=NOW + 6 * MS + LEASE, lease=LEASE, limit=1)
                )
            )
            == []
        )
        assert (
            len(
                await store.claim(
                    ClaimRequest(worker="other", now=NOW + 7 * MS + LEASE, lease=LEASE, limit=1)
                )
            )
            == 1
        )

    @rule("#time")
    async def test_records_have_their_instants_to_the_millisecond(self, store: Store) -> None:
        claim = await claimed(store, "w")
        await store.save_step(claim, "s", NOW + MS, NOW + 2 * MS)
        await store.save_nap(claim, "n", NOW + 3 * MS, NOW + 4 * MS)
        tried = replace(attempt(1), retry_at=NOW + 5 * MS, saved_at=NOW + 6 * MS)
        assert await store.save_attempt(claim, tried) == tried
        step, nap = await store.find_step("w", "s"), await store.find_nap("w", "n")
        assert step is not None
        assert nap is not None
        assert (step.output, step.saved_at) == (NOW + MS, NOW + 2 * MS)
        assert (nap.wake_up_at, nap.saved_at) == (NOW + 3 * MS, NOW + 4 * MS)
        history = (await store.history([claim]))["w"]
        assert (history.steps, history.naps) == ({"s": NOW + MS}, {"n": NOW + 3 * MS})
        assert history.attempts == {"s": tried}

    @rule("#time")
    async def test_a_workflow_is_moved_at_an_instant_to_the_millisecond(self, store: Store) -> None:
        claim = await claimed(store, "w")
        failed = FailedStep(step_id="s", error=ERROR, attempts=1, failed_at=NOW + MS)
        await store.fail_step(claim, failed)
        expected = machine.fail_step(claim.workflow, failed)
        to_retry = Failure(error=ERROR, retry_at=NOW + 3 * MS)
        await store.fail(claim, to_retry, NOW + 2 * MS)
        expected = machine.fail(expected, to_retry, NOW + 2 * MS)
        assert await found(store, "w") == expected
        await store.control("w", Transition.CANCEL, NOW + 4 * MS)
        assert await found(store, "w") == machine.control(
            expected, Transition.CANCEL, NOW + 4 * MS, None
        )
