"""The invariants of messages.

One function for each, under the name that docs/reliability.md gives it.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterator
from datetime import datetime, timedelta
from typing import Any

from bluestreak_core import Claim, Status, Step, Workflow
from bluestreak_core.model import NewMessage, Receipt
from tests.simulation.record import Record
from tests.simulation.scenario import Operation, flat

_PUNCTUAL = timedelta(seconds=2)
_ROUNDING = timedelta(milliseconds=2)

_CALLS_TO_RECEIVE = 14
"""How many calls may be under way, one after the other, until a parked workflow receives."""

# At the store ------------------------------------------------------------------------------------


def messages_are_new_once(record: Record, workflow_id: str, message_id: str) -> None:
    """A message of one id is put into a mailbox once, however often it is sent."""
    if (workflow_id, message_id) in record.mailed:
        record.violated(f"{workflow_id}: message {message_id} was new twice")


def messages_are_received_once(
    record: Record, workflow_id: str, step_id: str, message_id: str
) -> None:
    """No two steps receive the same message."""
    first = record.received.setdefault((workflow_id, message_id), step_id)
    if step_id != first:
        record.violated(f"{workflow_id}: {step_id} received {message_id} after {first}")


def messages_keep_their_order(record: Record, workflow_id: str, message_id: str) -> None:
    """What one sender knew to be sent before, under the same name, was received before."""
    for earlier in record.sent_before.get((workflow_id, message_id), ()):
        if (workflow_id, earlier) not in record.received:
            record.violated(f"{workflow_id} received {message_id} before {earlier}")


def receives_have_one_outcome(
    record: Record, workflow_id: str, step_id: str, receipt: Receipt | None
) -> None:
    """A receive has got a message, or none in time: what is recorded first, for ever."""
    first = record.receipts.get((workflow_id, step_id), receipt)
    if receipt is None or receipt != first:
        record.violated(f"{workflow_id}: {step_id} has got {receipt}, and before {first}")


def timeouts_leave_no_mail(
    record: Record, workflow_id: str, step_id: str, unread: Collection[NewMessage]
) -> None:
    """A receive does not time out while there is a message that it asks for."""
    if unread:
        ids = ", ".join(message.message_id for message in unread)
        record.violated(f"{workflow_id}: {step_id} timed out though there is {ids}")


def messages_are_received_at_once(record: Record, claim: Claim, step_id: str, sent: str) -> None:
    """Where nothing goes wrong, a workflow that waits for a message gets it when it comes."""
    counted_at = record.counted.get((claim.workflow_id, sent))
    if counted_at is not None and _is_late(record, claim, step_id, counted_at):
        record.violated(f"{claim.workflow_id}: {step_id} received {sent} late")


def timeouts_do_not_come_early(record: Record, claim: Claim, step_id: str) -> None:
    """No receive times out before the end of its timeout, or if it has none.

    A run whose claim was taken may be the one that records it, by the end in its own round.
    """
    asked = _receive(record, claim, step_id)
    ends_at = _end_of_wait(record, claim, asked)
    if asked.timeout != 0 and (ends_at is None or record.is_still_to_come(ends_at)):
        record.violated(f"{claim.workflow_id}: {step_id} timed out early, not at {ends_at}")


def timeouts_come_in_time(record: Record, claim: Claim, step_id: str) -> None:
    """Where nothing goes wrong, a receive that waits for some time does so no longer."""
    ends_at = _end_of_wait(record, claim, _receive(record, claim, step_id))
    if ends_at is not None and _is_late(record, claim, step_id, ends_at):
        record.violated(f"{claim.workflow_id}: {step_id} ended late, not at {ends_at}")


def _receive(record: Record, claim: Claim, step_id: str) -> Operation:
    (receive,) = [op for op in flat(record.plans[claim.workflow_id]) if op.id == step_id]
    return receive


def _end_of_wait(record: Record, claim: Claim, asked: Operation) -> datetime | None:
    """When a receive is to end at the latest, as a claim sees it; None if it never is."""
    if asked.until is not None:
        return record.began_at + timedelta(seconds=asked.until)
    return record.waits.get((claim.workflow_id, asked.id, claim.workflow.retries))


def _is_late(record: Record, claim: Claim, step_id: str, instant: datetime) -> bool:
    """Whether a receive ends long after an instant, though it has waited and nothing hindered it.

    After a failure or a retry, its handler may be held up elsewhere.
    """
    asked = record.asked.get((claim.workflow_id, step_id))
    if asked is None or not asked.goes_on_in(claim):
        return False
    since = max([instant, asked.at, *(at for at, _ in record.orders[claim.workflow_id])])
    patience = timedelta(seconds=_CALLS_TO_RECEIVE * record.scenario.latency)
    return record.is_well_since(since) and record.clock.now() - since > _PUNCTUAL + patience


def nobody_sleeps_over_mail(
    record: Record, workflow: Workflow, unread: Collection[NewMessage]
) -> None:
    """A workflow that waits for a message does not do so beside one that has come."""
    skew = timedelta(seconds=max(map(abs, record.scenario.skews)))
    is_released = workflow.timeout_at <= record.clock.now() + skew + _ROUNDING
    if workflow.status not in (Status.IDLE, Status.PAUSED) or is_released:
        return
    names = record.names_asked_for(workflow.workflow_id)
    for message in unread:
        is_counted = (workflow.workflow_id, message.message_id) in record.counted
        if is_counted and message.name in names:
            record.violated(f"{workflow.workflow_id} sleeps over message {message.message_id}")


# In handlers -------------------------------------------------------------------------------------


def handlers_see_what_was_received(
    record: Record, workflow_id: str, operation: Operation, output: Any
) -> None:
    """What a receive gives to its handler is what is recorded: a message, or that none came."""
    expected = record.received_by(workflow_id, operation)
    if output != expected:
        record.violated(f"{workflow_id} received {output} by {operation.id}: {expected}")


# At the end --------------------------------------------------------------------------------------


def acknowledged_messages_are_kept(
    record: Record, workflow_id: str, unread: Collection[NewMessage], steps: Collection[Step]
) -> None:
    """What its sender knows to be sent is unread, or received by a recorded step."""
    kept = {message.message_id for message in unread} | {
        step.receipt.message_id for step in steps if step.receipt is not None
    }
    lost = [sent for of, sent in record.acknowledged if of == workflow_id and sent not in kept]
    if lost:
        record.violated(f"{workflow_id} has lost {', '.join(lost)}")


def messages_are_recorded_once(
    record: Record, workflow_id: str, unread: Collection[NewMessage], steps: Collection[Step]
) -> None:
    """A message is recorded by one step, or is unread, and never both."""
    for message_id, count in Counter(_found(record, workflow_id, unread, steps)).items():
        if count > 1:
            record.violated(f"{workflow_id} has message {message_id} {count} times")


def unsent_messages_do_not_arrive(
    record: Record, workflow_id: str, unread: Collection[NewMessage], steps: Collection[Step]
) -> None:
    """What is there was sent by a call that has happened, and was not rolled back."""
    for message_id in _found(record, workflow_id, unread, steps):
        if (workflow_id, message_id) not in record.mailed:
            record.violated(f"{workflow_id} has message {message_id}, which was not sent")


def _found(
    record: Record, workflow_id: str, unread: Collection[NewMessage], steps: Collection[Step]
) -> Iterator[str]:
    """The ids of all messages of a workflow; a fork has copies of steps that received another's."""
    yield from (message.message_id for message in unread)
    for step in steps:
        is_copy = (workflow_id, f"step {step.step_id}") in record.copied
        if step.receipt is not None and step.receipt.message_id is not None and not is_copy:
            yield step.receipt.message_id
