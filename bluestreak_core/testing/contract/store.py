"""The Store protocol as a test suite, which every adapter subclasses."""

from __future__ import annotations

import pytest

from bluestreak_core.testing.contract.cancelling import CancellingContract
from bluestreak_core.testing.contract.children import ChildrenContract
from bluestreak_core.testing.contract.claiming import ClaimingContract
from bluestreak_core.testing.contract.compensation import CompensationContract
from bluestreak_core.testing.contract.control import ControlContract
from bluestreak_core.testing.contract.ending import EndingContract
from bluestreak_core.testing.contract.fork import ForkContract
from bluestreak_core.testing.contract.hint import HintContract
from bluestreak_core.testing.contract.message import MessageContract
from bluestreak_core.testing.contract.pruning import PruningContract
from bluestreak_core.testing.contract.publishing import PublishingContract
from bluestreak_core.testing.contract.racing import RacingContract
from bluestreak_core.testing.contract.recording import RecordingContract
from bluestreak_core.testing.contract.registry import RegistryContract
from bluestreak_core.testing.contract.renewer import RenewerContract
from bluestreak_core.testing.contract.restart import RestartContract
from bluestreak_core.testing.contract.search import SearchContract
from bluestreak_core.testing.contract.starting import StartingContract
from bluestreak_core.testing.contract.time import TimeContract
from bluestreak_core.testing.contract.transaction import TransactionContract
from bluestreak_core.testing.contract.value import ValueContract


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
    SearchContract,
    PruningContract,
    ForkContract,
    TransactionContract,
    MessageContract,
    ChildrenContract,
    PublishingContract,
    RestartContract,
    CompensationContract,
    RegistryContract,
    RenewerContract,
):
    """The promises of every store, and of each power, one test a rule.

    Subclass it and give it a fixture named `store`: a new, empty, initialised store.

        class TestMyStore(StoreContract):
            @pytest_asyncio.fixture
            async def store(self):
                store = MyStore()
                await store.init()
                yield store
                await store.close()

    The tests of a power that the store lacks are skipped, and the skip names the power. If a power
    cannot be proved in your surroundings, give the reason in `unproved`. A store with transactions
    needs a second fixture, `application`: an empty `Application` beside the store.

    The tests are coroutines marked for pytest-asyncio, and set the time that the store sees. None
    takes longer than `time_limit`. A failure names the rule that is broken, and where the rule is
    written.
    """
