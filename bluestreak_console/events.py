"""The events of a workflow, as rows of its page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from bluestreak_console import text
from bluestreak_console.axis import Axis, Bar, Stretch
from bluestreak_core import EventKind, Timeline, TimelineEvent
from bluestreak_core.callback import is_answer_name
from bluestreak_core.model import Attempt, ClaimEntry, ErrorRecord, FailedStep, Nap, Step

PAGE = 200
"""Rows that are sent at once; the next ones are loaded as one scrolls."""

HIDDEN = "hidden"
"""Instead of what a visitor may not see."""

_PREVIEW = 120  # characters

_LAST_YEAR = 9000
"""A wait until later is one without an end."""

_TONES = {
    EventKind.CLAIMED: "claim",
    EventKind.STEP: "step",
    EventKind.RECEIVED: "message",
    EventKind.WAIT: "wait",
    EventKind.NAP: "nap",
    EventKind.ATTEMPT_FAILED: "failed",
    EventKind.STEP_FAILED: "failed",
    EventKind.FAILED: "failed",
    EventKind.ABORTED: "failed",
    EventKind.CANCELLED: "failed",
    EventKind.FINISHED: "finished",
}
_WORK = (EventKind.STEP, EventKind.RECEIVED, EventKind.ATTEMPT_FAILED, EventKind.STEP_FAILED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Fold:
    """A text that is unfolded by a click."""

    title: str
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One event. `step_id` is set if the workflow can be forked before it."""

    number: int
    kind: str
    tone: str
    name: str
    at: str
    took: str
    detail: str = ""
    bars: Sequence[Bar] = ()
    folds: Sequence[Fold] = field(default=())
    step_id: str | None = None


def rows(
    timeline: Timeline, now: datetime, *, with_values: bool, first: int = 0, limit: int = PAGE
) -> list[Row]:
    """The rows of a part of a workflow's events."""
    events = timeline.events
    stretches = list(_stretches(timeline, now))
    instants = {instant for each in stretches for s in each for instant in (s.begin, s.end)}
    axis = Axis(instants)
    return [
        _row(place, events[place], stretches[place], axis, with_values=with_values)
        for place in range(first, min(first + limit, len(events)))
    ]


def _row(
    place: int, event: TimelineEvent, stretches: Sequence[Stretch], axis: Axis, *, with_values: bool
) -> Row:
    detail, folds = _told(event, with_values=with_values)
    is_step = isinstance(event.record, Step | FailedStep)
    return Row(
        number=place + 1,
        kind=event.kind.value,
        tone=_tone(event),
        name=text.line(event.name or ""),
        at=text.instant(event.at),
        took=text.span(_duration(stretches)) if event.kind in _WORK or _is_pause(event) else "",
        detail=detail,
        bars=[each.drawn(axis) for each in stretches],
        folds=folds,
        step_id=event.name if is_step else None,
    )


def _is_pause(event: TimelineEvent) -> bool:
    return event.kind in (EventKind.NAP, EventKind.WAIT)


def _duration(stretches: Sequence[Stretch]) -> timedelta | None:
    return stretches[0].end - stretches[0].begin if stretches else None


def _tone(event: TimelineEvent) -> str:
    if isinstance(event.record, ClaimEntry) and event.record.after_crash:
        return "crash"
    return _TONES.get(event.kind, "mark")


def _stretches(timeline: Timeline, now: datetime) -> Iterator[list[Stretch]]:
    """What is drawn for each event.

    When a step began is not stored. Its bar begins at the event before it, or where its last
    attempt's pause or its wait ended.
    """
    end = timeline.workflow.finished_at or now
    before: datetime | None = None
    resumed: dict[str, datetime] = {}
    received = {step.step_id: step.saved_at for step in timeline.steps if step.receipt is not None}
    for event in timeline.events:
        at = event.at
        if at is None:
            yield []
            continue
        begin = at
        if event.kind in _WORK and before is not None:
            begin = min(at, resumed.get(event.name or "", before))
        drawn = [Stretch(begin=begin, end=at, tone=_tone(event))]
        match event.record:
            case Nap(wake_up_at=wake_up_at):
                drawn = [Stretch(begin=at, end=max(at, min(wake_up_at, end)), tone="nap")]
            case Attempt(is_wait=True, retry_at=until):
                over = received.get(event.name or "") or min(until or end, end)
                drawn = [Stretch(begin=at, end=max(at, over), tone="wait")]
                resumed[event.name or ""] = at
            case Attempt(retry_at=datetime() as again):
                drawn.append(Stretch(begin=at, end=max(at, min(again, end)), tone="pause"))
                resumed[event.name or ""] = again
        yield drawn
        before = max(each.end for each in drawn)


def _told(event: TimelineEvent, *, with_values: bool) -> tuple[str, list[Fold]]:
    """The details of an event: a line, and texts to unfold."""
    match event.record:
        case Step() as step:
            return _told_of_step(step, with_values=with_values)
        case Nap(wake_up_at=wake_up_at):
            return f"until {text.instant(wake_up_at)}", []
        case Attempt() as attempt:
            return _told_of_attempt(attempt, with_values=with_values)
        case FailedStep(error=error, attempts=attempts):
            detail, folds = told_of_error(error, with_values=with_values)
            return f"given up after {attempts}: {detail}", folds
        case ErrorRecord() as error:
            return told_of_error(error, with_values=with_values)
    is_crash = isinstance(event.record, ClaimEntry) and event.record.after_crash
    return "taken over: a lease had run out" if is_crash else "", []


def _told_of_attempt(attempt: Attempt, *, with_values: bool) -> tuple[str, list[Fold]]:
    if attempt.is_begin:
        return "begun, at most once", []
    until = "" if attempt.retry_at is None else _until(attempt.retry_at)
    if attempt.is_wait:
        return f"until {until}" if until else "", []
    detail, folds = told_of_error(attempt.error, with_values=with_values)
    return f"attempt {attempt.number}: {detail}" + (f", again at {until}" if until else ""), folds


def _told_of_step(step: Step, *, with_values: bool) -> tuple[str, list[Fold]]:
    receipt = step.receipt
    if receipt is not None and receipt.message_id is None:
        return "nothing in time", []
    sender = "" if receipt is None else f"{_sender(receipt.name or '')} "
    if not with_values:
        return f"{sender}{HIDDEN}", []
    preview = text.line(text.value(step.output, _PREVIEW, indent=None))
    if len(preview) <= _PREVIEW:
        return f"{sender}{preview}", []
    return f"{sender}{preview}", [Fold(title="output", text=text.value(step.output))]


def _sender(name: str) -> str:
    return "answer" if is_answer_name(name) else text.line(name)


def told_of_error(error: ErrorRecord, *, with_values: bool) -> tuple[str, list[Fold]]:
    """An error on one line, and its traceback."""
    if not with_values:
        return text.line(error.type), []
    lines = error.message.splitlines()
    summary = text.line(f"{error.type}: {lines[0] if lines else ''}")
    return summary, [Fold(title="traceback", text=text.block(error.traceback or error.message))]


def _until(instant: datetime) -> str:
    return "it comes" if instant.year > _LAST_YEAR else text.instant(instant)
