"""Reading the histories of workflows that were claimed together."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from bluestreak_core import machine
from bluestreak_core.concurrency import finish_despite_cancel
from bluestreak_core.errors import CorruptDocument, StoreUnavailable
from bluestreak_core.model import Claim, History
from bluestreak_core.store import Store


class SharedHistories:
    """One read of the store for many runs. After an outage, the next call reads again.

    The history of a first run is empty, and is not read.
    """

    def __init__(self, store: Store, claims: Sequence[Claim]) -> None:
        self._store = store
        self._claims = {
            claim.workflow_id: claim for claim in claims if not machine.is_first_run(claim.workflow)
        }
        self._read: asyncio.Future[dict[str, History]] | None = None

    async def history(self, workflow_id: str) -> History:
        """The history of one of the workflows, once. Raises what the store raises."""
        if workflow_id not in self._claims:
            return History()
        if self._read is None or self._failed(self._read):
            self._read = asyncio.ensure_future(self._read_all())
        try:
            # Popped, so that one long run does not keep the histories of all others in memory.
            return (await finish_despite_cancel(self._read)).pop(workflow_id)
        except CorruptDocument:
            return await self._read_one(workflow_id)

    async def _read_all(self) -> dict[str, History]:
        return dict(await self._store.history(list(self._claims.values())))

    async def _read_one(self, workflow_id: str) -> History:
        """Read one history alone, since one of the others has an unreadable record."""
        return (await self._store.history([self._claims[workflow_id]]))[workflow_id]

    @staticmethod
    def _failed(read: asyncio.Future[dict[str, History]]) -> bool:
        return read.done() and isinstance(read.exception(), StoreUnavailable)
