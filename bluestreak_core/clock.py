"""Where the engine gets the time from."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

_LONGEST_SLEEP = 10.0
"""Seconds after which a sleeper looks whether the machine was suspended meanwhile."""


def _clock_through_suspends() -> Callable[[], float]:
    """The machine's clock that goes on while it is suspended; `time.monotonic` does on Windows."""
    if sys.platform == "linux":
        return partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":
        return partial(time.clock_gettime, time.CLOCK_MONOTONIC_RAW)
    return time.monotonic


elapsed = _clock_through_suspends()
"""Seconds since some moment: monotonic, and counted while the machine is suspended, too."""


class Clock(Protocol):
    """A source of time. A store names the one that all its users share.

    `now` and `monotonic` may be called from any thread.
    """

    def now(self) -> datetime:
        """The instant, aware, in UTC, in whole milliseconds."""
        ...

    def monotonic(self) -> float:
        """Seconds since some moment; never goes back, and goes on while the process is stopped.

        It also goes on while the machine is suspended: leases are measured by it.
        """
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
        """The machine's monotonic clock; it counts the time that the machine was suspended."""
        return elapsed()

    async def sleep(self, span: timedelta) -> None:
        """`asyncio.sleep`, which ends early when the machine was suspended."""
        await sleep_by(elapsed, span)


async def sleep_by(monotonic: Callable[[], float], span: timedelta) -> None:
    """`asyncio.sleep`, or less where this clock has gone further than that of the event loop.

    The event loop's stands still while the machine is suspended. How late this notices is bounded.
    """
    left = span.total_seconds()
    until = monotonic() + left
    while True:
        await asyncio.sleep(min(max(left, 0.0), _LONGEST_SLEEP))
        left -= _LONGEST_SLEEP
        if left <= 0 or monotonic() >= until:
            return


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
