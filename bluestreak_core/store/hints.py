"""What a store's process knows about work to come and about ends, to wake those who wait."""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from weakref import WeakValueDictionary

from bluestreak_core.clock import Clock
from bluestreak_core.concurrency import WakeUp, first_of

REMEMBERED_ENDS = 10_000
"""How many ends are known by workflow; whoever asks about an earlier time is told to look."""

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Hints:
    """Implements a store's `wait_for_work` and `wait_for_end` from what the store hears of.

    The store says when a workflow will be due, that one has ended, and that it looks for work. Of
    the instants to come only the next one is kept, so after each look the store says it anew.
    """

    def __init__(self, clock: Clock) -> None:
        self.arrivals = 0
        """How often work has become due."""
        self.looked_at = clock.now()
        """Up to when the store has last looked for what is due."""
        self._clock = clock
        self._arrivals_seen = 0
        self._is_due = False
        self._next_due: datetime | None = None
        self._changed = WakeUp()
        self._controlled = WakeUp()
        self._controlled_at = _LONG_AGO
        self._ends: WeakValueDictionary[str, WakeUp] = WeakValueDictionary()
        self._ended_at: OrderedDict[str, datetime] = OrderedDict()
        self._unknown_until = _LONG_AGO
        """Up to when any workflow may have ended."""

    def due(self, at: datetime) -> None:
        """A workflow can be claimed from this instant on."""
        if at <= self._clock.now():
            self.arrivals += 1
            self._is_due = True
        elif self._next_due is None or at < self._next_due:
            self._next_due = at
        else:
            return
        self._changed.notify()

    def looking(self, now: datetime) -> int:
        """The store is about to look for what is due by now. Say so before it does.

        Returns how many workflows are known to have become due since the last look.
        """
        self.looked_at = now
        if self._next_due is not None and self._next_due <= now:
            self._next_due = None
            self.arrivals += 1
        known = self.arrivals - self._arrivals_seen
        self._arrivals_seen = self.arrivals
        self._is_due = False
        return known

    def ended(self, workflow_id: str) -> None:
        """A workflow has ended."""
        self._ended_at[workflow_id] = self._clock.now()
        self._ended_at.move_to_end(workflow_id)
        if len(self._ended_at) > REMEMBERED_ENDS:
            _, ended_at = self._ended_at.popitem(last=False)
            self._unknown_until = max(self._unknown_until, ended_at)
        if (end := self._ends.get(workflow_id)) is not None:
            end.notify()

    def missed_something(self) -> None:
        """Anything may have happened: whoever waits had better look."""
        now = self._clock.now()
        self.due(now)
        self._unknown_until = now
        for end in list(self._ends.values()):
            end.notify()

    async def wait_for_work(self, timeout: timedelta, arrivals: int | None = None) -> None:
        """Return when something is due that was not there at the last look, or after `timeout`.

        Also when work has become due since there were so many `arrivals`: another waiter may have
        looked meanwhile, and left some.
        """
        until = self._clock.now() + timeout
        arrivals = self.arrivals if arrivals is None else arrivals
        while not self._is_due and self.arrivals == arrivals:
            seen = self._changed.count
            wake_up_at = min(until, self._next_due or until)
            sleep = self._clock.sleep(wake_up_at - self._clock.now())
            await first_of(self._changed.wait(seen), sleep)
            if wake_up_at <= self._clock.now():
                return

    def controlled(self) -> None:
        """Somebody has taken a claim from a worker."""
        self._controlled_at = self._clock.now()
        self._controlled.notify()

    async def wait_for_control(self, since: datetime, timeout: timedelta) -> bool:
        """Whether a claim was taken from some worker since then, as far as that is heard of."""
        if self._controlled_at < since:
            controlled = self._controlled.wait(self._controlled.count)
            await first_of(controlled, self._clock.sleep(timeout))
        return self._controlled_at >= since

    async def wait_for_end(self, workflow_id: str, since: datetime, timeout: timedelta) -> bool:
        """Whether the workflow may have ended since then, as far as that is heard of."""
        known = self._ended_at.get(workflow_id, _LONG_AGO)
        if max(known, self._unknown_until) >= since:
            return True
        end = self._ends.setdefault(workflow_id, WakeUp())
        seen = end.count
        await first_of(end.wait(seen), self._clock.sleep(timeout))
        return end.count != seen
