"""What one process knows about work to come, without asking the database."""

from __future__ import annotations

import heapq
from datetime import datetime, timedelta
from weakref import WeakValueDictionary

from bluestreak_core.clock import Clock, first_of
from bluestreak_core.signal import Signal


class Hints:
    """Implements a store's `wait_for_work` and `wait_for_end` from what passes through the store.

    The store says when a workflow will be due, that one has ended, and that it looks for work.
    What other processes do stays unknown.
    """

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._arrivals = 0
        self._is_due = False
        self._due: list[datetime] = []
        self._changed = Signal()
        self._ends: WeakValueDictionary[str, Signal] = WeakValueDictionary()

    def due(self, at: datetime) -> None:
        """A workflow can be claimed from this instant on."""
        if at <= self._clock.now():
            # Not kept one by one: who only starts workflows never looks.
            self._arrivals += 1
            self._is_due = True
        else:
            heapq.heappush(self._due, at)
        self._changed.notify()

    def looking(self, now: datetime) -> None:
        """The store is about to look for what is due by now. Say so before it does."""
        self._is_due = False
        while self._due and self._due[0] <= now:
            heapq.heappop(self._due)

    def ended(self, workflow_id: str) -> None:
        """A workflow has ended."""
        if (end := self._ends.get(workflow_id)) is not None:
            end.notify()

    async def wait_for_work(self, timeout: timedelta) -> None:
        """Return when something is due that was not there at the last look, or after `timeout`."""
        until = self._clock.now() + timeout
        arrivals = self._arrivals  # another waiter may look, and find nothing, before we wake up
        while not self._is_due and self._arrivals == arrivals:
            seen = self._changed.count
            wake_up_at = min([until, *self._due[:1]])
            sleep = self._clock.sleep(wake_up_at - self._clock.now())
            await first_of(self._changed.wait(seen), sleep)
            if wake_up_at <= self._clock.now():
                return

    async def wait_for_end(self, workflow_id: str, timeout: timedelta) -> None:
        """Return when the workflow ends in this process, or after `timeout`."""
        end = self._ends.setdefault(workflow_id, Signal())
        await first_of(end.wait(end.count), self._clock.sleep(timeout))
