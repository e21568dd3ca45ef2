"""The workers of a store in memory."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime

from typing_extensions import override

from bluestreak_core.model import WorkerRecord
from bluestreak_core.store import SupportsRegistry
from bluestreak_memory.parts import Parts


class Registry(Parts, SupportsRegistry):
    """Keeps the records of workers; a part of `MemoryStore`."""

    @override
    async def register_worker(self, record: WorkerRecord) -> None:
        # A dead worker does not unregister, and no index deletes its record.
        for dead in [each for each in self._workers.values() if each.until <= record.seen_at]:
            del self._workers[dead.name]
        self._workers[record.name] = record

    @override
    async def unregister_worker(self, name: str) -> None:
        self._workers.pop(name, None)

    @override
    async def find_workers(self, now: datetime) -> Sequence[WorkerRecord]:
        return [record for _, record in sorted(self._workers.items()) if record.until > now]
