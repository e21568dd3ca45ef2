"""The life of a workflow, in one object."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from bluestreak_core.callback import Answer, answered_step, is_answer_name
from bluestreak_core.errors.text import counted, printable
from bluestreak_core.model import (
    Attempt,
    ClaimEntry,
    ErrorRecord,
    FailedStep,
    Nap,
    OnParentEnd,
    Receipt,
    Status,
    Step,
    Workflow,
)
from bluestreak_core.run.settling import child_of_name
from bluestreak_core.run.verb.message_wait import FOREVER
from bluestreak_core.store import Records, WorkflowSummary

Record = ClaimEntry | Step | Nap | Attempt | FailedStep | ErrorRecord

_WIDTH = 200

_CHILDREN_SHOWN = 20


class EventKind(StrEnum):
    """What an event of a timeline is about."""

    CREATED = "created"
    RETRIED = "retried"
    RESTARTED = "restarted"
    CLAIMED = "claimed"
    STEP = "step"
    RECEIVED = "received"
    WAIT = "wait"
    NAP = "nap"
    ATTEMPT_BEGUN = "attempt begun"
    ATTEMPT_FAILED = "attempt failed"
    STEP_FAILED = "step failed"
    FAILED = "failed"
    FINISHED = "finished"
    ABORTED = "aborted"
    CANCELLED = "cancelled"
    STOPPED = "stopped"


_ENDS = {
    Status.FINISHED: EventKind.FINISHED,
    Status.ABORTED: EventKind.ABORTED,
    Status.CANCELLED: EventKind.CANCELLED,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class TimelineEvent:
    """One event in the life of a workflow.

    `at` is None if the time is not recorded. `name` is the id of the step or nap, or the worker.
    `RECEIVED` is a step that has received a message, or none in time; `WAIT` is the record
    of how long it waits, an attempt. `ATTEMPT_BEGUN` is the begin of a call that happens at most
    once. `STOPPED` is when it was decided that the workflow ends after its compensations, which are
    the steps that follow. `record` is the source of the event: the claim's entry, the step, the
    nap, the attempt, the given-up step, the last error; None if the source is the workflow itself.
    """

    kind: EventKind
    at: datetime | None
    name: str | None = None
    record: Record | None = None

    def __str__(self) -> str:
        at = "at an unknown time" if self.at is None else _shown(self.at)
        what = self.kind.value if self.name is None else f"{self.kind.value} {self.name!r}"
        return f"{at:<24}  {what}{_detail(self.record)}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Timeline:
    """A workflow with all its records, and `events`: what happened to it, in order.

    `children` are those that it has started, the oldest first, a thousand at most.

    `str()` of it is for a terminal: it shortens texts, and escapes what cannot be printed. Only the
    newest 20 claims are known. Of a handler's failures only the last is known, without its time
    unless it aborted the workflow. Events without a time come first if they are steps and naps that
    the JavaScript library recorded, and last if they are an end or a failure.
    """

    workflow: Workflow
    steps: tuple[Step, ...]
    naps: tuple[Nap, ...]
    attempts: tuple[Attempt, ...]
    events: tuple[TimelineEvent, ...]
    children: tuple[WorkflowSummary, ...] = ()

    @classmethod
    def of(
        cls, workflow: Workflow, records: Records, children: Sequence[WorkflowSummary] = ()
    ) -> Timeline:
        """The timeline of a workflow and its records, and its children, the oldest first."""
        return cls(
            workflow=workflow,
            steps=records.steps,
            naps=records.naps,
            attempts=records.attempts,
            events=(*_ordered(_past(workflow, records)), *_last(workflow)),
            children=tuple(children),
        )

    @property
    def failed_steps(self) -> tuple[FailedStep, ...]:
        """The steps that have been given up."""
        return self.workflow.failed_steps

    @property
    def claim_log(self) -> tuple[ClaimEntry, ...]:
        """The newest claims."""
        return self.workflow.claim_log

    def __str__(self) -> str:
        events = (f"  {event}" for event in self.events)
        return "\n".join([*_head(self.workflow), *events, *_family(self.children)])


def _detail(record: Record | None) -> str:
    detail = ""
    match record:
        case Step(receipt=Receipt(message_id=None)):
            detail = ": nothing in time"
        case Step(output=output, receipt=Receipt(name=str(name))) if is_answer_name(name):
            detail = _detail_of_answer(Answer.read(output))
        case Step(output=output, receipt=Receipt(name=name)):
            detail = f": {_cut(name)}, {_cut(output)}"
        case Step(output=output):
            detail = f": {_cut(output)}"
        case Nap(wake_up_at=wake_up_at):
            detail = f" until {_shown(wake_up_at)}"
        case Attempt():
            detail = _detail_of_attempt(record)
        case FailedStep():
            detail = _given_up(record)
        case ErrorRecord():
            detail = f": {_error(record)}"
        case ClaimEntry(after_crash=True):
            detail = ", since a lease had run out"
    return detail


def _detail_of_answer(answer: Answer) -> str:
    """What the callback of a step has got."""
    if answer.missing is not None:
        return f": no {answer.missing.value} in time"
    if answer.error is not None:
        return f": error {_cut(answer.error)}"
    return f": answer {_cut(answer.payload)}"


def _detail_of_attempt(attempt: Attempt) -> str:
    if attempt.is_begin:
        return f", number {-attempt.number}"
    if attempt.is_wait:
        return "" if attempt.retry_at is None else f" until {_shown(attempt.retry_at)}"
    then = "" if attempt.retry_at is None else f", tried again at {_shown(attempt.retry_at)}"
    return f", number {attempt.number}: {_error(attempt.error)}{then}"


def _given_up(failed: FailedStep) -> str:
    """Why a step was given up."""
    child = failed.child
    if child is None:
        return f" after {counted(failed.attempts, 'attempt')}: {_error(failed.error)}"
    is_cancelled = child.status is Status.CANCELLED
    why = _cut(failed.error.message) if is_cancelled else _error(failed.error)
    return f": child {_cut(child.workflow_id)} was {child.status.value}, {why}"


def _past(workflow: Workflow, records: Records) -> Iterator[TimelineEvent]:
    """What is known to have happened before the end, in the most likely order of one millisecond.

    A failed attempt leads to the next one, or to the step, or to that it is given up; then there
    may be other steps. But an attempt that is waited after, as a nap is, is the last for a while.
    """
    yield TimelineEvent(kind=EventKind.CREATED, at=workflow.created_at)
    if workflow.retries:
        yield TimelineEvent(kind=EventKind.RETRIED, at=workflow.start_at)
    if workflow.generation:
        yield TimelineEvent(kind=EventKind.RESTARTED, at=workflow.restarted_at)
    for entry in workflow.claim_log:
        at, name = entry.claimed_at, entry.worker
        yield TimelineEvent(kind=EventKind.CLAIMED, at=at, name=name, record=entry)
    if workflow.stopped_at is not None:
        record = workflow.error if workflow.outcome is Status.ABORTED else None
        yield TimelineEvent(kind=EventKind.STOPPED, at=workflow.stopped_at, record=record)
    yield from _attempts(records, waited_after=False)
    for failed in workflow.failed_steps:
        at, name = failed.failed_at, failed.step_id
        yield TimelineEvent(kind=EventKind.STEP_FAILED, at=at, name=name, record=failed)
    for step in records.steps:
        kind = EventKind.STEP if step.receipt is None else EventKind.RECEIVED
        yield TimelineEvent(kind=kind, at=step.saved_at, name=step.step_id, record=step)
    yield from _attempts(records, waited_after=True)
    for nap in records.naps:
        yield TimelineEvent(kind=EventKind.NAP, at=nap.saved_at, name=nap.nap_id, record=nap)


def _attempts(records: Records, *, waited_after: bool) -> Iterator[TimelineEvent]:
    for attempt in records.attempts:
        at, name = attempt.saved_at, attempt.step_id
        if waited_after == (attempt.retry_at is not None and attempt.retry_at > at):
            yield TimelineEvent(kind=_kind(attempt), at=at, name=name, record=attempt)


def _kind(attempt: Attempt) -> EventKind:
    if attempt.is_begin:
        return EventKind.ATTEMPT_BEGUN
    return EventKind.WAIT if attempt.is_wait else EventKind.ATTEMPT_FAILED


def _ordered(events: Iterator[TimelineEvent]) -> list[TimelineEvent]:
    """By time; those without a time come first."""
    undated: list[TimelineEvent] = []
    dated: list[tuple[datetime, int, TimelineEvent]] = []
    for place, event in enumerate(events):
        if event.at is None:
            undated.append(event)
        else:
            dated.append((event.at, place, event))
    return undated + [event for _, _, event in sorted(dated, key=lambda entry: entry[:2])]


def _last(workflow: Workflow) -> Iterator[TimelineEvent]:
    """Its end, or the failure after which it waits."""
    match workflow.status:
        case Status.FAILED:
            yield TimelineEvent(kind=EventKind.FAILED, at=None, record=workflow.error)
        case Status.FINISHED | Status.ABORTED | Status.CANCELLED as status:
            is_failure = status is Status.ABORTED
            record = workflow.error if is_failure else None
            yield TimelineEvent(kind=_ENDS[status], at=workflow.finished_at, record=record)


def _head(workflow: Workflow) -> Iterator[str]:
    names = f"workflow {workflow.workflow_id!r} of handler {workflow.handler_id!r}"
    yield f"{names}: {_state(workflow)}"
    if workflow.parent is not None:
        left = "" if workflow.parent.on_end is OnParentEnd.CANCEL else ", and may outlive it"
        yield f"  child of {workflow.parent.workflow_id!r}{left}"
    if workflow.forked_from is not None:
        yield f"  forked from {workflow.forked_from!r}"
    yield f"  input {_cut(workflow.input)}"
    if workflow.generation:
        yield f"  restarted {counted(workflow.generation, 'time')}"
    if workflow.status is Status.FINISHED:
        yield f"  result {_cut(workflow.result)}"
    yield f"  claims {workflow.claims}, failures {workflow.failures}, crashes {workflow.crashes}"
    for latest in workflow.published:
        yield f"  published {_cut(latest.name)}: {_cut(latest.value)}, {_shown(latest.at)}"
    if workflow.error is not None:
        yield f"  last error {_error(workflow.error)}"


def _family(children: Sequence[WorkflowSummary]) -> Iterator[str]:
    """The last lines, of the children."""
    if children:
        yield f"  children {len(children)}"
    for child in children[:_CHILDREN_SHOWN]:
        yield f"    {child.workflow_id!r} of handler {child.handler_id!r}: {child.status.value}"
    if len(children) > _CHILDREN_SHOWN:
        yield f"    and {len(children) - _CHILDREN_SHOWN} more"


def _awaited(name: str, generation: int) -> str:
    """A message, the end of a child or the answer of a callback that a workflow waits for."""
    child_id = child_of_name(name)
    if child_id is not None:
        return f"child {_cut(child_id)}"
    step_id = answered_step(name, generation)
    return _cut(name) if step_id is None else f"callback {_cut(step_id)}"


def _state(workflow: Workflow) -> str:
    match workflow.status:
        case Status.IDLE if workflow.waiting_for:
            names = " or ".join(
                _awaited(name, workflow.generation) for name in workflow.waiting_for
            )
            until = (
                "" if workflow.timeout_at >= FOREVER else f" until {_shown(workflow.timeout_at)}"
            )
            return f"waiting for {names}{until}"
        case Status.IDLE | Status.FAILED:
            return f"{workflow.status.value}, due {_shown(workflow.timeout_at)}"
        case Status.RUNNING:
            return f"running on {workflow.worker!r}, lease until {_shown(workflow.timeout_at)}"
        case Status.CANCELLED if workflow.reason is not None:
            return f"cancelled, {_cut(workflow.reason)}"
        case Status.STOPPING | Status.COMPENSATING:
            return _stopping(workflow)
    return workflow.status.value


def _stopping(workflow: Workflow) -> str:
    """The state of a workflow that has still to compensate, with what it is to end as."""
    reason = "" if workflow.reason is None else f" ({_cut(workflow.reason)})"
    outcome, at = f"to be {workflow.outcome}{reason}", _shown(workflow.timeout_at)
    if workflow.status is Status.STOPPING:
        return f"stopping, {outcome}, due {at}"
    return f"compensating on {workflow.worker!r}, {outcome}, lease until {at}"


def _error(error: ErrorRecord) -> str:
    lines = f"{error.type}: {error.message}".splitlines()
    return _shortened(lines[0] if lines else "")


def _shown(instant: datetime) -> str:
    return instant.isoformat(sep=" ", timespec="milliseconds").removesuffix("+00:00") + "Z"


def _cut(value: Any) -> str:
    return _shortened(repr(value))


def _shortened(text: str) -> str:
    """Cut short, and without characters that a terminal obeys, such as ESC."""
    shown = printable(text[:_WIDTH])
    return shown if len(text) <= _WIDTH else f"{shown}..."
