"""How every store hands out claims and renews them; a part of `StoreContract`."""

from __future__ import annotations

from collections.abc import Coroutine, Sequence
from typing import Any

from bluestreak_core import machine
from bluestreak_core.model import Claim, ClaimEntry, ClaimRequest, History, Status, Workflow
from bluestreak_core.store import Store
from bluestreak_core.testing.contract.arrange import (
    LEASE,
    NOW,
    SECOND,
    claimed,
    failure,
    found,
    gather,
    new,
    superseded,
)
from bluestreak_core.testing.contract.rule import Rules, rule


class ClaimingContract(Rules):
    """The tests of `claim`, `history` and `renew`."""

    @rule("Store.claim")
    async def test_a_claim_marks_the_workflow(self, store: Store) -> None:
        claim = await claimed(store, "w")
        workflow = await found(store, "w")
        assert claim.workflow == workflow
        assert workflow == Workflow(
            workflow_id="w",
            handler_id="h",
            input=None,
            status=Status.RUNNING,
            timeout_at=NOW + LEASE,
            claims=1,
            claim_token=claim.token,
            worker="worker",
            created_at=NOW,
            started_at=NOW,
            claim_log=(ClaimEntry(worker="worker", claimed_at=NOW, after_crash=False),),
        )

    @rule("Store.claim")
    async def test_nothing_due_is_no_claim(self, store: Store) -> None:
        assert (
            list(await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=10)))
            == []
        )

    @rule("Store.claim")
    async def test_a_workflow_is_claimed_when_it_is_due_and_not_before(self, store: Store) -> None:
        await store.create(new("w", created_at=NOW + SECOND))
        before = await found(store, "w")
        assert (
            list(await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=10)))
            == []
        )
        assert await found(store, "w") == before
        assert (
            len(
                await store.claim(
                    ClaimRequest(worker="worker", now=NOW + SECOND, lease=LEASE, limit=10)
                )
            )
            == 1
        )

    @rule("Store.claim")
    async def test_at_most_limit_are_claimed_the_longest_due_first(self, store: Store) -> None:
        for name, age in (("b", 2), ("d", 0), ("a", 3), ("c", 1)):
            await store.create(new(name, created_at=NOW - age * SECOND))
        first = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=2))
        second = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=10))
        assert [claim.workflow_id for claim in first] == ["a", "b"]
        assert [claim.workflow_id for claim in second] == ["c", "d"]

    @rule("Store.claim")
    async def test_an_expired_lease_is_not_starved_by_new_work(self, store: Store) -> None:
        await claimed(store, "expired")
        later = NOW + LEASE
        for name in "abc":
            await store.create(new(name, created_at=later + SECOND))
        (claim,) = await store.claim(
            ClaimRequest(worker="worker", now=later + SECOND, lease=LEASE, limit=1)
        )
        assert claim.workflow_id == "expired"

    @rule("Store.claim")
    async def test_only_the_given_handlers_are_claimed(self, store: Store) -> None:
        await store.create(new("w1", handler_id="h1"))
        await store.create(new("w2", handler_id="h2"))
        claims = await store.claim(
            ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=10, handlers={"h2", "h3"})
        )
        assert [claim.workflow_id for claim in claims] == ["w2"]
        assert (
            list(
                await store.claim(
                    ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=10, handlers=[])
                )
            )
            == []
        )
        assert (await found(store, "w1")).status is Status.IDLE
        assert (
            len(await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=10)))
            == 1
        )

    @rule("Store.claim")
    async def test_a_claimed_workflow_is_not_claimed_again(self, store: Store) -> None:
        await claimed(store, "w")
        assert (
            list(
                await store.claim(
                    ClaimRequest(worker="other", now=NOW + LEASE - SECOND, lease=LEASE, limit=10)
                )
            )
            == []
        )

    @rule("Store.claim")
    async def test_an_expired_lease_is_taken_over_and_counts_a_crash(self, store: Store) -> None:
        first = await claimed(store, "w")
        (second,) = await store.claim(
            ClaimRequest(worker="other", now=NOW + LEASE, lease=LEASE, limit=10)
        )
        assert second.token != first.token
        assert (second.number, second.workflow.crashes) == (2, 1)
        assert second.workflow.worker == "other"
        assert second.workflow.started_at == NOW
        assert second.workflow.claim_log == (
            ClaimEntry(worker="worker", claimed_at=NOW, after_crash=False),
            ClaimEntry(worker="other", claimed_at=NOW + LEASE, after_crash=True),
        )

    @rule("Store.claim")
    async def test_a_claim_knows_since_when_its_workflow_was_due_if_it_says_so(
        self, store: Store
    ) -> None:
        await store.create(new("w", created_at=NOW - SECOND))
        (first,) = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=10))
        await store.park(first, NOW + SECOND)
        (parked,) = await store.claim(
            ClaimRequest(worker="worker", now=NOW + 3 * SECOND, lease=LEASE, limit=10)
        )
        (taken,) = await store.claim(
            ClaimRequest(worker="other", now=NOW + 9 * LEASE, lease=LEASE, limit=10)
        )
        due = [claim.due_at for claim in (first, parked, taken)]
        known = [NOW - SECOND, NOW + SECOND, NOW + 3 * SECOND + LEASE]
        assert due in (known, [None] * 3)

    @rule("Store.claim")
    async def test_a_workflow_was_started_by_its_earliest_claim(self, store: Store) -> None:
        await store.release(await claimed(store, "w"), NOW - 2 * SECOND)
        earlier = NOW - SECOND  # the clocks of two servers disagree
        (again,) = await store.claim(
            ClaimRequest(worker="worker", now=earlier, lease=LEASE, limit=1)
        )
        assert again.workflow.started_at == earlier
        assert await found(store, "w") == again.workflow

    @rule("Store.claim")
    async def test_a_failed_workflow_is_claimed_at_its_retry_instant(self, store: Store) -> None:
        await store.fail(await claimed(store, "w"), failure(NOW + SECOND), NOW)
        assert (
            list(await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=10)))
            == []
        )
        (claim,) = await store.claim(
            ClaimRequest(worker="worker", now=NOW + SECOND, lease=LEASE, limit=10)
        )
        assert (claim.workflow.failures, claim.workflow.crashes) == (1, 0)

    @rule("#atomic-calls")
    async def test_racing_claims_never_share_a_workflow(self, store: Store) -> None:
        for number in range(30):
            await store.create(new(f"w{number}"))
        taken: list[str] = []
        while claims := await _race(*(_claim_some(store, f"worker {n}") for n in range(4))):
            taken += [claim.workflow_id for claim in claims]
        assert sorted(taken) == sorted(f"w{number}" for number in range(30))

    @rule("Store.claim")
    async def test_the_claim_log_keeps_the_newest_entries(self, store: Store) -> None:
        await store.create(new("w"))
        for _ in range(machine.MAX_CLAIM_LOG + 5):
            (claim,) = await store.claim(
                ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1)
            )
            await store.release(claim, NOW)
        workflow = await found(store, "w")
        assert len(workflow.claim_log) == machine.MAX_CLAIM_LOG
        assert workflow.claims == machine.MAX_CLAIM_LOG + 5

    # History -------------------------------------------------------------------------------------

    @rule("Store.history")
    async def test_a_history_is_what_each_workflow_has_recorded(self, store: Store) -> None:
        first, second, third = [await claimed(store, name) for name in ("w1", "w2", "w3")]
        await store.save_step(first, "a", [1], NOW)
        await store.save_step(first, "b", None, NOW)
        await store.save_step(second, "a", 2, NOW)
        await store.save_nap(second, "n", NOW + SECOND, NOW)
        assert await store.history([first, second, third]) == {
            "w1": History(steps={"a": [1], "b": None}),
            "w2": History(steps={"a": 2}, naps={"n": NOW + SECOND}),
            "w3": History(),
        }

    @rule("Store.history")
    async def test_a_long_history_is_complete(self, store: Store) -> None:
        claim = await claimed(store, "w")
        steps = {f"step {number}": number for number in range(300)}
        for step_id, output in steps.items():
            await store.save_step(claim, step_id, output, NOW)
        assert await store.history([claim]) == {"w": History(steps=steps)}

    @rule("Store.history")
    async def test_a_history_of_no_claims_is_empty(self, store: Store) -> None:
        assert await store.history([]) == {}

    # Renewing ------------------------------------------------------------------------------------

    @rule("Store.renew")
    async def test_renewing_moves_the_lease_and_nothing_else(self, store: Store) -> None:
        claims = [await claimed(store, name) for name in ("w1", "w2")]
        before = await found(store, "w1")
        assert await store.renew(claims, NOW + SECOND, LEASE) == []
        after = await found(store, "w1")
        assert after.timeout_at == NOW + SECOND + LEASE
        assert machine.renew(before, NOW + SECOND, LEASE) == after
        assert await store.renew(claims, NOW + SECOND, LEASE) == []

    @rule("Store.renew")
    async def test_a_renewal_that_arrives_late_does_not_shorten_the_lease(
        self, store: Store
    ) -> None:
        claim = await claimed(store, "w")
        assert await store.renew([claim], NOW + 2 * SECOND, LEASE) == []
        before = await found(store, "w")
        assert await store.renew([claim], NOW + SECOND, LEASE) == []
        assert await found(store, "w") == before

    @rule("Store.renew")
    async def test_renewing_revives_an_expired_lease_that_nobody_took(self, store: Store) -> None:
        claim = await claimed(store, "w")
        assert await store.renew([claim], NOW + 5 * LEASE, LEASE) == []
        assert (
            list(
                await store.claim(
                    ClaimRequest(worker="other", now=NOW + 5 * LEASE, lease=LEASE, limit=10)
                )
            )
            == []
        )

    @rule("Store.renew")
    async def test_renewing_tells_which_claims_are_lost(self, store: Store) -> None:
        stale, owner = await superseded(store, "w1")
        kept = await claimed(store, "w2")
        ended = await claimed(store, "w3")
        await store.finish(ended, None, NOW)
        later = NOW + 2 * LEASE
        assert await store.renew([stale, kept, ended, owner], later, LEASE) == [stale, ended]
        assert (await found(store, "w1")).timeout_at == later + LEASE
        assert (await found(store, "w2")).timeout_at == later + LEASE
        assert (await found(store, "w3")).status is Status.FINISHED

    @rule("Store.renew")
    async def test_renewing_a_stale_claim_leaves_its_successor_alone(self, store: Store) -> None:
        stale = await claimed(store, "w1")
        await store.create(new("w2"))
        claims = await store.claim(
            ClaimRequest(worker="other", now=NOW + LEASE, lease=LEASE, limit=2)
        )
        (successor,) = [claim for claim in claims if claim.workflow_id == "w1"]
        (owner,) = [claim for claim in claims if claim.workflow_id == "w2"]
        assert await store.renew([stale, owner], NOW + 2 * LEASE, LEASE) == [stale]
        assert await found(store, "w1") == successor.workflow
        assert (await found(store, "w2")).timeout_at == NOW + 3 * LEASE

    @rule("Store.renew")
    async def test_renewing_nothing_is_nothing(self, store: Store) -> None:
        assert await store.renew([], NOW, LEASE) == []


async def _claim_some(store: Store, worker: str) -> Sequence[Claim]:
    return await store.claim(ClaimRequest(worker=worker, now=NOW, lease=LEASE, limit=3))


async def _race(*calls: Coroutine[Any, Any, Sequence[Claim]]) -> list[Claim]:
    return [claim for claims in await gather(*calls) for claim in claims]
