"""Where the engine gets the time from."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Coroutine
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol


class Clock(Protocol):
    """A source of time. A store names the one that all its users share.

    `now` and `monotonic` may be called from any thread.
    """

    def now(self) -> datetime:
        """The instant, aware, in UTC, in whole milliseconds."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back, and goes on while the process is stopped."""
        ...

    async def sleep(self, span: timedelta) -> None:
        """Return when the span has passed on this clock; at once when it is zero or negative."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """The machine's time of day."""
        return in_milliseconds(datetime.now(UTC))

    def monotonic(self) -> float:
        """The machine's monotonic clock."""
        return time.monotonic()

    async def sleep(self, span: timedelta) -> None:
        """`asyncio.sleep`."""
        await asyncio.sleep(max(0.0, span.total_seconds()))


_PLAIN = (datetime,)  # in a tuple, where no tool that fakes the time replaces it


def in_milliseconds(instant: datetime) -> datetime:
    """An aware instant in UTC, cut to the millisecond, of no subclass. A naive one is read as UTC.

    Libraries that extend `datetime` or fake it return their own classes from its methods.
    """
    if type(instant) not in _PLAIN:
        (plain,) = _PLAIN
        instant = plain.combine(instant, plain.timetz(instant))
    if instant.tzinfo is not UTC:
        instant = instant.replace(tzinfo=instant.tzinfo or UTC).astimezone(UTC)
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000, fold=0)


async def first_of(*waits: Coroutine[Any, Any, object] | asyncio.Future[Any]) -> None:
    """Return when one of several waits has returned, and cancel the others."""
    futures = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for future in futures:
            future.cancel()
        # Whatever is more than a mere future has something to end.
        tasks = [future for future in futures if not future.done()]
        await asyncio.gather(*tasks, return_exceptions=True)
    for future in done:
        future.result()
