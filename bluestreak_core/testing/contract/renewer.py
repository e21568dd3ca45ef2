"""What `SupportsThreadRenewal` asks of a store, as a test suite; see `StoreContract`."""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import Protocol

import pytest

from bluestreak_core.model import Claim, Status
from bluestreak_core.store import Renewer, Store, SupportsThreadRenewal
from bluestreak_core.testing.contract.arrange import LEASE, NOW, SECOND, claimed, found, superseded
from bluestreak_core.testing.contract.rule import Rules, rule

PATIENCE = 30.0
"""Seconds after which a thread that has not returned is taken to wait for the event loop."""


class RenewingStore(Store, SupportsThreadRenewal, Protocol):
    """A store with this power."""


class RenewerContract(Rules):
    """The tests of a store that renews leases while the event loop is blocked.

    They are a part of `StoreContract`. The store of the fixture must have a renewer, not None.
    """

    pytestmark = pytest.mark.asyncio

    @rule("Renewer.renew")
    async def test_a_renewer_extends_leases_while_the_loop_is_blocked(
        self, store: RenewingStore
    ) -> None:
        claim = await claimed(store, "w")
        with _renewer(store) as renewer:
            assert _renewed(renewer, [claim], NOW + SECOND) == []
            assert (await found(store, "w")).timeout_at == NOW + SECOND + LEASE
            assert _renewed(renewer, [claim], NOW) == []
            assert (await found(store, "w")).timeout_at == NOW + SECOND + LEASE

    @rule("Renewer.renew")
    async def test_a_renewer_names_the_claims_that_are_lost(self, store: RenewingStore) -> None:
        stale, owner = await superseded(store, "w1")
        ended = await claimed(store, "w2")
        await store.finish(ended, None, NOW)
        later = NOW + 2 * LEASE
        with _renewer(store) as renewer:
            assert _renewed(renewer, [stale, ended, owner], later) == [stale, ended]
        assert (await found(store, "w1")).timeout_at == later + LEASE
        assert (await found(store, "w2")).status is Status.FINISHED

    @rule("Renewer.close")
    async def test_a_renewer_may_be_closed_unused_and_again(self, store: RenewingStore) -> None:
        with _renewer(store) as renewer:
            renewer.close()


@contextmanager
def _renewer(store: RenewingStore) -> Iterator[Renewer]:
    renewer = store.renewer()
    assert renewer is not None
    try:
        yield renewer
    finally:
        renewer.close()


def _renewed(renewer: Renewer, claims: Sequence[Claim], now: datetime) -> list[Claim]:
    """What a renewer returns in another thread while this thread's loop is blocked."""
    outcomes: list[list[Claim] | Exception] = []

    def renew() -> None:
        try:
            outcomes.append(renewer.renew(claims, now, LEASE))
        except Exception as error:  # noqa: BLE001 - raised below, in the thread of the test
            outcomes.append(error)

    thread = threading.Thread(target=renew, daemon=True)
    thread.start()
    thread.join(PATIENCE)
    assert outcomes, f"renew() has not returned in {PATIENCE:g} s, in which the loop was blocked"
    (outcome,) = outcomes
    if isinstance(outcome, Exception):
        raise outcome
    return outcome
