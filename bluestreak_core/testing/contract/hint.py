"""How every store wakes its waiting callers; a part of `StoreContract`."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

import pytest

from bluestreak_core.machine import Transition
from bluestreak_core.model import Claim, ClaimRequest, NewWorkflow
from bluestreak_core.store import Store
from bluestreak_core.testing.contract.arrange import LEASE, LONG, NOW, begun, end, found, new
from bluestreak_core.testing.contract.rule import Rules, rule

ENDS = [Transition.FINISH, Transition.ABORT, Transition.CANCEL]
LONG_AFTER = datetime(9000, 1, 1, tzinfo=UTC)


class HintContract(Rules):
    """The tests of `wait_for_work`, `wait_for_end` and `wait_for_control`.

    Changes through this very store object must end a wait; a wait may miss changes by others. A
    wait may also return for nothing, so each test looks, and waits again. Hints use the store's
    clock.
    """

    @rule("#hints")
    async def test_hints_return(self, store: Store) -> None:
        await store.create(new("w"))
        await store.wait_for_work(timedelta(0))
        assert isinstance(await store.wait_for_end("w", NOW, timedelta(0)), bool)
        assert await _comes_to_rest(store, "w")
        assert await _comes_to_rest(store, "no such workflow")
        assert not await store.wait_for_control("worker", LONG_AFTER, timedelta(0))

    @rule("Store.wait_for_work")
    async def test_work_that_arrives_ends_a_wait_that_has_begun(self, store: Store) -> None:
        assert await _claims(store) == []
        async with (
            begun(_until_claimed(store)) as waiting,
            begun(store.create(_due(store)), turns=1) as creating,
        ):
            assert (await waiting).workflow_id == "w"
            assert await creating

    @rule("Store.wait_for_work")
    async def test_work_that_arrives_between_a_look_and_the_wait_ends_the_wait(
        self, store: Store
    ) -> None:
        assert await _claims(store) == []
        await store.create(_due(store))
        await store.wait_for_work(LONG)
        assert len(await _claims(store)) == 1

    @rule("Store.wait_for_work")
    async def test_work_that_is_given_back_ends_a_wait(self, store: Store) -> None:
        claim = await _claimed(store)
        assert await _claims(store) == []
        async with begun(_until_claimed(store)) as waiting:
            await store.release(claim, store.clock.now())
            assert (await waiting).number == 2

    @pytest.mark.parametrize("event", ENDS)
    @rule("Store.wait_for_end")
    async def test_an_end_ends_a_wait_for_it(self, store: Store, event: Transition) -> None:
        claim = await _claimed(store)
        async with (
            begun(store.wait_for_end("w", store.clock.now(), LONG)) as waiting,
            begun(_end(store, claim, event), turns=1) as ending,
        ):
            await waiting
            await _until_ended(store, "w")
            await ending

    @pytest.mark.parametrize("event", [Transition.CANCEL, Transition.PAUSE])
    @rule("Store.wait_for_control")
    async def test_a_worker_whose_claim_is_taken_is_woken(
        self, store: Store, event: Transition
    ) -> None:
        claim = await _claimed(store)
        since = store.clock.now()
        async with begun(store.wait_for_control("worker", since, LONG)) as waiting:
            await store.control("w", event, store.clock.now())
            assert await waiting
        assert await store.renew([claim], store.clock.now(), LEASE) == [claim]
        assert await store.wait_for_control("worker", since, LONG)


def _due(store: Store) -> NewWorkflow:
    return new("w", created_at=store.clock.now())


async def _claimed(store: Store) -> Claim:
    await store.create(_due(store))
    (claim,) = await _claims(store)
    return claim


async def _claims(store: Store) -> Sequence[Claim]:
    return list(
        await store.claim(
            ClaimRequest(worker="worker", now=store.clock.now(), lease=LEASE, limit=10)
        )
    )


async def _comes_to_rest(store: Store, workflow_id: str) -> bool:
    """Whether a wait for an end that has not come times out, after a few hints for nothing."""
    for _ in range(10):
        if not await store.wait_for_end(workflow_id, LONG_AFTER, timedelta(0)):
            return True
    return False


async def _until_claimed(store: Store) -> Claim:
    while not (claims := await _claims(store)):
        await store.wait_for_work(LONG)
    return claims[0]


async def _end(store: Store, claim: Claim, event: Transition) -> None:
    if event is Transition.CANCEL:
        await store.control(claim.workflow_id, event, store.clock.now())
    else:
        await end(store, claim, event)


async def _until_ended(store: Store, workflow_id: str) -> None:
    since = store.clock.now()
    while not (await found(store, workflow_id)).status.ended:
        await store.wait_for_end(workflow_id, since, LONG)
        since = store.clock.now()
        await asyncio.sleep(0)  # for the time limit, if the wait returns at once each time
