"""Waiting for what other processes do to a workflow: its end, or a cancel or pause."""

from __future__ import annotations

from datetime import datetime, timedelta

from bluestreak_core.clock import Clock
from bluestreak_core.store import Hints
from bluestreak_mongo.control import Control
from bluestreak_mongo.feed import Feed

_CHECK_CONTROL_AFTER = timedelta(milliseconds=500)
"""The pause between two queries for a cancel or pause, while there is no change stream."""


class Waiting:
    """Waits on hints, and queries the database where there is no change stream."""

    def __init__(self, feed: Feed, hints: Hints, clock: Clock, control: Control) -> None:
        self._feed = feed
        self._hints = hints
        self._clock = clock
        self._control = control

    async def for_end(self, workflow_id: str, since: datetime, timeout: timedelta) -> bool:
        """See `Store.wait_for_end`."""
        with self._feed.waiting_for_end(workflow_id):
            pause = min(timeout, self._feed.read_again_after)
            return await self._hints.wait_for_end(workflow_id, since, pause)

    async def for_control(self, worker: str, since: datetime, timeout: timedelta) -> bool:
        """See `Store.wait_for_control`."""
        until = self._clock.now() + timeout
        was_read = False
        while True:
            is_read = self._feed.is_read
            # Once more when the stream has opened, for what was done just before.
            if not (was_read and is_read):
                now = self._clock.now()
                if await self._control.has_taken_from(worker, since, now):
                    return True
            was_read = is_read
            left = until - self._clock.now()
            if await self._hints.wait_for_control(since, min(left, _CHECK_CONTROL_AFTER)):
                return True
            if left <= _CHECK_CONTROL_AFTER:
                return False
