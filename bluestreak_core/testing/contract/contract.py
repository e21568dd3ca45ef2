"""The Store protocol as a test suite, which every adapter subclasses."""

from __future__ import annotations

from collections.abc import Mapping
from typing import ClassVar

import pytest

from bluestreak_core.store import (
    Store,
    SupportsForks,
    SupportsPruning,
    SupportsSearch,
    SupportsThreadRenewal,
    SupportsTransactions,
)
from bluestreak_core.testing.contract.cancelling import CancellingContract
from bluestreak_core.testing.contract.claiming import ClaimingContract
from bluestreak_core.testing.contract.control import ControlContract
from bluestreak_core.testing.contract.ending import EndingContract
from bluestreak_core.testing.contract.fork import ForkContract
from bluestreak_core.testing.contract.hint import HintContract
from bluestreak_core.testing.contract.racing import RacingContract
from bluestreak_core.testing.contract.recording import RecordingContract
from bluestreak_core.testing.contract.renewer import RenewerContract
from bluestreak_core.testing.contract.rule import Rules, rule
from bluestreak_core.testing.contract.search import SearchContract
from bluestreak_core.testing.contract.starting import StartingContract
from bluestreak_core.testing.contract.time import TimeContract
from bluestreak_core.testing.contract.transaction import TransactionContract
from bluestreak_core.testing.contract.value import UNSTORABLE, VALUES, ValueContract

__all__ = ["UNSTORABLE", "VALUES", "StoreContract"]

POWERS: Mapping[type, type[Rules]] = {
    SupportsForks: ForkContract,
    SupportsSearch: SearchContract,
    SupportsPruning: SearchContract,
    SupportsTransactions: TransactionContract,
    SupportsThreadRenewal: RenewerContract,
}
"""What only some stores can do, each with the contract that proves it."""


@pytest.mark.asyncio
class StoreContract(
    StartingContract,
    ClaimingContract,
    RecordingContract,
    EndingContract,
    ControlContract,
    ValueContract,
    TimeContract,
    HintContract,
    RacingContract,
    CancellingContract,
):
    """What every store promises, one test a rule.

    Subclass it and give it a fixture named `store`: a new, empty, initialised store.

        class TestMyStore(StoreContract):
            @pytest_asyncio.fixture
            async def store(self):
                store = MyStore()
                await store.init()
                yield store
                await store.close()

    The tests are coroutines marked for pytest-asyncio. They tell the store the time. None takes
    longer than `time_limit`, and one that fails names the rule that is broken, and where that is
    written.
    """

    unproved: ClassVar[Mapping[type, str]] = {}
    """The powers of the store that this suite does not prove, each with the reason."""

    @rule("#powers-that-only-some-stores-have")
    async def test_each_power_of_the_store_is_proved(self, store: Store) -> None:
        for power, contract in POWERS.items():
            if isinstance(store, power) and power not in self.unproved:
                assert isinstance(self, contract), f"subclass {contract.__name__}, too"
