"""Which of the idle processes answer when all of them hear of the same new work."""

from __future__ import annotations

import asyncio
import random
from datetime import timedelta

from bluestreak_core.clock import Clock
from bluestreak_core.store import Hints

ANSWERS = 3.0
"""How many processes are to answer an arrival at once, on average."""

HOLD_OFF = timedelta(milliseconds=100), timedelta(milliseconds=400)
"""How long the others hold off, at least and at most."""

GRACE = timedelta(milliseconds=100)
"""How long they then read the stream, to hear that the work was claimed, before they look."""

_LEAST_SHARE = 1 / 256
_MEMORY = 8
"""How many claims it takes to learn a new share, roughly."""


class Rivalry:
    """Passes on only some of the arrivals that it hears of, so that few processes look for each.

    The shares of all processes in what is claimed add up to one. So each of them answers with a
    chance of `ANSWERS` times its own share, and about so many do, however many there are; a process
    that is alone always does. Those that hold off leave the stream unread for a moment, so that one
    read brings all that came of it. They look then, unless the work was claimed.
    """

    def __init__(self, hints: Hints, clock: Clock) -> None:
        self._hints = hints
        self._clock = clock
        self._share = 1.0
        self._workers: set[str] = set()
        self._pending: set[bytes] = set()
        self._holding_off: asyncio.Task[None] | None = None
        self._may_read = asyncio.Event()
        self._may_read.set()

    def knows(self, worker: str) -> None:
        """This worker is one of this process."""
        self._workers.add(worker)

    def arrived(self, key: bytes) -> None:
        """A workflow is due, and every process has heard of it."""
        if random.random() < ANSWERS * self._share:  # noqa: S311 - nothing secret
            self._answer()
            return
        self._pending.add(key)
        if self._holding_off is None or self._holding_off.done():
            self._may_read.clear()
            self._holding_off = asyncio.create_task(self._hold_off(), name="bluestreak hold-off")

    def claimed(self, key: bytes, worker: object) -> None:
        """A worker has claimed a workflow: no process need look for it any more.

        An event has no `worker` if it is the one that had the workflow before. Who that is is not
        known here, so nothing is learned: else a process that is alone with workflows that it has
        parked would come to believe that others are quicker.
        """
        self._pending.discard(key)
        if not isinstance(worker, str):
            return
        won = worker in self._workers
        self._share += (won - self._share) / _MEMORY
        self._share = max(self._share, _LEAST_SHARE)

    async def until_read(self) -> None:
        """Return when the stream is to be read again."""
        await self._may_read.wait()

    def read_on(self) -> None:
        """Read the stream again at once: a caller waits for something else on it."""
        self._may_read.set()

    async def close(self) -> None:
        """Hold nothing off any more."""
        if self._holding_off is not None:
            self._holding_off.cancel()
            await asyncio.wait({self._holding_off})

    async def _hold_off(self) -> None:
        least, most = HOLD_OFF
        try:
            share = random.random()  # noqa: S311 - nothing secret
            await self._clock.sleep(least + (most - least) * share)
        finally:
            self._may_read.set()
        await self._clock.sleep(GRACE)
        if self._pending:
            self._answer()

    def _answer(self) -> None:
        self._pending.clear()  # one look is for all of them
        self._hints.due(self._clock.now())
