"""How a callback ends without an answer: by its time limit, or by a silence."""

from __future__ import annotations

from datetime import datetime, timedelta

from typing_extensions import override

from bluestreak_core.callback import Answer, Missing, answer_name
from bluestreak_core.model import NewMessage
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.verb.message_wait import FOREVER, End, recorded_end


class CallbackEnd(End):
    """Ends the wait of a callback by answering it.

    That nothing came in time is a message under the id of the answer, of which the mailbox takes
    only one. So of an answer and a time limit one wins, and the sender of the other finds the
    winner.
    """

    def __init__(self, frame: Frame, step_id: str, heartbeat: timedelta | None) -> None:
        self._frame = frame
        self._step_id = step_id
        self._heartbeat = heartbeat
        self._name = answer_name(step_id, frame.journal.workflow.generation)
        self._first_silence = FOREVER
        self._heard_at = frame.journal.workflow.heard_at(step_id)

    @override
    async def begin(self) -> None:
        """Record when the first silence is too long, from when a run first waits."""
        if self._heartbeat is not None:
            longest = self._heartbeat
            self._first_silence = await recorded_end(
                self._frame, "callback", heartbeat_id(self._step_id), (self._name,), longest
            )

    @override
    async def comes_at(self) -> datetime:
        """When a silence is too long, as far as is known now."""
        silent_at = self._silent_at()
        if silent_at <= self._frame.journal.clock.now():
            # Nothing reports a sign of life: it is looked for when it is missed.
            self._heard_at = await self._frame.journal.heard_at(self._step_id)
            silent_at = self._silent_at()
        return silent_at

    @override
    async def give_up(self, *, by_limit: bool) -> None:
        """Answer that there is none, unless somebody has answered."""
        journal, name = self._frame.journal, self._name
        missing = Missing.ANSWER if by_limit else Missing.SIGN_OF_LIFE
        message = NewMessage(
            workflow_id=self._frame.workflow_id,
            message_id=name,
            name=name,
            payload=Answer(missing=missing).stored,
            sent_at=journal.clock.now(),
        )
        await self._frame.record(journal.send(message))

    def _silent_at(self) -> datetime:
        if self._heard_at is None or self._heartbeat is None:
            return self._first_silence
        return max(self._first_silence, self._heard_at + self._heartbeat)


def heartbeat_id(step_id: str) -> str:
    """The id under which it is recorded when the first silence of a callback ends."""
    return f"{step_id}/heartbeat"
