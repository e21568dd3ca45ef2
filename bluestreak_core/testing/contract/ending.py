"""How every store lets a claim end, once; a part of `StoreContract`."""

from __future__ import annotations

import asyncio
from types import NoneType

import pytest

from bluestreak_core import machine
from bluestreak_core.errors import ClaimLost, UnstorableValue
from bluestreak_core.machine import Transition
from bluestreak_core.model import Claim, ClaimRequest, Status
from bluestreak_core.store import Store
from bluestreak_core.testing.contract.arrange import (
    ENDINGS,
    ERROR,
    LEASE,
    NOW,
    SECOND,
    claimed,
    end,
    failure,
    found,
    new,
    superseded,
)
from bluestreak_core.testing.contract.rule import Rules, rule


class EndingContract(Rules):
    """The tests of `park`, `release`, `finish` and `fail`."""

    @rule("Store.park")
    async def test_parking_gives_the_claim_back_until_then(self, store: Store) -> None:
        claim = await claimed(store, "w")
        before = await found(store, "w")
        await store.park(claim, NOW + 5 * LEASE)
        assert await found(store, "w") == machine.park(before, NOW + 5 * LEASE)
        assert (
            list(
                await store.claim(
                    ClaimRequest(worker="other", now=NOW + 5 * LEASE - SECOND, lease=LEASE, limit=1)
                )
            )
            == []
        )
        (again,) = await store.claim(
            ClaimRequest(worker="other", now=NOW + 5 * LEASE, lease=LEASE, limit=1)
        )
        assert again.workflow.crashes == 0

    @rule("Store.release")
    async def test_releasing_gives_the_claim_back_at_once(self, store: Store) -> None:
        claim = await claimed(store, "w")
        before = await found(store, "w")
        await store.release(claim, NOW + SECOND)
        assert await found(store, "w") == machine.release(before, NOW + SECOND)
        (again,) = await store.claim(
            ClaimRequest(worker="other", now=NOW + SECOND, lease=LEASE, limit=1)
        )
        assert again.workflow.crashes == 0

    @rule("Store.finish")
    async def test_finishing_records_the_result(self, store: Store) -> None:
        claim = await claimed(store, "w")
        before = await found(store, "w")
        await store.finish(claim, {"a": (1,)}, NOW + SECOND)
        after = await found(store, "w")
        assert after == machine.finish(before, {"a": [1]}, NOW + SECOND)
        assert (after.timeout_at, after.finished_at) == (NOW + SECOND, NOW + SECOND)

    @rule("Store.fail")
    async def test_failing_records_the_error_and_the_retry(self, store: Store) -> None:
        claim = await claimed(store, "w")
        before = await found(store, "w")
        to_retry = failure(NOW + 2 * SECOND)
        await store.fail(claim, to_retry, NOW + SECOND)
        after = await found(store, "w")
        assert after == machine.fail(before, to_retry, NOW + SECOND)
        assert (after.status, after.failures, after.error) == (Status.FAILED, 1, ERROR)
        assert (after.timeout_at, after.finished_at) == (NOW + 2 * SECOND, None)

    @rule("Store.fail")
    async def test_failing_for_good_aborts(self, store: Store) -> None:
        claim = await claimed(store, "w")
        before = await found(store, "w")
        await store.fail(claim, failure(None), NOW + SECOND)
        after = await found(store, "w")
        assert after == machine.fail(before, failure(None), NOW + SECOND)
        assert (after.status, after.failures, after.error) == (Status.ABORTED, 1, ERROR)
        assert (after.timeout_at, after.finished_at) == (NOW + SECOND, NOW + SECOND)

    @pytest.mark.parametrize("event", [Transition.FINISH, Transition.ABORT])
    @rule("Store.claim")
    async def test_an_ended_workflow_is_never_claimed(
        self, store: Store, event: Transition
    ) -> None:
        claim = await claimed(store, "w")
        await end(store, claim, event)
        assert (
            list(
                await store.claim(
                    ClaimRequest(worker="other", now=NOW + 100 * LEASE, lease=LEASE, limit=10)
                )
            )
            == []
        )

    @pytest.mark.parametrize("event", ENDINGS)
    @rule("#repeated-calls")
    async def test_a_repeated_ending_changes_nothing(self, store: Store, event: Transition) -> None:
        claim = await claimed(store, "w")
        await end(store, claim, event)
        before = await found(store, "w")
        await end(store, claim, event)
        assert await found(store, "w") == before

    @pytest.mark.parametrize("event", [Transition.PARK, Transition.RELEASE, Transition.FAIL])
    @rule("#repeated-calls")
    async def test_an_ending_repeated_after_the_next_claim_changes_nothing(
        self, store: Store, event: Transition
    ) -> None:
        claim = await claimed(store, "w")
        await end(store, claim, event)
        (owner,) = await store.claim(
            ClaimRequest(worker="other", now=NOW + LEASE, lease=LEASE, limit=1)
        )
        await end(store, claim, event)
        assert await found(store, "w") == owner.workflow

    @rule("#atomic-calls")
    async def test_claims_that_end_together_share_no_fate(self, store: Store) -> None:
        for number in range(20):
            await store.create(new(f"w{number}"))
        stale = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=10))
        owners = await store.claim(
            ClaimRequest(worker="other", now=NOW + LEASE, lease=LEASE, limit=20)
        )
        endings = [store.finish(claim, claim.number, NOW) for claim in (*stale, *owners)]
        outcomes = await asyncio.gather(*endings, return_exceptions=True)
        assert [type(outcome) for outcome in outcomes] == [ClaimLost] * 10 + [NoneType] * 20
        for claim in owners:
            assert (await found(store, claim.workflow_id)).result == claim.number

    @rule("#atomic-calls")
    async def test_records_made_together_share_no_fate(self, store: Store) -> None:
        claim = await claimed(store, "w")
        await store.save_step(claim, "s1", "first", NOW)
        saves = [store.save_step(claim, f"s{n}", object() if n == 2 else n, NOW) for n in range(4)]
        outcomes = await asyncio.gather(*saves, return_exceptions=True)
        assert [outcomes[0], outcomes[1], outcomes[3]] == [0, "first", 3]
        assert isinstance(outcomes[2], UnstorableValue)
        assert (await store.history([claim]))["w"].steps == {"s0": 0, "s1": "first", "s3": 3}

    @pytest.mark.parametrize("event", ENDINGS)
    @rule("#stale-callers")
    async def test_a_stale_claim_cannot_end_its_successor(
        self, store: Store, event: Transition
    ) -> None:
        stale, owner = await superseded(store, "w")
        before = await found(store, "w")
        with pytest.raises(ClaimLost, match=r"workflow 'w': claim 1 was superseded by claim 2"):
            await end(store, stale, event)
        assert await found(store, "w") == before
        await store.finish(owner, "undisturbed", NOW)
        assert (await found(store, "w")).result == "undisturbed"

    @pytest.mark.parametrize("event", ENDINGS)
    @rule("#stale-callers")
    async def test_a_stale_claim_cannot_end_what_its_successor_ended(
        self, store: Store, event: Transition
    ) -> None:
        stale, owner = await superseded(store, "w")
        await end(store, owner, event)
        before = await found(store, "w")
        with pytest.raises(ClaimLost):
            await end(store, stale, event)
        assert await found(store, "w") == before

    @pytest.mark.parametrize("first", ENDINGS)
    @rule("#stale-callers")
    async def test_a_claim_ends_once(self, store: Store, first: Transition) -> None:
        claim = await claimed(store, "w")
        await end(store, claim, first)
        before = await found(store, "w")
        for second in ENDINGS:
            if machine.target(second) is not machine.target(first):
                with pytest.raises(ClaimLost, match="has ended"):
                    await end(store, claim, second)
                assert await found(store, "w") == before

    @rule("#stale-callers")
    async def test_a_claim_of_a_workflow_that_never_was_is_lost(self, store: Store) -> None:
        claim = await claimed(store, "w")
        ghost = Claim(token=claim.token, workflow=machine.create(new("ghost")))
        with pytest.raises(ClaimLost, match="'ghost'"):
            await store.finish(ghost, None, NOW)
        assert await store.find_workflow("ghost") is None
        assert await store.renew([ghost, claim], NOW, LEASE) == [ghost]
