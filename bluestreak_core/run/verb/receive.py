"""`ctx.receive`: a message from outside, recorded as a step."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from bluestreak_core.argument import Duration, has_real_type
from bluestreak_core.errors import FinalMistakes, InvalidArgument, InvalidValue, MessageTimeout
from bluestreak_core.message import Message, Received, to_message
from bluestreak_core.model import Receipt
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.hook import WaitKind
from bluestreak_core.run.verb.message_wait import (
    aborting,
    await_message,
    check_alone,
    to_limit,
    unusable,
)

Asked = Mapping[str, Message[Any] | str]
"""What a handler asks for, by name."""


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
        _check_types(frame, asked)
        limit = to_limit(f"receive {step_id!r}", timeout, deadline)
        frame.use_step(step_id, "receive")
        check_alone(frame, step_id, asked)
        frame.journal.mailboxes("ctx.receive")
    if frame.is_recorded(step_id):
        history = frame.journal.history
        return _unpacked(
            frame, step_id, asked, history.receipts.get(step_id), history.steps[step_id]
        )
    step = await await_message(frame, WaitKind.RECEIVE, step_id, tuple(asked), limit)
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


def _unpacked(
    frame: Frame, step_id: str, asked: Asked, receipt: Receipt | None, output: Any
) -> Received[Any]:
    """What the handler gets for a record."""
    if receipt is None:
        raise unusable(frame, step_id, "no receive has recorded it")
    if receipt.message_id is None or receipt.name is None or receipt.sent_at is None:
        raise MessageTimeout(frame.workflow_id, step_id, tuple(asked))
    message = asked.get(receipt.name, receipt.name)
    conversion = frame.journal.conversion
    if conversion is not None and has_real_type(message, Message):
        try:
            output = conversion.payload(frame.workflow_id, message.name, message.type, output)
        except InvalidValue as refusal:
            aborting(frame, refusal)
            raise
    return Received(
        message=message, payload=output, sent_at=receipt.sent_at, message_id=receipt.message_id
    )


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


def _check_types(frame: Frame, asked: Asked) -> None:
    conversion = frame.journal.conversion
    if conversion is not None:
        for name, message in asked.items():
            if has_real_type(message, Message):
                conversion.check_message(name, message.type)
