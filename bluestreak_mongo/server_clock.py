"""The database server's time, kept on a clock of this machine that goes on while it sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from bluestreak_core import clock
from bluestreak_core.clock import in_milliseconds, sleep_by

MEASURE_AGAIN_AFTER = timedelta(minutes=1)
"""A primary may be replaced by a server whose clock is another, and clocks drift."""

JUMP = timedelta(seconds=1)
"""What is no drift any more: a suspended machine, a clock that was set, or another server."""


@dataclass(frozen=True, slots=True)
class _Anchor:
    """One answer of the server, or what this machine took for the time before the first."""

    time: datetime
    elapsed: float
    """When that was, by the clock that goes on through suspends."""
    lead: float
    """Seconds by which the server's time has gone further than that clock, so far."""
    offset: float
    """The time of day less the clock that stands still; see `ServerClock.is_stale`."""


class ServerClock:
    """Gives the server's time, so that no worker's own clock matters.

    One answer of the server anchors the time of day to a monotonic clock, half a round trip back.
    Before the first, this is the machine's own time. It may be read from any thread.

    Of the three clocks of the machine, in seconds, `elapsed` goes on while it is suspended, and
    `awake` need not. `time_of_day` may be set by anybody; that costs no more than a measurement.
    """

    def __init__(
        self,
        *,
        elapsed: Callable[[], float] = clock.elapsed,
        awake: Callable[[], float] = time.monotonic,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self.elapsed = elapsed
        self._awake = awake
        self._time_of_day = time_of_day
        self._measured = False
        now = in_milliseconds(datetime.fromtimestamp(time_of_day(), UTC))
        # One object, so that no thread ever sees half of a new one.
        self._anchor = _Anchor(now, elapsed(), 0.0, self._offset())

    def now(self) -> datetime:
        """The server's time of day."""
        return self._at(self.elapsed())

    def monotonic(self) -> float:
        """A monotonic clock of this machine, which is put forward whenever the server's time is.

        So a lease is over here when it is for the others, who go by the server's time.
        """
        return self.elapsed() + self._anchor.lead

    async def sleep(self, span: timedelta) -> None:
        """`asyncio.sleep`, which ends early when the machine was suspended."""
        await sleep_by(self.monotonic, span)

    @property
    def is_stale(self) -> bool:
        """Whether it is time to measure (again): after a minute, a suspend, or a set clock.

        The time of day and a clock that stands still while the machine is suspended go apart then.
        """
        age = self.elapsed() - self._anchor.elapsed
        apart = self._offset() - self._anchor.offset
        is_old = age >= MEASURE_AGAIN_AFTER.total_seconds()
        return not self._measured or is_old or abs(apart) >= JUMP.total_seconds()

    def measure(self, hello: Mapping[str, Any], asked_at: float, answered_at: float) -> timedelta:
        """Take the server's time from its answer to `hello`; the instants are by `elapsed`.

        Returns by how much that is ahead of what this clock would have said.
        """
        server_time = in_milliseconds(hello["localTime"])
        ahead = server_time - self._at(answered_at) if self._measured else timedelta(0)
        lead = self._anchor.lead + max(0.0, ahead.total_seconds())
        self._anchor = _Anchor(server_time, (asked_at + answered_at) / 2, lead, self._offset())
        self._measured = True
        return ahead

    def _at(self, elapsed: float) -> datetime:
        anchor = self._anchor
        return anchor.time + timedelta(milliseconds=int((elapsed - anchor.elapsed) * 1000))

    def _offset(self) -> float:
        return self._time_of_day() - self._awake()
