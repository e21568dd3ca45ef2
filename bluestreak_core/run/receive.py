"""`ctx.receive`: a message from outside, recorded as a step."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from bluestreak_core.argument import Duration, has_real_type, to_instant, to_timedelta
from bluestreak_core.clock import in_milliseconds
from bluestreak_core.errors import (
    AlreadyReceiving,
    FinalMistakes,
    InvalidArgument,
    InvalidValue,
    MessageTimeout,
    UsedInStep,
)
from bluestreak_core.message import Message, Received, to_message
from bluestreak_core.model import WAITING, Attempt, Receipt, Step
from bluestreak_core.run.exit import AbortNow
from bluestreak_core.run.frame import Frame

FOREVER = datetime(9999, 1, 1, tzinfo=UTC)
"""When a workflow wakes up that waits for a message without a time limit."""

Asked = Mapping[str, Message[Any] | str]
"""What a handler asks for, by name."""


class _Limit(NamedTuple):
    """How long a `receive` waits: for a time, until an instant, or without a limit."""

    timeout: timedelta | None
    deadline: datetime | None


async def receive(
    frame: Frame,
    step_id: str,
    messages: Sequence[Message[Any] | str],
    timeout: Duration | None,
    deadline: datetime | None,
) -> Received[Any]:
    """Return the recorded message; if there is none, wait for the first one of these names.

    Raises `MessageTimeout` if it is recorded, or gets recorded, that none came in time.
    """
    await frame.check("receive", step_id)
    with FinalMistakes():
        step_id = frame.step_id(step_id)
        asked = _by_name(step_id, messages)
        limit = _to_limit(step_id, timeout, deadline)
        frame.use_step(step_id)
        _check_place(frame, step_id, asked)
        frame.journal.mailboxes()
    if frame.is_recorded(step_id):
        history = frame.journal.history
        return _unpacked(
            frame, step_id, asked, history.receipts.get(step_id), history.steps[step_id]
        )
    step = await _received(frame, step_id, tuple(asked), limit)
    return _unpacked(frame, step_id, asked, step.receipt, step.output)


async def received_payload(
    frame: Frame,
    step_id: str,
    message: Message[Any] | str,
    timeout: Duration | None,
    deadline: datetime | None,
) -> Any:
    """The payload of `receive` for one message."""
    return (await receive(frame, step_id, [message], timeout, deadline)).payload


async def _received(frame: Frame, step_id: str, names: tuple[str, ...], limit: _Limit) -> Step:
    clock, journal = frame.journal.clock, frame.journal
    if limit.timeout and _recorded_wait(frame, step_id) is None:
        # Often a message is there already, and then there is no need to record a time limit.
        with frame.operations.operation("receive", step_id, names=names):
            looked = await frame.record(journal.receive(step_id, names, give_up=False))
        if isinstance(looked, Step):
            return looked
    until = await _until(frame, step_id, names, limit)
    with frame.operations.operation("receive", step_id, until, names) as wait:
        while True:
            wait.mail = None
            give_up = until <= clock.now()
            looked = await frame.record(journal.receive(step_id, names, give_up=give_up))
            if isinstance(looked, Step):
                return looked
            wait.mail = looked.mail
            await frame.await_message(wait, until)


async def _until(frame: Frame, step_id: str, names: tuple[str, ...], limit: _Limit) -> datetime:
    """When the wait ends. A timeout counts from the first run that got here, which is recorded."""
    if limit.deadline is not None:
        return limit.deadline
    if limit.timeout is None:
        return FOREVER
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
            retry_at=in_milliseconds(now + limit.timeout),
            saved_at=now,
        )
        if limit.timeout:
            with frame.operations.operation("receive", step_id, names=names):
                recorded = await frame.record(journal.save_attempt(recorded))
    return recorded.retry_at or FOREVER


def _recorded_wait(frame: Frame, step_id: str) -> Attempt | None:
    """What an earlier run has recorded of the timeout, if that is not a step's attempt."""
    recorded = frame.journal.history.attempts.get(step_id)
    return recorded if recorded is not None and recorded.is_wait else None


def _unpacked(
    frame: Frame, step_id: str, asked: Asked, receipt: Receipt | None, output: Any
) -> Received[Any]:
    """What the handler gets for a record."""
    if receipt is None:
        what = f"stored output of step {step_id!r} of workflow {frame.workflow_id!r}"
        raise _aborting(frame, InvalidValue(what, "", "no receive has recorded it"))
    if receipt.message_id is None or receipt.name is None or receipt.sent_at is None:
        raise MessageTimeout(frame.workflow_id, step_id, tuple(asked))
    message = asked.get(receipt.name, receipt.name)
    conversion = frame.journal.conversion
    if conversion is not None and has_real_type(message, Message):
        try:
            output = conversion.payload(frame.workflow_id, message.name, message.type, output)
        except InvalidValue as refusal:
            raise _aborting(frame, refusal) from None
    return Received(
        message=message, payload=output, sent_at=receipt.sent_at, message_id=receipt.message_id
    )


def _aborting(frame: Frame, refusal: InvalidValue) -> InvalidValue:
    """The error of a record that no run can use: it ends this one, even if it is caught."""
    frame.exit.decide(AbortNow(refusal))
    return refusal


def _by_name(step_id: str, messages: Sequence[Message[Any] | str]) -> Asked:
    if not has_real_type(messages, list) and not has_real_type(messages, tuple):
        reason = "expected a list of Messages or their names"
        raise InvalidArgument(f"messages of receive {step_id!r}", messages, reason)
    name = f"messages of receive {step_id!r}"
    asked = {to_message(name, found).name: found for found in messages}
    if not asked:
        raise InvalidArgument(name, messages, "there are none")
    if len(asked) < len(messages):
        raise InvalidArgument(name, messages, "two of them have the same name")
    return asked


def _to_limit(step_id: str, timeout: Duration | None, deadline: datetime | None) -> _Limit:
    if timeout is not None and deadline is not None:
        reason = "give either a timeout or a deadline"
        raise InvalidArgument(f"deadline of receive {step_id!r}", deadline, reason)
    return _Limit(
        None if timeout is None else to_timedelta(f"timeout of receive {step_id!r}", timeout),
        None if deadline is None else to_instant(f"deadline of receive {step_id!r}", deadline),
    )


def _check_place(frame: Frame, step_id: str, asked: Asked) -> None:
    """Refuse to wait within the function of a step, or beside a wait for the same messages."""
    task = asyncio.current_task()
    if task is not None and (within := frame.operations.name_at(task)) is not None:
        raise UsedInStep(frame.workflow_id, f"receive {step_id!r}", within)
    for name in asked:
        if frame.operations.waits_for(name):
            raise AlreadyReceiving(frame.workflow_id, step_id, name)
