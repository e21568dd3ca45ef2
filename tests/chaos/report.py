"""The report of a campaign: what was done to it, and what came of that."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from datetime import timedelta
from itertools import pairwise

from benchmarks.report import Table
from benchmarks.rounds import Percentiles
from bluestreak_core import Status
from tests.chaos.campaign import Outcome
from tests.chaos.case import Case, cases
from tests.chaos.history import Change
from tests.chaos.injection import Injected
from tests.chaos.schedule import Kind

SERVER_KINDS = (
    Kind.PRIMARY_KILLED,
    Kind.PRIMARY_STEPPED_DOWN,
    Kind.PRIMARY_HALTED,
    Kind.PRIMARY_CUT_OFF,
    Kind.PRIMARY_UNHEARD,
    Kind.SET_SPLIT,
)
TAKEN_OVER = (Kind.WORKER_KILLED, Kind.WORKER_HALTED)
_AFTERMATH = timedelta(seconds=3)


def tables(outcome: Outcome) -> list[Table]:
    return [_faults(outcome), _work(outcome), _times(outcome)]


def _faults(outcome: Outcome) -> Table:
    count = Counter(injected.kind for injected in outcome.injected)
    rows = [(kind.value, f"{count[kind]}") for kind in Kind]
    rows.append(("in all", f"{count.total()}"))
    return Table(title="Faults injected", columns=("fault", "times"), rows=tuple(rows))


def _work(outcome: Outcome) -> Table:
    evidence = outcome.evidence
    accepted = sum(start.accepted is True for start in evidence.starts)
    asked = sum(start.accepted is False for start in evidence.starts)
    there = sum(
        start.accepted is None and start.order.workflow_id in evidence.workflows
        for start in evidence.starts
    )
    changes = evidence.history
    moves = Counter(change.after.status.value for change in changes if change.is_move)
    controls = Counter(
        (change.before.status, change.after.status)
        for change in changes
        if change.is_control and change.before is not None
    )
    receipts = [step.receipt for step in evidence.steps if step.receipt is not None]
    calls = Counter((call.workflow_id, call.step_id) for call in evidence.calls if not call.raised)
    rows = {
        "workflows": len(evidence.workflows),
        "of these, accepted by the first answer": accepted,
        "of these, found there when asked again": asked,
        "of these, never answered": there,
        "claims": sum(change.is_claim for change in changes),
        "of these, taken over from a lease that had run out": sum(
            change.is_takeover for change in changes
        ),
        "naps": len(evidence.naps),
        "failures, from steps that raise the first time": moves["failed"],
        "given up, and retried": controls[Status.ABORTED, Status.IDLE],
        "cancelled": sum(count for (_, to), count in controls.items() if to is Status.CANCELLED),
        "of these, deleted": outcome.pruned,
        "paused": sum(count for (_, to), count in controls.items() if to is Status.PAUSED),
        "forked": sum(start.order.source is not None for start in evidence.starts),
        "transactions committed": len(evidence.effects),
        "messages sent": len({sent.message_id for sent in evidence.sent}),
        "calls that sent them": len(evidence.sent),
        "messages received": sum(receipt.message_id is not None for receipt in receipts),
        "waits that were over first": sum(receipt.message_id is None for receipt in receipts),
        "workflows parked until a message": sum(
            change.is_move and change.after.is_waiting for change in changes
        ),
        "steps": len(evidence.steps),
        "calls of them": calls.total(),
        "calls beyond the first": calls.total() - len(calls),
        "calls that blocked the event loop": sum(call.blocked for call in evidence.calls),
        "results of wait(), meanwhile": len(evidence.results),
    }
    return Table(
        title="Work", columns=("what", "count"), rows=tuple((k, f"{v:,}") for k, v in rows.items())
    )


def _times(outcome: Outcome) -> Table:
    changes = sorted(outcome.evidence.history, key=lambda change: change.at)
    rows = [
        _row(f"taken over: {kind}", takeovers(changes, outcome.injected, kind))
        for kind in TAKEN_OVER
    ]
    rows += [
        _row(f"no write: {kind}", outages(changes, outcome.injected, kind)) for kind in SERVER_KINDS
    ]
    rows.append(_row("a worker told to stop has ended", outcome.stops))
    late = [seconds for case in cases(outcome.evidence) for seconds in _calls_when_stopped(case)]
    rows.append(_row("a step called after a cancel or pause", late))
    calls = outcome.evidence.calls
    off = [abs(call.by_store_at - call.called_at).total_seconds() for call in calls]
    rows.append(_row("a worker's clock is off the server's", off))
    rows.append(_row("all ended, after the last fault", [outcome.drained_in]))
    return Table(title="Seconds", columns=("what", "times", "p50", "p99", "max"), rows=tuple(rows))


def _calls_when_stopped(case: Case) -> list[float]:
    """Seconds from a cancel or pause to each call of a step that its worker still made."""
    return [
        (call.called_at - since).total_seconds()
        for since, until in case.stops
        for call in case.calls
        if since < call.called_at < until
    ]


def takeovers(changes: Sequence[Change], injected: Iterable[Injected], kind: Kind) -> list[float]:
    """Seconds from a fault of a worker to the next claim of each workflow that it had then."""
    hits = [(fault.pid, fault.began_at) for fault in injected if fault.kind is kind]
    held: dict[str, Change] = {}
    seconds = []
    for change in changes:
        before = held.get(change.workflow_id)
        if change.is_takeover and before is not None:
            hit = [
                at for pid, at in hits if pid == before.after.pid and before.at <= at <= change.at
            ]
            seconds += [(change.at - at).total_seconds() for at in hit[:1]]
        if change.is_claim:
            held[change.workflow_id] = change
    return seconds


def outages(changes: Sequence[Change], injected: Iterable[Injected], kind: Kind) -> list[float]:
    """The longest pause between two writes of anybody, while a fault lasted or just after it."""
    pauses = [(sooner.at, later.at) for sooner, later in pairwise(changes)]
    return [
        max(
            (
                (later - sooner).total_seconds()
                for sooner, later in pauses
                if later > fault.began_at and sooner < fault.ended_at + _AFTERMATH
            ),
            default=0.0,
        )
        for fault in injected
        if fault.kind is kind
    ]


def _row(what: str, seconds: Sequence[float]) -> tuple[str, ...]:
    if not seconds:
        return what, "0", "", "", ""
    found = Percentiles.of(seconds)
    return what, f"{found.count}", f"{found.p50:.2f}", f"{found.p99:.2f}", f"{found.max:.2f}"
