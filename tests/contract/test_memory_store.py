from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest
from typing_extensions import override

from bluestreak_core.testing import (
    Application,
    ForkContract,
    ManualClock,
    SearchContract,
    StoreContract,
    TransactionContract,
)
from bluestreak_memory import MemorySession, MemoryStore


class _Entries(Application):
    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._entries: dict[str, None] = {}

    @override
    def transaction(self) -> AbstractAsyncContextManager[MemorySession]:
        return self._store.transaction()

    @override
    async def write(self, session: MemorySession, entry: str) -> None:
        session.set(self._entries, entry, None)

    @override
    async def entries(self) -> list[str]:
        return list(self._entries)


class TestMemoryStore(StoreContract, SearchContract, ForkContract, TransactionContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore(clock=ManualClock())

    @pytest.fixture
    def application(self, store: MemoryStore) -> Application:
        return _Entries(store)
