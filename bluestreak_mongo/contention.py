"""Turns for transactions that meet each other, so that hundreds can change one document."""

from __future__ import annotations

import asyncio
from collections import deque

from bluestreak_core.concurrency import pauses

WIDEST = 1024

CALM = 8
"""Commits in a row without a conflict, after which twice as many may try at once."""

SLOW = 1.0
"""Seconds after which the others do not wait for a transaction any more."""


class _Turn:
    """What one transaction has until it gives it back."""

    def __init__(self) -> None:
        self.pauses = pauses()


class Turns:
    """Limits how many transactions of a kind try at once in a process, once they have met.

    The server fails the later of two that write one document. With pauses alone, hundreds of them
    call their functions dozens of times for each commit, and most run out of time. So each conflict
    halves how many may try at once, down to one; commits without a conflict double it again.
    """

    def __init__(self) -> None:
        self._width = WIDEST
        self._calm = 0
        self._trying: dict[_Turn, asyncio.TimerHandle] = {}
        self._waiting: deque[asyncio.Future[_Turn]] = deque()

    async def take(self) -> _Turn:
        """Wait for a turn, behind all that wait already."""
        if not self._waiting and len(self._trying) < self._width:
            return self._new_turn()
        coming: asyncio.Future[_Turn] = asyncio.get_running_loop().create_future()
        self._waiting.append(coming)
        try:
            return await coming
        except asyncio.CancelledError:
            if not coming.cancelled():  # it has come just then
                self.release(coming.result())
            raise

    def release(self, turn: _Turn) -> None:
        """Let another one have the turn."""
        timer = self._trying.pop(turn, None)
        if timer is not None:
            timer.cancel()
            self._pass_on()

    async def after_conflict(self, turn: _Turn) -> _Turn:
        """Wait until it is time to try again: for another turn, if too many have one.

        Otherwise it is kept, and the pause is for the rivals in other processes.
        """
        self._calm = 0
        self._width = max(min(self._width, len(self._trying)) // 2, 1)
        if len(self._trying) > self._width:
            self.release(turn)
            return await self.take()
        await asyncio.sleep(next(turn.pauses).total_seconds())
        return turn

    def committed(self) -> None:
        """A transaction has come to its end."""
        self._calm += 1
        if self._calm % CALM == 0:
            self._width = min(self._width * 2, WIDEST)
            self._pass_on()

    def _new_turn(self) -> _Turn:
        turn = _Turn()
        # A slow one may change something else than those that wait for it.
        timer = asyncio.get_running_loop().call_later(SLOW, self.release, turn)
        self._trying[turn] = timer
        return turn

    def _pass_on(self) -> None:
        while self._waiting and len(self._trying) < self._width:
            coming = self._waiting.popleft()
            if not coming.done():
                coming.set_result(self._new_turn())
