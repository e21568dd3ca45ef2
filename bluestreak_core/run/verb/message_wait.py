"""Waiting for a message, which a step records: what `ctx.receive` and `ctx.callback` share."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import NamedTuple, Protocol

from bluestreak_core.argument import Duration, to_instant, to_timedelta
from bluestreak_core.clock import in_milliseconds
from bluestreak_core.errors import AlreadyReceiving, InvalidArgument, InvalidValue
from bluestreak_core.model import WAITING, Attempt, Step
from bluestreak_core.run.exit import AbortNow
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.hook import WaitKind

FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
"""When a workflow wakes up that waits for a message without a time limit."""


class Limit(NamedTuple):
    """How long a step waits: for a time, until an instant, or without a limit."""

    timeout: timedelta | None
    deadline: datetime | None


class End(Protocol):
    """An end of a wait besides its limit."""

    async def begin(self) -> None:
        """Record what has to be known of the first run that got here."""
        ...

    async def comes_at(self) -> datetime:
        """When it comes, as far as is known now."""
        ...

    async def give_up(self, *, by_limit: bool) -> None:
        """Note that the wait is over, by its limit or by this end."""
        ...


def to_limit(what: str, timeout: Duration | None, deadline: datetime | None) -> Limit:
    """The limit of a wait; `what` names it in errors."""
    if timeout is not None and deadline is not None:
        reason = "give either a timeout or a deadline"
        raise InvalidArgument(f"deadline of {what}", deadline, reason)
    return Limit(
        None if timeout is None else to_timedelta(f"timeout of {what}", timeout),
        None if deadline is None else to_instant(f"deadline of {what}", deadline),
    )


def check_alone(frame: Frame, step_id: str, names: Iterable[str]) -> None:
    """Refuse to wait beside a wait for the same messages."""
    for name in names:
        if frame.operations.waits_for(name):
            raise AlreadyReceiving(frame.workflow_id, step_id, name)


async def await_message(  # noqa: PLR0917 - as a verb names them
    frame: Frame,
    kind: WaitKind,
    step_id: str,
    names: tuple[str, ...],
    limit: Limit,
    end: End | None = None,
) -> Step:
    """The step that has received the first message of these names, or none in time."""
    if frame.replay is not None:
        await frame.replay.suspend(kind.value, step_id)
    with frame.calls.waiting(kind, step_id, limit.deadline):
        return await _message(frame, kind, step_id, names, limit, end)


async def _message(  # noqa: PLR0917 - as above
    frame: Frame,
    kind: str,
    step_id: str,
    names: tuple[str, ...],
    limit: Limit,
    end: End | None,
) -> Step:
    clock, journal = frame.journal.clock, frame.journal
    if limit.timeout and _recorded_wait(frame, step_id) is None:
        # Often a message is there already, and then there is no need to record a time limit.
        with frame.operations.wait(kind, step_id, names):
            looked = await frame.record(journal.receive(step_id, names, give_up=False))
        if isinstance(looked, Step):
            return looked
    until = await _until(frame, kind, step_id, names, limit)
    if end is not None:
        await end.begin()
    with frame.operations.wait(kind, step_id, names, until) as wait:
        while True:
            wait.mail = None
            ends_at = until if end is None else min(until, await end.comes_at())
            wait.wake_up_at = ends_at
            give_up = ends_at <= clock.now()
            if give_up and end is not None:
                await end.give_up(by_limit=ends_at == until)
            looked = await frame.record(journal.receive(step_id, names, give_up=give_up))
            if isinstance(looked, Step):
                return looked
            wait.mail = looked.mail
            await frame.await_message(wait, ends_at)


async def _until(
    frame: Frame, kind: str, step_id: str, names: tuple[str, ...], limit: Limit
) -> datetime:
    """When the wait ends. A timeout counts from the first run that got here, which is recorded."""
    if limit.deadline is not None:
        return limit.deadline
    if limit.timeout is None:
        return FOREVER
    if not limit.timeout and _recorded_wait(frame, step_id) is None:
        return frame.journal.clock.now()
    return await recorded_end(frame, kind, step_id, names, limit.timeout)


async def recorded_end(
    frame: Frame, kind: str, step_id: str, names: tuple[str, ...], span: timedelta
) -> datetime:
    """When a span ends that began when a run of this round first got here, which is recorded."""
    journal = frame.journal
    recorded = _recorded_wait(frame, step_id)
    if recorded is None:
        workflow, now = journal.workflow, journal.clock.now()
        recorded = Attempt(
            workflow_id=workflow.workflow_id,
            step_id=step_id,
            round=workflow.retries,
            number=0,
            error=WAITING,
            retry_at=in_milliseconds(now + span),
            saved_at=now,
        )
        with frame.operations.wait(kind, step_id, names):
            recorded = await frame.record(journal.save_attempt(recorded))
    return recorded.retry_at or FOREVER


def _recorded_wait(frame: Frame, step_id: str) -> Attempt | None:
    """What an earlier run has recorded of the timeout, if that is not a step's attempt."""
    recorded = frame.journal.history.attempts.get(step_id)
    return recorded if recorded is not None and recorded.is_wait else None


def aborting(frame: Frame, refusal: InvalidValue) -> InvalidValue:
    """The error of a record that no run can use: it ends this one, even if it is caught."""
    frame.exit.decide(AbortNow(refusal))
    return refusal


def unusable(frame: Frame, step_id: str, reason: str) -> InvalidValue:
    """`aborting` for a step that something else has recorded."""
    what = f"stored output of step {step_id!r} of workflow {frame.workflow_id!r}"
    return aborting(frame, InvalidValue(what, "", reason))
