"""The histories of workflows that were claimed together, read together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence

from bluestreak_core.cancellation import see_through
from bluestreak_core.model import Claim, History
from bluestreak_core.store import Store


class Batch:
    """One read of the store for many runs; a read that failed is begun again by the next to ask."""

    def __init__(self, store: Store, claims: Sequence[Claim]) -> None:
        self._store = store
        self._claims = claims
        self._read: asyncio.Future[Mapping[str, History]] | None = None

    async def history(self, workflow_id: str) -> History:
        """What this workflow has recorded. Raises what the store raises."""
        if self._read is None or self._failed(self._read):
            self._read = asyncio.ensure_future(self._read_all())
        return (await see_through(self._read))[workflow_id]

    async def _read_all(self) -> Mapping[str, History]:
        return await self._store.history(self._claims)

    @staticmethod
    def _failed(read: asyncio.Future[Mapping[str, History]]) -> bool:
        return read.done() and read.exception() is not None
