"""What must be so of messages, and of what is written in transactions."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from datetime import datetime

from bluestreak_core import Status, Step
from tests.chaos.case import CLOCKS_DIFFER, Case


def _receives(case: Case) -> list[Step]:
    """The steps that have received a message or none in time, in the order of the handler."""
    found = {step.step_id: step for step in case.steps if step.receipt is not None}
    return [found[step_id] for step_id in case.plan.order if step_id in found]


def _received(case: Case) -> list[str]:
    """The ids of the messages that steps have received, in the order of the handler."""
    receipts = [step.receipt for step in _receives(case)]
    return [
        receipt.message_id
        for receipt in receipts
        if receipt is not None and receipt.message_id is not None
    ]


def _once(case: Case) -> Iterator[str]:
    times = Counter(_received(case))
    for message_id, count in times.items():
        if count > 1:
            yield f"has received message {message_id!r} {count} times"
    new = Counter(sent.message_id for sent in case.sent if sent.is_new)
    for message_id, count in new.items():
        if count > 1:
            yield f"was said to have got message {message_id!r} for the first time {count} times"
    refused = {mail.message_id for mail in case.mail if mail.is_refused}
    for message_id in refused & times.keys():
        yield f"has received message {message_id!r}, which was refused"


def _kept(case: Case) -> Iterator[str]:
    accepted = {sent.message_id for sent in case.sent if sent.is_new is not None}
    refused = {mail.message_id for mail in case.mail if mail.is_refused}
    for message_id in accepted & refused:
        yield f"has refused message {message_id!r}, which was acknowledged"
    there = Counter(mail.message_id for mail in case.mail)
    for message_id in accepted - there.keys():
        yield f"has lost message {message_id!r}, which was acknowledged"
    for message_id, count in there.items():
        if count > 1:
            yield f"has message {message_id!r} {count} times"
    for message_id in {*_received(case)} - there.keys():
        yield f"has received message {message_id!r}, which nobody has sent"


def _in_order(case: Case) -> Iterator[str]:
    received = _received(case)
    if received != sorted(received):  # the ids of one workflow are numbered
        yield f"has received {received}"


def _waits(case: Case) -> Iterator[str]:
    ends = {wait.step_id: wait.retry_at for wait in case.attempts if wait.is_wait}
    by_now: set[str] = set()
    for step in _receives(case):
        if step.receipt is not None and step.receipt.message_id is not None:
            by_now.add(step.receipt.message_id)
            continue
        end = ends.get(step.step_id)
        if end is None or step.saved_at is None or step.saved_at < end:
            yield f"receive {step.step_id!r} gave up at {step.saved_at}, and its time ends at {end}"
            continue
        yield from _overlooked(case, step, end, by_now)


def _overlooked(case: Case, step: Step, end: datetime, by_now: set[str]) -> Iterator[str]:
    for sent in case.sent:
        is_there = sent.is_new is not None and sent.answered_at < end - CLOCKS_DIFFER
        if is_there and sent.message_id not in by_now:
            yield f"receive {step.step_id!r} gave up, and message {sent.message_id!r} was there"


def _effects(case: Case) -> Iterator[str]:
    for step_id in case.plan.transactions - {*case.copied}:
        written = [effect.token for effect in case.effects if effect.step_id == step_id]
        token = case.tokens.get(step_id)
        if written != ([] if token is None else [token]):
            yield f"transaction {step_id!r} has written {written}, and recorded {token}"
    for effect in case.effects:
        if effect.step_id in case.copied:
            yield f"transaction {effect.step_id!r} has written, though the fork has copied it"


def _handled(case: Case) -> Iterator[str]:
    if case.workflow.status is Status.FINISHED:
        for step_id in case.plan.receives - {step.step_id for step in _receives(case)}:
            yield f"has finished without receive {step_id!r}"


RULES: Mapping[str, Callable[[Case], Iterator[str]]] = {
    "a message is received once at most": _once,
    "an acknowledged message is never lost": _kept,
    "messages are received in the order in which they were sent": _in_order,
    "a wait ends with a message, or when its time is over and there is none": _waits,
    "every wait of a workflow that has finished has ended": _handled,
    "a transaction takes effect once, with its record": _effects,
}
