"""How many workflows there are, without asking the store more often than it can bear."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass
from time import monotonic
from typing import Literal

from bluestreak_core import Client

_REST = 20
"""After a count that took a second, the next one is this many seconds later."""

_LEAST_AGE = 2.0  # seconds

By = Literal["status", "handler_id"]


@dataclass(frozen=True, slots=True)
class _Known:
    counts: Mapping[str, int]
    until: float


class Counts:
    """Counts by status and by handler, each of which scans an index of all workflows.

    Visitors share them, and they may be some seconds old.
    """

    def __init__(self, client: Client) -> None:
        self._client = client
        self._known: dict[By, _Known] = {}
        self._locks: dict[By, asyncio.Lock] = {
            "status": asyncio.Lock(),
            "handler_id": asyncio.Lock(),
        }

    async def by(self, what: By) -> Mapping[str, int]:
        """The counts, by status or by handler id."""
        async with self._locks[what]:
            known = self._known.get(what)
            if known is None or monotonic() >= known.until:
                begun = monotonic()
                counts = await self._client.count(what)
                now = monotonic()
                known = _Known(counts, now + max(_LEAST_AGE, _REST * (now - begun)))
                self._known[what] = known
            return known.counts
