"""Clocks: the sources of time of the engine and the stores."""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Protocol

_LONGEST_SLEEP = 10.0
"""In seconds. After each, a sleeper checks whether the machine was suspended in the meantime."""


def _monotonic_across_suspends() -> Callable[[], float]:
    """A monotonic clock that counts suspended time; on Windows `time.monotonic` is one."""
    if sys.platform == "linux":
        return partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if sys.platform == "darwin":
        return partial(time.clock_gettime, time.CLOCK_MONOTONIC_RAW)
    return time.monotonic


elapsed = _monotonic_across_suspends()
"""Seconds since an arbitrary moment. Never goes back; counts the time the machine is suspended."""


class Clock(Protocol):
    """A source of time. All users of a store share the store's clock.

    `now` and `monotonic` may be called from any thread.
    """

    def now(self) -> datetime:
        """The present: aware, in UTC, in whole milliseconds."""
        ...

    def monotonic(self) -> float:
        """Seconds since an arbitrary moment. Leases are measured with it.

        It never goes back, and goes on while the process is stopped or the machine is suspended.
        """
        ...

    async def sleep(self, span: timedelta) -> None:
        """Return when the span has passed on this clock; at once if it is zero or negative."""
        ...


class SystemClock:
    """The clock of this machine."""

    def now(self) -> datetime:
        """The machine's time of day."""
        return in_milliseconds(datetime.now(UTC))

    def monotonic(self) -> float:
        """The machine's monotonic clock; it counts suspended time."""
        return elapsed()

    async def sleep(self, span: timedelta) -> None:
        """`asyncio.sleep`, except that suspended time counts."""
        await sleep_by(elapsed, span)


async def sleep_by(monotonic: Callable[[], float], span: timedelta) -> None:
    """Sleep until the span has passed on the event loop's clock or on `monotonic`.

    The event loop's clock may stand still while the machine is suspended. A suspension is noticed
    at most ten seconds after the machine wakes up.
    """
    left = span.total_seconds()
    until = monotonic() + left
    while True:
        await asyncio.sleep(min(max(left, 0.0), _LONGEST_SLEEP))
        left -= _LONGEST_SLEEP
        if left <= 0 or monotonic() >= until:
            return


_PLAIN = (datetime,)  # in a tuple, where tools that fake the time do not replace it


def in_milliseconds(instant: datetime) -> datetime:
    """A plain aware `datetime` in UTC, truncated to the millisecond. A naive one is read as UTC.

    Libraries that extend or fake `datetime` return their own classes from its methods.
    """
    if type(instant) not in _PLAIN:
        (plain,) = _PLAIN
        instant = plain.combine(instant, plain.timetz(instant))
    if instant.tzinfo is not UTC:
        instant = instant.replace(tzinfo=instant.tzinfo or UTC).astimezone(UTC)
    return instant.replace(microsecond=instant.microsecond // 1000 * 1000, fold=0)
