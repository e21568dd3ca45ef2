"""The database server's time, kept on this machine's monotonic clock."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from bluestreak_core.clock import in_milliseconds

MEASURE_AGAIN_AFTER = timedelta(minutes=1)
"""A primary may be replaced by a server whose clock is another, and clocks drift."""


class ServerClock:
    """Tells the server's time, so that no worker's own clock matters.

    One answer of the server anchors the time of day to the monotonic clock, half a round trip
    back. Before the first, this is the machine's own time. It may be read from any thread.
    """

    def __init__(self) -> None:
        self._measured = False
        # One object, so that no thread ever sees half of a new one.
        self._anchor = (in_milliseconds(datetime.now(UTC)), time.monotonic())

    def now(self) -> datetime:
        """The server's time of day."""
        time_then, anchored_at = self._anchor
        return time_then + timedelta(milliseconds=int((time.monotonic() - anchored_at) * 1000))

    def monotonic(self) -> float:
        """This machine's monotonic clock."""
        return time.monotonic()

    async def sleep(self, span: timedelta) -> None:
        """`asyncio.sleep`."""
        await asyncio.sleep(max(0.0, span.total_seconds()))

    @property
    def is_stale(self) -> bool:
        """Whether it is time to measure (again)."""
        _, anchored_at = self._anchor
        age = time.monotonic() - anchored_at
        return not self._measured or age >= MEASURE_AGAIN_AFTER.total_seconds()

    def measure(self, hello: Mapping[str, Any], asked_at: float, answered_at: float) -> None:
        """Take the server's time from its answer to `hello`; the instants are monotonic."""
        self._anchor = (in_milliseconds(hello["localTime"]), (asked_at + answered_at) / 2)
        self._measured = True
