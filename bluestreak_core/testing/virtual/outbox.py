"""Messages that are to be sent later."""

from __future__ import annotations

import heapq
from collections.abc import Awaitable, Callable
from datetime import datetime
from itertools import count

from bluestreak_core.clock import Clock

_Letter = tuple[datetime, int, Callable[[], Awaitable[object]]]


class Outbox:
    """Sends each message at its time, and those of one time in the order in which they came."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._numbers = count()
        self._pending: list[_Letter] = []

    async def send_at(self, instant: datetime, send: Callable[[], Awaitable[object]]) -> None:
        """Wait until an instant, and call everything that is due then."""
        # Timers of one instant fire in any order, so that whichever is first sends for all.
        heapq.heappush(self._pending, (instant, next(self._numbers), send))
        await self._clock.sleep(instant - self._clock.now())
        while self._pending and self._pending[0][0] <= self._clock.now():
            _, _, send_due = heapq.heappop(self._pending)
            await send_due()
