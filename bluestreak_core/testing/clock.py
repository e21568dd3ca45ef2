"""A clock that stands still until a test moves it."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any

from bluestreak_core.clock import in_milliseconds
from bluestreak_core.concurrency import WakeUp

START = datetime(2030, 1, 1, tzinfo=UTC)


class ManualClock:
    """A clock whose time passes only by `advance`.

    Give it to a store (`MemoryStore(clock=...)`, `MongoStore(..., clock=...)`), and everything that
    the engine does by the clock waits for the test: polling, naps, retries, leases.
    """

    def __init__(self, start: datetime = START) -> None:
        self._now = in_milliseconds(start)
        self._elapsed = timedelta(0)
        self._sleepers: dict[asyncio.Future[None], timedelta] = {}
        self._changed = WakeUp()

    def now(self) -> datetime:
        """The current instant of the clock."""
        return self._now

    def monotonic(self) -> float:
        """The seconds by which the clock has been advanced."""
        return self._elapsed.total_seconds()

    def sleep(self, span: timedelta) -> Coroutine[Any, Any, None]:
        """Return when the clock has been advanced by the span; for zero, after one loop turn.

        The span begins with the call, not with the first await, which may come later in a task.
        """
        return self._sleep_until(self._elapsed + span)

    async def _sleep_until(self, due: timedelta) -> None:
        if due <= self._elapsed:
            await asyncio.sleep(0)
            return
        future = asyncio.get_running_loop().create_future()
        self._sleepers[future] = due
        self._changed.notify()
        try:
            await future
        finally:
            self._sleepers.pop(future, None)

    def advance(self, span: timedelta) -> None:
        """Move the clock, and wake all sleepers that are due; they run after this call.

        The clock jumps, like that of a suspended machine: a lease that is renewed every few seconds
        does not survive a jump of an hour.
        """
        self._now = in_milliseconds(self._now + span)
        self._elapsed += span
        for future, due in list(self._sleepers.items()):
            if due <= self._elapsed and not future.done():
                future.set_result(None)

    async def until_sleeping(self, span: timedelta | None = None, count: int = 1) -> None:
        """Return when `count` sleepers are due in exactly `span`; None counts all sleepers.

        By this a test knows that the code under test has reached its wait.
        """
        while sum(self._is_sleeping(future, span) for future in self._sleepers) < count:
            await self._changed.wait()

    def _is_sleeping(self, future: asyncio.Future[None], span: timedelta | None) -> bool:
        if future.done():
            return False
        return span is None or self._sleepers[future] - self._elapsed == span
