"""When the server's clock is measured."""

from __future__ import annotations

import asyncio
import logging
from datetime import timedelta

from bluestreak_core.concurrency import end_all, finish_despite_cancel
from bluestreak_mongo.database import Database
from bluestreak_mongo.driver import store_errors
from bluestreak_mongo.server_clock import ServerClock

logger = logging.getLogger(__name__)


class Timekeeper:
    """Keeps a `ServerClock` measured while its store is used."""

    def __init__(self, database: Database, clock: ServerClock) -> None:
        self._database = database
        self._clock = clock
        self._measuring: asyncio.Task[timedelta] | None = None

    def look(self) -> None:
        """If the clock is stale, begin to measure it."""
        if self._clock.is_stale:
            self._measurement()

    async def keep(self) -> timedelta:
        """If the clock is stale, measure it; returns how far the server's time was ahead of it."""
        return (
            await finish_despite_cancel(self._measurement())
            if self._clock.is_stale
            else timedelta(0)
        )

    async def close(self) -> None:
        """Leave no task behind."""
        if self._measuring is not None:
            await end_all([self._measuring])

    def _measurement(self) -> asyncio.Task[timedelta]:
        """The one that is under way, or a new one."""
        if self._measuring is None or self._measuring.done():
            self._measuring = asyncio.create_task(self._measure(), name="bluestreak clock")
            self._measuring.add_done_callback(_note_failure)
        return self._measuring

    async def _measure(self) -> timedelta:
        with store_errors():
            _, ahead = await self._database.measure(self._clock)
        return ahead


def _note_failure(measuring: asyncio.Task[timedelta]) -> None:
    """The clock is still stale, so the next call of the store begins another measurement."""
    if not measuring.cancelled() and (error := measuring.exception()) is not None:
        logger.debug("the server's clock could not be measured: %s", error)
