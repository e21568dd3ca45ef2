from __future__ import annotations

import pytest

from bluestreak_core.testing import ManualClock, SearchContract, StoreContract
from bluestreak_memory import MemoryStore


class TestMemoryStore(StoreContract, SearchContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore(clock=ManualClock())
