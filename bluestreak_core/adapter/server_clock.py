"""The time of a database server, kept on a clock of this machine that counts through suspends."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta

from bluestreak_core import clock
from bluestreak_core.clock import in_milliseconds, sleep_by

MEASURE_AGAIN_AFTER = timedelta(minutes=1)
"""A failover may lead to a server with another clock, and clocks drift."""

JUMP = timedelta(seconds=1)
"""More than drift: the machine was suspended, a clock was set, or another server answers."""

# A slow answer gives a poor measurement, and the first one on a connection includes the handshake.
# A worker whose clock is late by so much begins what others start that much later.
_MAX_ANSWERS = 5
_QUICK = 0.001  # seconds


@dataclass(frozen=True, slots=True)
class _Anchor:
    """One answer of the server or, before the first, this machine's time."""

    time: datetime
    elapsed: float
    """When that was, by the clock that counts through suspends."""
    lead: float
    """Seconds by which the server's time has gone further than that clock, so far."""
    offset: float
    """The time of day minus the clock that stops in a suspend; see `ServerClock.is_stale`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class _Answer:
    """The server's time, and the instants, by `elapsed`, between which it was given."""

    server_time: datetime
    asked_at: float
    answered_at: float

    @property
    def took(self) -> float:
        return self.answered_at - self.asked_at


class ServerClock:
    """Gives a server's time, so that no worker's own clock matters.

    One answer of the server anchors the time of day to a monotonic clock, half a round trip back.
    Before the first, this is the machine's own time. Any thread may read it.

    The arguments are three clocks of the machine, in seconds: `elapsed` counts while the machine is
    suspended, and `awake` need not. `time_of_day` may be set by anybody, which costs a measurement
    and nothing else.
    """

    def __init__(
        self,
        *,
        elapsed: Callable[[], float] = clock.elapsed,
        awake: Callable[[], float] = time.monotonic,
        time_of_day: Callable[[], float] = time.time,
    ) -> None:
        self._elapsed = elapsed
        self._awake = awake
        self._time_of_day = time_of_day
        self._measured = False
        now = in_milliseconds(datetime.fromtimestamp(time_of_day(), UTC))
        # One object, so that no thread ever sees half of a new one.
        self._anchor = _Anchor(now, elapsed(), 0.0, self._offset())

    def now(self) -> datetime:
        """The server's time of day."""
        return self._at(self._elapsed())

    def monotonic(self) -> float:
        """A monotonic clock of this machine, which moves forward when the server's time does.

        So a lease ends here when it ends for the others, who go by the server's time.
        """
        return self._elapsed() + self._anchor.lead

    async def sleep(self, span: timedelta) -> None:
        """`asyncio.sleep`, which ends early when the machine was suspended."""
        await sleep_by(self.monotonic, span)

    @property
    def is_stale(self) -> bool:
        """Whether the clock needs a measurement: after a minute, a suspend, or a set clock.

        A suspend or a set clock moves the time of day apart from the clock that stops meanwhile.
        """
        age = self._elapsed() - self._anchor.elapsed
        apart = self._offset() - self._anchor.offset
        is_old = age >= MEASURE_AGAIN_AFTER.total_seconds()
        return not self._measured or is_old or abs(apart) >= JUMP.total_seconds()

    async def measure(self, ask: Callable[[], Awaitable[datetime]]) -> timedelta:
        """Set the clock by the quickest of a few answers. `ask` returns the server's time.

        Returns how far the server's time was ahead of this clock. If `ask` raises, the error
        passes, and the clock stays as it is: an answer before that may have been very slow.
        """
        quickest = await self._answer(ask)
        for _ in range(_MAX_ANSWERS - 1):
            if quickest.took < _QUICK:
                break
            quickest = min(quickest, await self._answer(ask), key=lambda answer: answer.took)
        return self.set(quickest.server_time, quickest.asked_at, quickest.answered_at)

    def set(self, server_time: datetime, asked_at: float, answered_at: float) -> timedelta:
        """Set the clock by one answer of the server; the instants are readings of `elapsed`.

        Returns how far the server's time was ahead of this clock.
        """
        server_time = in_milliseconds(server_time)
        ahead = server_time - self._at(answered_at) if self._measured else timedelta(0)
        lead = self._anchor.lead + max(0.0, ahead.total_seconds())
        self._anchor = _Anchor(server_time, (asked_at + answered_at) / 2, lead, self._offset())
        self._measured = True
        return ahead

    async def _answer(self, ask: Callable[[], Awaitable[datetime]]) -> _Answer:
        asked_at = self._elapsed()
        server_time = await ask()
        return _Answer(server_time=server_time, asked_at=asked_at, answered_at=self._elapsed())

    def _at(self, elapsed: float) -> datetime:
        anchor = self._anchor
        return anchor.time + timedelta(milliseconds=int((elapsed - anchor.elapsed) * 1000))

    def _offset(self) -> float:
        return self._time_of_day() - self._awake()
