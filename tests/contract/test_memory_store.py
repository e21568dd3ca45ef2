from __future__ import annotations

import asyncio
from contextlib import AbstractAsyncContextManager

import pytest
from typing_extensions import override

from bluestreak_core import ClaimLost
from bluestreak_core.machine import Transition
from bluestreak_core.model import ClaimRequest
from bluestreak_core.testing import Application, ManualClock, StoreContract
from bluestreak_core.testing.contract.arrange import LEASE, NOW, claimed
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


class TestMemoryStore(StoreContract):
    @pytest.fixture
    def store(self) -> MemoryStore:
        return MemoryStore(clock=ManualClock())

    @pytest.fixture
    def application(self, store: MemoryStore) -> Application:
        return _Entries(store)


# What is written in memory is there before it is committed ---------------------------------------


@pytest.mark.asyncio
async def test_the_next_claim_takes_back_what_a_killed_process_has_written() -> None:
    store = MemoryStore(clock=ManualClock())
    application = _Entries(store)
    claim, has_written = await claimed(store, "w"), asyncio.Event()

    async def die(session: MemorySession) -> None:
        await application.write(session, "entry")
        has_written.set()
        await asyncio.Event().wait()

    killed = asyncio.create_task(store.transact(claim, "s", die, lambda: NOW))
    await has_written.wait()
    assert await application.entries() == ["entry"]
    assert await store.claim(ClaimRequest(worker="other", now=NOW + LEASE, lease=LEASE, limit=1))
    assert await application.entries() == []
    killed.cancel()
    await asyncio.wait({killed})


@pytest.mark.asyncio
@pytest.mark.parametrize("by", [Transition.CANCEL, Transition.PAUSE, Transition.CLAIM])
async def test_a_write_after_the_claim_was_taken_loses_it(by: Transition) -> None:
    store = MemoryStore(clock=ManualClock())
    application = _Entries(store)
    claim = await claimed(store, "w")

    async def write(session: MemorySession) -> None:
        await application.write(session, "first")
        if by is Transition.CLAIM:
            assert await store.claim(
                ClaimRequest(worker="other", now=NOW + LEASE, lease=LEASE, limit=1)
            )
        else:
            await store.control("w", by, NOW)
        await application.write(session, "second")

    with pytest.raises(ClaimLost):
        await store.transact(claim, "s", write, lambda: NOW)
    assert await application.entries() == []


@pytest.mark.asyncio
async def test_nothing_is_committed_whose_commit_takes_its_own_claim() -> None:
    store = MemoryStore(clock=ManualClock())
    application = _Entries(store)
    claim = await claimed(store, "w")

    def cancel() -> None:
        with pytest.raises(StopIteration):  # all of it is done when it is begun
            store.control("w", Transition.CANCEL, NOW).send(None)

    async def write(session: MemorySession) -> None:
        await application.write(session, "entry")
        session.before_commit(cancel)

    with pytest.raises(ClaimLost):
        await store.transact(claim, "s", write, lambda: NOW)
    assert await application.entries() == []
    assert await store.find_step("w", "s") is None


@pytest.mark.asyncio
async def test_a_claim_knows_since_when_its_workflow_was_due() -> None:
    claim = await claimed(MemoryStore(clock=ManualClock()), "w")
    assert claim.due_at == NOW
