"""How many callers want the change stream, and how long it is kept after the last one."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager

LINGER = 1.0
"""Seconds that an unread stream is kept for the next caller."""


class Demand:
    """Counts the callers that wait on a change stream."""

    def __init__(self) -> None:
        self.is_resting = False
        """Whether the stream is kept for the next caller, and is not read."""
        self._callers = 0
        self._is_wanted = asyncio.Event()

    def __bool__(self) -> bool:
        return self._callers > 0

    @contextmanager
    def one_more(self) -> Iterator[None]:
        """For as long as this block lasts, one more caller wants the stream."""
        self._callers += 1
        self._is_wanted.set()
        try:
            yield
        finally:
            self._callers -= 1
            if self._callers == 0:
                self._is_wanted.clear()

    async def lasts(self) -> bool:
        """Whether the stream is still wanted, now or within `LINGER` seconds."""
        if self:
            return True
        self.is_resting = True
        try:
            async with asyncio.timeout(LINGER):
                await self._is_wanted.wait()
        except TimeoutError:
            return False
        finally:
            self.is_resting = False
        return True
