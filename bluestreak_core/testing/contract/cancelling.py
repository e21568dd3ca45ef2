"""What a store does when the engine cancels a call; a part of `StoreContract`."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from typing import Any

import pytest

from bluestreak_core.machine import Transition
from bluestreak_core.model import Claim, ClaimRequest, FailedStep
from bluestreak_core.store import Store
from bluestreak_core.testing.contract.arrange import (
    ENDINGS,
    ERROR,
    LEASE,
    NOW,
    attempt,
    begun,
    claimed,
    end,
    let_others_run,
    new,
)
from bluestreak_core.testing.contract.rule import Rules, rule

TURNS = range(6)
"""The turns of the loop before a call is cancelled."""

FAILED = FailedStep(step_id="s", error=ERROR, attempts=1, failed_at=NOW)

CALLS: Mapping[str, Callable[[Store, Claim], Awaitable[Any]]] = {
    "create": lambda store, _: store.create(new("other")),
    "create_many": lambda store, _: store.create_many([new("other")]),
    "claim": lambda store, _: store.claim(
        ClaimRequest(worker="worker", now=NOW + LEASE, lease=LEASE, limit=1)
    ),
    "renew": lambda store, claim: store.renew([claim], NOW + LEASE, LEASE),
    "save_step": lambda store, claim: store.save_step(claim, "s", 1, NOW),
    "save_nap": lambda store, claim: store.save_nap(claim, "s", NOW, NOW),
    "save_attempt": lambda store, claim: store.save_attempt(claim, attempt(1)),
    "fail_step": lambda store, claim: store.fail_step(claim, FAILED),
    "control": lambda store, _: store.control("w", Transition.CANCEL, NOW),
} | {event.value: lambda store, claim, event=event: end(store, claim, event) for event in ENDINGS}


class CancellingContract(Rules):
    """The tests of cancelled calls."""

    @pytest.mark.parametrize("turns", TURNS)
    @pytest.mark.parametrize("name", CALLS)
    @rule("#cancelled-calls")
    async def test_nothing_of_a_cancelled_call_goes_on(
        self, store: Store, name: str, turns: int
    ) -> None:
        claim = await claimed(store, "w")
        async with begun(CALLS[name](store, claim), turns=turns):
            pass
        left = await _all_there_is(store, claim)
        await let_others_run()
        assert await _all_there_is(store, claim) == left


async def _all_there_is(store: Store, claim: Claim) -> list[Any]:
    workflows = [await store.find_workflow(name) for name in ("w", "other")]
    return [*workflows, await store.history([claim])]
