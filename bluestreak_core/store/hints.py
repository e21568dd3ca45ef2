"""The waits of a store, implemented once for all stores."""

from __future__ import annotations

from collections import OrderedDict
from datetime import UTC, datetime, timedelta
from weakref import WeakValueDictionary

from bluestreak_core.clock import Clock
from bluestreak_core.concurrency import WakeUp, first_of

REMEMBERED_ENDS = 10_000
"""How many ends are remembered by workflow. A wait `since` an earlier time returns at once."""

_LONG_AGO = datetime.min.replace(tzinfo=UTC)


class Hints:
    """Implements the waits of a store, from the events that the store reports.

    Report each event after its write has been committed: a caller that wakes up before would find
    nothing, and would not be woken again.

    Only the next due instant is kept. So report the next one again after each claim.
    """

    def __init__(self, clock: Clock) -> None:
        self.arrivals = 0
        """How often work has become due."""
        self.looked_at = clock.now()
        """The `now` of the last claim: all that was due then has been looked for."""
        self._clock = clock
        self._arrivals_seen = 0
        self._is_due = False
        self._next_due: datetime | None = None
        self._changed = WakeUp()
        self._controlled = WakeUp()
        self._controlled_at = _LONG_AGO
        self._ends = _Ends(clock)
        self._mail: WeakValueDictionary[str, WakeUp] = WeakValueDictionary()

    def due(self, at: datetime) -> None:
        """Report that a workflow can be claimed from this instant on."""
        if at <= self._clock.now():
            self.arrivals += 1
            self._is_due = True
        elif self._next_due is None or at < self._next_due:
            self._next_due = at
        else:
            return
        self._changed.notify()

    def looking(self, now: datetime) -> int:
        """Report that the store is about to look for workflows that are due at `now`.

        Returns how many are known to have become due since the last report. Call it before the
        look, so that work which arrives during the look ends the next wait.
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
        """Report that a workflow has ended."""
        self._ends.add(workflow_id)

    def missed_something(self) -> None:
        """Report that events may have been missed: every waiting caller looks for itself."""
        self.due(self._clock.now())
        self._ends.missed_some()
        for wake_up in list(self._mail.values()):
            wake_up.notify()

    def delivered(self, workflow_id: str) -> None:
        """Report that messages were sent to a workflow."""
        if (wake_up := self._mail.get(workflow_id)) is not None:
            wake_up.notify()

    def mail_of(self, workflow_id: str) -> WakeUp:
        """What wakes those who wait for messages to a workflow, as long as they keep it.

        Read its `count`, look at the workflow's `mail`, and then wait with the count that was read.
        """
        return self._mail.setdefault(workflow_id, WakeUp())

    async def wait_for_work(self, timeout: timedelta, arrivals: int | None = None) -> None:
        """Return when work has become due since the last look, or after `timeout`.

        Also return if `self.arrivals` is no longer `arrivals`, a number that the caller has read
        before: another waiter may have looked since then, and left some of the work.
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
        """Report that `control` has taken a claim from a worker."""
        self._controlled_at = self._clock.now()
        self._controlled.notify()

    async def wait_for_control(self, since: datetime, timeout: timedelta) -> bool:
        """Return True once any claim may have been taken since then; False after `timeout`."""
        if self._controlled_at < since:
            await first_of(self._controlled.wait(), self._clock.sleep(timeout))
        return self._controlled_at >= since

    async def wait_for_end(self, workflow_id: str, since: datetime, timeout: timedelta) -> bool:
        """Return True once the workflow may have ended since then; False after `timeout`."""
        return await self._ends.wait(workflow_id, since, timeout)


class _Ends:
    """The ends of workflows, and the callers that wait for them."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._wake_ups: WeakValueDictionary[str, WakeUp] = WeakValueDictionary()
        self._ended_at: OrderedDict[str, datetime] = OrderedDict()
        self._unknown_until = _LONG_AGO
        """Until when a workflow may have ended that is not in `_ended_at`."""

    def add(self, workflow_id: str) -> None:
        self._ended_at[workflow_id] = self._clock.now()
        self._ended_at.move_to_end(workflow_id)
        if len(self._ended_at) > REMEMBERED_ENDS:
            _, ended_at = self._ended_at.popitem(last=False)
            self._unknown_until = max(self._unknown_until, ended_at)
        if (wake_up := self._wake_ups.get(workflow_id)) is not None:
            wake_up.notify()

    def missed_some(self) -> None:
        self._unknown_until = self._clock.now()
        for wake_up in list(self._wake_ups.values()):
            wake_up.notify()

    async def wait(self, workflow_id: str, since: datetime, timeout: timedelta) -> bool:
        ended_at = self._ended_at.get(workflow_id, _LONG_AGO)
        if max(ended_at, self._unknown_until) >= since:
            return True
        # Weak values: a wake-up lives as long as a caller waits for it.
        wake_up = self._wake_ups.setdefault(workflow_id, WakeUp())
        seen = wake_up.count
        await first_of(wake_up.wait(), self._clock.sleep(timeout))
        return wake_up.count != seen
