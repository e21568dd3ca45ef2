"""What `SupportsPruning` asks of a store, as a test suite; see `StoreContract`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Protocol

import pytest

from bluestreak_core.errors import ClaimLost, WorkflowNotFound
from bluestreak_core.machine import Transition
from bluestreak_core.model import (
    Attempt,
    Claim,
    ClaimRequest,
    FailedStep,
    History,
    Nap,
    Status,
    Step,
)
from bluestreak_core.store import (
    ENDED,
    CountBy,
    Pruned,
    Records,
    Store,
    SupportsForks,
    SupportsPruning,
    SupportsSearch,
)
from bluestreak_core.testing.contract.arrange import (
    ERROR,
    LEASE,
    NOW,
    SECOND,
    claimed,
    found,
    new,
    one_of_each,
)
from bluestreak_core.testing.contract.rule import Rules, rule
from bluestreak_core.testing.contract.search import SearchingStore

NOTHING = Pruned()


class _ForkingStore(SearchingStore, SupportsForks, Protocol):
    """A store that has this power, too."""


class PruningContract(Rules):
    """The tests of a store that can delete ended workflows, as a part of `StoreContract`.

    Most of them also search for what is left.
    """

    pytestmark = pytest.mark.asyncio

    @rule("SupportsPruning.prune", SupportsSearch)
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
    @rule("SupportsPruning.prune", SupportsSearch)
    async def test_only_the_given_ends_are_deleted(
        self, store: SearchingStore, status: Status
    ) -> None:
        await one_of_each(store)
        before = dict(await store.count(CountBy.STATUS))
        statuses = [status] if status.ended else ENDED
        pruned = await store.prune(NOW + 90 * SECOND, statuses, 10, NOW + 90 * SECOND)
        assert pruned.workflows == len(statuses)
        gone = {status.value for status in statuses}
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
    @rule("#deleted-workflows", SupportsPruning, SupportsSearch)
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

    @rule("#deleted-workflows", SupportsPruning, SupportsSearch, SupportsForks)
    async def test_a_fork_has_no_records_of_a_deleted_workflow(self, store: _ForkingStore) -> None:
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
    """Record what a stalled worker still had when its workflow was deleted."""
    much_later = NOW + 3 * LEASE
    for record in (
        store.save_step(stale, "s", "stale", much_later),
        store.save_nap(stale, "n", much_later, much_later),
        store.save_attempt(stale, _ATTEMPT),
    ):
        with suppress(ClaimLost):  # a store may also keep it where nobody reads it
            await record
