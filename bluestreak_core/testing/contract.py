"""The Store protocol as a test suite, which every adapter subclasses."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from bluestreak_core.store import Store
from bluestreak_core.testing.claiming_contract import ClaimingContract
from bluestreak_core.testing.control_contract import ControlContract
from bluestreak_core.testing.ending_contract import EndingContract
from bluestreak_core.testing.recording_contract import RecordingContract
from bluestreak_core.testing.situation import new
from bluestreak_core.testing.starting_contract import StartingContract
from bluestreak_core.testing.value_contract import UNSTORABLE, VALUES, ValueContract

__all__ = ["UNSTORABLE", "VALUES", "StoreContract"]


@pytest.mark.asyncio
class StoreContract(
    StartingContract,
    ClaimingContract,
    RecordingContract,
    EndingContract,
    ControlContract,
    ValueContract,
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

    The tests are coroutines marked for pytest-asyncio. They tell the store the time; nothing in
    them waits.
    """

    async def test_hints_return(self, store: Store) -> None:
        await store.create(new("w"))
        await store.wait_for_work(timedelta(0))
        await store.wait_for_end("w", timedelta(0))
        await store.wait_for_end("no such workflow", timedelta(0))
        long_after = datetime(9000, 1, 1, tzinfo=UTC)
        assert not await store.wait_for_control("worker", long_after, timedelta(0))
