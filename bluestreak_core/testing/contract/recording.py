"""How every store records what a run has done; a part of `StoreContract`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from bluestreak_core import machine
from bluestreak_core.errors import ClaimLost
from bluestreak_core.machine import Transition
from bluestreak_core.model import Claim, ClaimRequest, FailedStep, History
from bluestreak_core.store import Store
from bluestreak_core.testing.contract.arrange import (
    ERROR,
    LEASE,
    NOW,
    SECOND,
    attempt,
    claimed,
    end,
    failure,
    found,
    gather,
    superseded,
)
from bluestreak_core.testing.contract.rule import Rules, rule

RECORDS: Mapping[str, Callable[[Store, Claim], Awaitable[Any]]] = {
    "step": lambda store, claim: store.save_step(claim, "s", 1, NOW),
    "nap": lambda store, claim: store.save_nap(claim, "s", NOW, NOW),
    "attempt": lambda store, claim: store.save_attempt(claim, attempt(1)),
}


class RecordingContract(Rules):
    """The tests of the three that save, and of `fail_step`."""

    @rule("Store.save_step")
    async def test_a_step_is_recorded(self, store: Store) -> None:
        claim = await claimed(store, "w")
        assert await store.save_step(claim, "s", {"a": (1, 2)}, NOW) == {"a": [1, 2]}
        step = await store.find_step("w", "s")
        assert step is not None
        assert (step.workflow_id, step.step_id) == ("w", "s")
        assert (step.output, step.saved_at) == ({"a": [1, 2]}, NOW)

    @rule("Store.save_step")
    async def test_the_first_record_of_a_step_wins(self, store: Store) -> None:
        claim = await claimed(store, "w")
        await store.save_step(claim, "s", "first", NOW)
        before = await store.find_step("w", "s")
        assert await store.save_step(claim, "s", "second", NOW + SECOND) == "first"
        assert await store.find_step("w", "s") == before

    @rule("Store.save_step")
    async def test_racing_attempts_of_a_step_get_one_output(self, store: Store) -> None:
        claim = await claimed(store, "w")
        outputs = await gather(*(store.save_step(claim, "s", n, NOW) for n in range(5)))
        step = await store.find_step("w", "s")
        assert step is not None
        assert set(outputs) == {step.output}

    @rule("Store.save_step")
    async def test_a_stale_caller_gets_the_recorded_step(self, store: Store) -> None:
        stale, owner = await superseded(store, "w")
        await store.save_step(owner, "s", "owner's", NOW)
        assert await store.save_step(stale, "s", "stale", NOW) == "owner's"

    @rule("Store.save_step")
    async def test_a_stale_caller_may_record_first(self, store: Store) -> None:
        stale, owner = await superseded(store, "w")
        before = await found(store, "w")
        assert await store.save_step(stale, "s", "stale", NOW) == "stale"
        assert await store.save_step(owner, "s", "owner's", NOW) == "stale"
        assert await found(store, "w") == before

    @pytest.mark.parametrize("kind", RECORDS)
    @rule("#stale-callers")
    async def test_a_stale_record_leaves_the_crashes_alone(self, store: Store, kind: str) -> None:
        stale, owner = await superseded(store, "w")
        before = await found(store, "w")
        assert before.crashes == 1
        await RECORDS[kind](store, stale)
        assert await found(store, "w") == before
        assert await store.renew([owner], NOW + LEASE, LEASE) == []

    @pytest.mark.parametrize("event", [Transition.RELEASE, Transition.FAIL])
    @pytest.mark.parametrize("kind", RECORDS)
    @rule("#stale-callers")
    async def test_a_record_under_a_claim_that_has_ended_leaves_the_crashes_alone(
        self, store: Store, kind: str, event: Transition
    ) -> None:
        _, ended = await superseded(store, "w")
        await end(store, ended, event)
        before = await found(store, "w")
        assert before.crashes == 1
        await RECORDS[kind](store, ended)
        assert await found(store, "w") == before

    @rule("Store.save_step")
    async def test_one_step_id_serves_many_workflows(self, store: Store) -> None:
        first, second = await claimed(store, "w1"), await claimed(store, "w2")
        assert await store.save_step(first, "s", 1, NOW) == 1
        assert await store.save_step(second, "s", 2, NOW) == 2

    @rule("Store.save_nap")
    async def test_a_nap_is_recorded(self, store: Store) -> None:
        claim = await claimed(store, "w")
        wake_up_at = NOW + timedelta(days=3653)
        assert await store.save_nap(claim, "n", wake_up_at, NOW) == wake_up_at
        nap = await store.find_nap("w", "n")
        assert nap is not None
        assert (nap.workflow_id, nap.nap_id) == ("w", "n")
        assert (nap.wake_up_at, nap.saved_at) == (wake_up_at, NOW)

    @rule("Store.save_nap")
    async def test_the_first_record_of_a_nap_wins(self, store: Store) -> None:
        stale, owner = await superseded(store, "w")
        await store.save_nap(owner, "n", NOW + SECOND, NOW)
        before = await store.find_nap("w", "n")
        assert await store.save_nap(stale, "n", NOW + 2 * SECOND, NOW) == NOW + SECOND
        assert await store.save_nap(owner, "n", NOW + 3 * SECOND, NOW) == NOW + SECOND
        assert await store.find_nap("w", "n") == before

    @rule("Store.save_step")
    async def test_a_recorded_step_resets_crashes(self, store: Store) -> None:
        _, owner = await superseded(store, "w")
        assert (await found(store, "w")).crashes == 1
        await store.save_step(owner, "s", 1, NOW)
        assert (await found(store, "w")).crashes == 0

    @rule("Store.save_nap")
    async def test_a_recorded_nap_resets_crashes(self, store: Store) -> None:
        _, owner = await superseded(store, "w")
        await store.save_nap(owner, "n", NOW, NOW)
        assert (await found(store, "w")).crashes == 0

    @rule("Store.save_attempt")
    async def test_an_attempt_is_recorded_and_is_no_nap_and_no_step(self, store: Store) -> None:
        claim = await claimed(store, "w")
        first = attempt(1)
        assert await store.save_attempt(claim, first) == first
        assert await store.history([claim]) == {"w": History(attempts={"s": first})}
        assert await store.find_step("w", "s") is None
        assert await store.find_nap("w", "s") is None
        assert await store.save_step(claim, "s", "done", NOW) == "done"
        assert await store.save_nap(claim, "s", NOW, NOW) == NOW

    @rule("Store.save_attempt")
    async def test_the_first_record_of_an_attempt_wins(self, store: Store) -> None:
        stale, owner = await superseded(store, "w")
        first = attempt(1)
        await store.save_attempt(owner, first)
        later = replace(first, retry_at=None, saved_at=NOW + SECOND)
        assert await store.save_attempt(stale, later) == first
        assert await store.save_attempt(owner, later) == first

    @rule("Store.history")
    async def test_a_history_has_the_latest_attempt_of_each_step(self, store: Store) -> None:
        claim = await claimed(store, "w")
        for number in (2, 10, 1):
            await store.save_attempt(claim, attempt(number))
        last = replace(attempt(3, "t"), retry_at=None)
        await store.save_attempt(claim, last)
        history = (await store.history([claim]))["w"]
        assert history == History(attempts={"s": attempt(10), "t": last})

    @rule("Store.save_attempt")
    async def test_the_begin_of_an_attempt_is_recorded_beside_what_comes_of_it(
        self, store: Store
    ) -> None:
        claim = await claimed(store, "w")
        begin = replace(attempt(-1), retry_at=None)
        assert await store.save_attempt(claim, begin) == begin
        assert await store.history([claim]) == {"w": History(attempts={"s": begin})}
        assert await store.save_attempt(claim, attempt(1)) == attempt(1)
        assert await store.save_attempt(claim, begin) == begin

    @rule("Store.history")
    async def test_a_begin_is_the_latest_attempt_until_it_has_failed(self, store: Store) -> None:
        claim = await claimed(store, "w")
        begins = {number: replace(attempt(-number), retry_at=None) for number in (1, 2)}
        for recorded in (attempt(1), begins[1]):
            await store.save_attempt(claim, recorded)
        history = (await store.history([claim]))["w"]
        assert history == History(attempts={"s": attempt(1)})
        for latest in (begins[2], attempt(2)):
            await store.save_attempt(claim, latest)
            history = (await store.history([claim]))["w"]
            assert history == History(attempts={"s": latest})

    @rule("Store.history")
    async def test_a_history_has_no_attempts_of_earlier_rounds(self, store: Store) -> None:
        claim = await claimed(store, "w")
        await store.save_attempt(claim, attempt(4))
        await store.fail(claim, failure(None), NOW)
        await store.control("w", Transition.RETRY, NOW)
        (again,) = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
        assert await store.history([again]) == {"w": History()}
        second = replace(attempt(1), round=1)
        await store.save_attempt(again, second)
        assert await store.history([again]) == {"w": History(attempts={"s": second})}

    @rule("Store.save_attempt")
    async def test_a_recorded_attempt_resets_crashes(self, store: Store) -> None:
        _, owner = await superseded(store, "w")
        await store.save_attempt(owner, attempt(1))
        assert (await found(store, "w")).crashes == 0

    @rule("Store.fail_step")
    async def test_a_step_that_is_given_up_is_kept_with_its_workflow(self, store: Store) -> None:
        _, owner = await superseded(store, "w")
        before = await found(store, "w")
        failed = [FailedStep(step_id=s, error=ERROR, attempts=3, failed_at=NOW) for s in "ab"]
        for step in failed:
            await store.fail_step(owner, step)
        after = await found(store, "w")
        assert (after.failed_steps, after.crashes) == (tuple(failed), 0)
        assert after == machine.fail_step(machine.fail_step(before, failed[0]), failed[1])
        await store.fail_step(owner, replace(failed[0], attempts=4, failed_at=NOW + SECOND))
        assert await found(store, "w") == after
        (again,) = await store.claim(
            ClaimRequest(worker="worker", now=NOW + 2 * LEASE, lease=LEASE, limit=1)
        )
        assert again.workflow.failed_steps == tuple(failed)

    @rule("Store.fail_step")
    async def test_only_the_owner_gives_a_step_up(self, store: Store) -> None:
        stale, owner = await superseded(store, "w")
        failed = FailedStep(step_id="s", error=ERROR, attempts=3, failed_at=NOW)
        with pytest.raises(ClaimLost, match="claim 1 was superseded by claim 2"):
            await store.fail_step(stale, failed)
        assert await found(store, "w") == owner.workflow
        await store.finish(owner, None, NOW)
        with pytest.raises(ClaimLost, match="has ended, the workflow is 'finished'"):
            await store.fail_step(owner, failed)
