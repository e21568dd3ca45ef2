"""The longest time that may pass between two signs of life of a callback."""

from __future__ import annotations

from datetime import datetime, timedelta

from typing_extensions import override

from bluestreak_core.run.frame import Frame
from bluestreak_core.run.message_wait import FOREVER, Early, recorded_end


class Silence(Early):
    """Ends a wait once nothing was heard for too long.

    The first silence begins when a run first waits. That is recorded, and so is the decision that
    a silence was too long: an answer may still come before the wait has ended, but no sign of life
    takes it back.
    """

    def __init__(self, frame: Frame, step_id: str, name: str, longest: timedelta) -> None:
        self._frame = frame
        self._step_id = step_id
        self._name = name
        self._longest = longest
        self._record_id = heartbeat_id(step_id)
        self._first_end = FOREVER
        self._heard_at = frame.journal.workflow.heard_at(step_id)
        self.was_too_long = self._record_id in frame.journal.history.steps
        """Whether that is recorded."""

    @override
    async def begin(self) -> None:
        self._first_end = await recorded_end(
            self._frame, "callback", self._record_id, (self._name,), self._longest
        )

    @override
    async def ends_at(self) -> datetime:
        now = self._frame.journal.clock.now()
        if self.was_too_long:
            return now
        if self._end() <= now:
            # Nothing reports a sign of life: it is looked for when it is missed.
            self._heard_at = await self._frame.journal.heard_at(self._step_id)
        return self._end()

    @override
    async def give_up(self) -> None:
        if self.was_too_long:
            return
        journal = self._frame.journal
        await self._frame.record(journal.save_value(self._record_id, "too long a silence"))
        self.was_too_long = True

    def _end(self) -> datetime:
        if self._heard_at is None:
            return self._first_end
        return max(self._first_end, self._heard_at + self._longest)


def heartbeat_id(step_id: str) -> str:
    """The id under which the silence of a callback is recorded."""
    return f"{step_id}/heartbeat"
