"""Looking at the workers."""

from __future__ import annotations

from bluestreak_core.client.open_store import OpenStore
from bluestreak_core.model import WorkerRecord
from bluestreak_core.store import SupportsRegistry


class Operating:
    """The calls of a client that look at the workers; see `Client`."""

    def __init__(self, store: OpenStore) -> None:
        self._store = store

    async def workers(self) -> list[WorkerRecord]:
        """The live workers, by name."""
        store = self._store.require(SupportsRegistry, "workers()")
        return list(await store.find_workers(self._store.clock.now()))
