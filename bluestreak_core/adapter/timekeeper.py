"""Keeping a server's clock measured while its store is used."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from datetime import datetime, timedelta

from bluestreak_core.adapter.server_clock import ServerClock
from bluestreak_core.concurrency import end_all, finish_despite_cancel

logger = logging.getLogger(__name__)

_CHECK_AGAIN_AFTER = 0.1
"""Seconds in which calls do not check the clock again: a check takes a microsecond."""


class Timekeeper:
    """Measures a `ServerClock` again when it is stale; `ask` returns the server's time."""

    def __init__(self, clock: ServerClock, ask: Callable[[], Awaitable[datetime]]) -> None:
        self._clock = clock
        self._ask = ask
        self._measuring: asyncio.Task[timedelta] | None = None
        self._check_at = clock.monotonic()

    def refresh_soon(self) -> None:
        """Begin a measurement in the background if the clock is stale. Call it in each call."""
        now = self._clock.monotonic()
        if now < self._check_at:
            return
        self._check_at = now + _CHECK_AGAIN_AFTER
        if self._clock.is_stale:
            self._measurement()

    async def refresh(self) -> timedelta:
        """Measure the clock if it is stale. Call it before the time matters, as in `claim`.

        Returns how far the server's time was ahead of the clock. After a `JUMP`, the caller's `now`
        is wrong.
        """
        if not self._clock.is_stale:
            return timedelta(0)
        return await finish_despite_cancel(self._measurement())

    async def close(self) -> None:
        """End the measurement that is under way, if there is one."""
        if self._measuring is not None:
            await end_all([self._measuring])

    def _measurement(self) -> asyncio.Task[timedelta]:
        """The measurement that is under way, or a new one."""
        if self._measuring is None or self._measuring.done():
            measure = self._clock.measure(self._ask)
            self._measuring = asyncio.create_task(measure, name="bluestreak clock")
            self._measuring.add_done_callback(_log_failure)
        return self._measuring


def _log_failure(measuring: asyncio.Task[timedelta]) -> None:
    """The clock is still stale, so the next call of the store begins another measurement."""
    if not measuring.cancelled() and (error := measuring.exception()) is not None:
        logger.debug("the server's clock could not be measured: %s", error)
