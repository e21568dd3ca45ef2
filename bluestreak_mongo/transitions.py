"""The state machine written as filters and updates.

Updates are translated from `bluestreak_core.machine.change`, which says what each transition does.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from bluestreak_core import machine
from bluestreak_core.machine import Change, Transition, change
from bluestreak_core.model import (
    Claim,
    ClaimEntry,
    ClaimRequest,
    ErrorRecord,
    FailedStep,
    Parent,
    Published,
    Standing,
    Status,
)
from bluestreak_core.store import ENDED
from bluestreak_mongo.schema import FIRST_DATE, Document
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.claim_entry import from_claim_entry
from bluestreak_mongo.schema.error import from_error
from bluestreak_mongo.schema.failed_step import from_failed_step
from bluestreak_mongo.schema.parent import from_parent
from bluestreak_mongo.schema.published import from_published
from bluestreak_mongo.schema.step import STEP_ID

_MARK = datetime(1970, 1, 1, tzinfo=UTC)
"""The end that a workflow marked for deletion is given: the index has those first."""

_REACHABLE: Document = {wf.STATUS: {"$ne": Status.FINISHED.value}, wf.PRUNED_AT: None}

_FIELDS: Mapping[str, str] = {
    "status": wf.STATUS,
    "timeout_at": wf.TIMEOUT_AT,
    "claim_token": wf.CLAIM,
    "claims": wf.CLAIMS,
    "crashes": wf.CRASHES,
    "failures": wf.FAILURES,
    "worker": wf.WORKER,
    "claim_log": wf.CLAIM_LOG,
    "started_at": wf.STARTED_AT,
    "finished_at": wf.FINISHED_AT,
    "result": wf.RESULT,
    "error": wf.ERROR,
    "start_at": wf.START_AT,
    "retries": wf.RETRIES,
    "controls": wf.CONTROLS,
    "failed_steps": wf.FAILED_STEPS,
    "reason": wf.REASON,
    "waiting_for": wf.WAITING_FOR,
    "mail": wf.MAIL,
    "unsettled": wf.UNSETTLED,
    "beats": wf.BEATS,
    "published": wf.PUBLISHED,
    "input": wf.INPUT,
    "generation": wf.GENERATION,
    "restarted_at": wf.RESTARTED_AT,
    "compensates": wf.COMPENSATES,
    "outcome": wf.OUTCOME,
    "stopped_at": wf.STOPPED_AT,
}
"""Where a document has the fields that a change may touch."""

_STORED: Mapping[type, Callable[[Any], Any]] = {
    Status: lambda status: status.value,
    tuple: lambda entries: [_stored_value(entry) for entry in entries],
    ErrorRecord: from_error,
    FailedStep: from_failed_step,
    ClaimEntry: from_claim_entry,
    Published: from_published,
}
"""How a document has what is neither a date nor a plain value."""


def update(moved: Change) -> Document:
    """The update that carries out a change."""
    operators = {
        operator: _stored(fields)
        for operator, fields in (
            ("$set", moved.set),
            ("$unset", dict.fromkeys(moved.clear, 1)),
            ("$inc", moved.add),
            ("$min", moved.at_most),
            ("$max", moved.at_least),
            ("$push", moved.append),
        )
        if fields
    }
    if moved.keep is not None:
        operators["$push"] = {
            field: {"$each": [entry], "$slice": -moved.keep}
            for field, entry in operators["$push"].items()
        }
    return operators


def _stored(fields: Mapping[str, Any]) -> Document:
    return {_FIELDS[name]: _stored_value(value) for name, value in fields.items()}


def _stored_value(value: Any) -> Any:
    return _STORED[type(value)](value) if type(value) in _STORED else value


def due(
    now: datetime,
    handlers: Collection[str] | None,
    statuses: Collection[Status] = machine.claimable(),
) -> Document:
    """Matches the workflows that may be claimed."""
    found = _in_any(statuses) | {wf.TIMEOUT_AT: {"$lte": now}}
    if handlers is not None:
        found[wf.HANDLER_ID] = {"$in": sorted(handlers)}
    return found


def due_between(after: datetime, until: datetime) -> Document:
    """Matches the unclaimed workflows that wait for an instant in this range."""
    return _in_any(machine.waiting()) | {wf.TIMEOUT_AT: {"$gt": after, "$lte": until}}


def never_due() -> list[Document]:
    """Match documents among the workflows that have no state or no due time."""
    claimable = _in_any(machine.claimable())
    return [
        {wf.STATUS: {"$nin": [status.value for status in Status]}},
        claimable | {wf.TIMEOUT_AT: {"$not": {"$gte": FIRST_DATE}}},
    ]


def still_due(statuses: Collection[str], workflow_ids: list[str], now: datetime) -> Document:
    """Matches the given workflows that may still be claimed and are in these states."""
    return {
        wf.WORKFLOW_ID: one_of(workflow_ids),
        wf.STATUS: {"$in": sorted(statuses)},
        wf.TIMEOUT_AT: {"$lte": now},
    }


def one_of(workflow_ids: Sequence[str]) -> Any:
    """Matches these ids; a single id as itself, from which a router knows the shard."""
    return workflow_ids[0] if len(workflow_ids) == 1 else {"$in": workflow_ids}


def still_new(workflow_ids: list[str], now: datetime) -> Document:
    """Matches the given workflows that are due and were never claimed."""
    new = {wf.CLAIMS: {"$in": [0, None]}}  # None matches a missing field, too
    return still_due({Status.IDLE.value}, workflow_ids, now) | new


def stamped(workflow_ids: list[str], token: str) -> Document:
    """Matches the given workflows that a claim has won."""
    return {wf.WORKFLOW_ID: {"$in": workflow_ids}, wf.CLAIM: token}


def stamped_now(token: str, now: datetime, lease: timedelta) -> Document:
    """Matches the workflows that a claim has just won, by the index of due workflows."""
    return {
        wf.STATUS: machine.target(Transition.CLAIM).value,
        wf.TIMEOUT_AT: now + lease,
        wf.CLAIM: token,
    }


def claim(
    token: str, request: ClaimRequest, *, crashed: bool, event: Transition = Transition.CLAIM
) -> Document:
    """Claims a workflow; `crashed` if it had a claim, so that a lease has run out."""
    return update(change.claim(token, request, crashed=crashed, event=event))


def in_force(claim: Claim) -> Document:
    """Matches a workflow while the claim may move it."""
    return {
        wf.WORKFLOW_ID: claim.workflow_id,
        wf.CLAIM: claim.token,
        wf.STATUS: claim.workflow.status.value,
    }


def was_stopped(claim: Claim) -> Document:
    """Matches a workflow that was stopped under a claim, if nothing has happened since."""
    return {
        wf.WORKFLOW_ID: claim.workflow_id,
        wf.CREATED_AT: claim.workflow.created_at,
        wf.STATUS: Status.STOPPING.value,
        wf.CLAIMS: claim.number,
        wf.CONTROLS: claim.workflow.controls + 1,
    }


def any_in_force(claims: Sequence[Claim]) -> Document:
    """Matches the workflows that these claims may move.

    Each token is matched only with the workflows of its own claims: the successor of a stale claim
    may have the token of another claim in the list.
    """
    by_token: dict[str, list[str]] = {}
    for claim in claims:
        by_token.setdefault(claim.token, []).append(claim.workflow_id)
    return {
        wf.WORKFLOW_ID: {"$in": [claim.workflow_id for claim in claims]},
        **_in_any(machine.held()),
        "$or": [
            {wf.CLAIM: token, wf.WORKFLOW_ID: {"$in": workflow_ids}}
            for token, workflow_ids in by_token.items()
        ],
    }


def renew(now: datetime, lease: timedelta) -> Document:
    """Starts a lease again, unless that would shorten it."""
    return update(change.renew(now, lease))


HELD: Document = {wf.WORKFLOW_ID: 1, wf.CLAIM: 1}
"""The fields that `lost` needs of the workflows that `any_in_force` matches."""


def lost(claims: Sequence[Claim], held: Iterable[Document]) -> list[Claim]:
    """The claims that are not in force, by the workflows that the others may move."""
    keys = {(found[wf.WORKFLOW_ID], found[wf.CLAIM]) for found in held}
    return [claim for claim in claims if claim.key not in keys]


def progress() -> Document:
    """Resets the count of crashes."""
    return update(change.progress())


def without_failed_step(claim: Claim, step_id: str) -> Document:
    """Matches a workflow while the claim may move it, and the step has not been given up."""
    return in_force(claim) | {f"{wf.FAILED_STEPS}.{STEP_ID}": {"$ne": step_id}}


def fail_step(failed: FailedStep) -> Document:
    """Records that a step is given up, which is progress too."""
    return update(change.fail_step(failed))


def publish(published: Sequence[Published]) -> Document:
    """Replaces what a workflow has published."""
    return update(change.publish(tuple(published)))


def wait(wake_up_at: datetime, names: Collection[str], mail: int, now: datetime) -> list[Document]:
    """Parks a workflow until a message comes if `mail` is still the count, else releases it."""
    parked = _stored(change.wait(wake_up_at, tuple(names)).set)
    released = _stored(change.release(now).set)
    is_same = {"$eq": [{"$ifNull": [f"${wf.MAIL}", 0]}, mail]}
    fields = {
        field: {
            "$cond": [
                is_same,
                {"$literal": value},
                {"$literal": released[field]} if field in released else "$$REMOVE",
            ]
        }
        for field, value in parked.items()
    }
    return [{"$set": fields}]


def of_generation(claim: Claim) -> Document:
    """Matches a workflow in the generation that it was claimed in.

    The JavaScript library may run the next one under the token of the claim that has ended the last
    one.
    """
    generation = claim.workflow.generation
    return {wf.GENERATION: generation or {"$in": [0, None]}}


def reachable(workflow_id: str, created_at: datetime | None) -> Document:
    """Matches a workflow that may still receive messages, and not a later one of the same id."""
    return {wf.WORKFLOW_ID: workflow_id, wf.CREATED_AT: created_at} | _REACHABLE


def reachable_awake(keys: Sequence[Any]) -> Document:
    """Matches those of these documents whose workflows may receive messages, and wait for none."""
    return {"_id": {"$in": keys}, wf.WAITING_FOR: {"$exists": False}} | _REACHABLE


def count(messages: int) -> Document:
    """Counts messages in a workflow that waits for none, for which `deliver` would do the same."""
    return update(change.deliver(messages))


def deliver(names: Sequence[str], now: datetime) -> list[Document]:
    """Counts messages of these names, and wakes the workflow if it waits for one of them."""
    awaited = {
        "$setIntersection": [{"$ifNull": [f"${wf.WAITING_FOR}", []]}, {"$literal": list(names)}]
    }
    statuses = [status.value for status in machine.sources(Transition.WAKE)]
    wakes = {"$and": [{"$in": [f"${wf.STATUS}", statuses]}, {"$ne": [awaited, []]}]}
    woken = _stored(change.wake(now, len(names)).at_most)[wf.TIMEOUT_AT]
    due_at = {"$min": [f"${wf.TIMEOUT_AT}", woken]}
    fields = {
        wf.MAIL: {"$add": [{"$ifNull": [f"${wf.MAIL}", 0]}, len(names)]},
        wf.TIMEOUT_AT: {"$cond": [wakes, due_at, f"${wf.TIMEOUT_AT}"]},
        wf.WAITING_FOR: {"$cond": [wakes, "$$REMOVE", f"${wf.WAITING_FOR}"]},
    }
    return [{"$set": fields}]


def settled_by(seen: Standing) -> Document:
    """Matches a workflow that has ended, as long as the end that was seen is its last one."""
    never = {"$in": [0, None]}  # None matches a missing field, too
    return _in_any(ENDED) | {
        wf.WORKFLOW_ID: seen.workflow_id,
        wf.CREATED_AT: seen.created_at,
        wf.CONTROLS: seen.controls or never,
        wf.UNSETTLED: True,
    }


def settle() -> Document:
    """Notes that the parent and the children have been seen to."""
    return update(change.settle())


def unsettled() -> Document:
    """Matches the workflows that have ended, and whose parent or children have to be seen to."""
    return _in_any(ENDED) | {wf.UNSETTLED: True}


def live_children(workflow_id: str, created_at: datetime | None) -> Document:
    """Matches the children that can be cancelled, and are to end with this parent."""
    live = machine.sources(Transition.CANCEL)
    parent = from_parent(Parent(workflow_id=workflow_id, created_at=created_at))
    return _in_any(live) | {f"{wf.PARENT}.{field}": value for field, value in parent.items()}


def control(
    event: Transition, now: datetime, reason: str | None
) -> list[tuple[Document, Document]]:
    """For each group of states from which a transition does the same: a filter and its update."""
    whole: Document = {}
    if event is not Transition.PAUSE:
        whole[wf.PRUNED_AT] = None
        if event is not Transition.CANCEL:  # the only one for a fork without all of its records
            whole[wf.FORKING] = None
    return [
        (_in_any(moved.sources) | _when(moved) | whole, update(moved))
        for moved in change.control(event, now, reason)
    ]


def _when(moved: Change) -> Document:
    """Matches the values that other fields must have; an empty one may be missing."""
    return {_FIELDS[name]: value or {"$in": [value, None]} for name, value in moved.when.items()}


def complete_fork(now: datetime) -> Document:
    """Lets a fork begin that has all of its records."""
    due = {wf.STATUS: machine.target(Transition.RESUME).value, wf.TIMEOUT_AT: now}
    return {"$set": due, "$unset": {wf.FORKING: 1}}


def _in_any(statuses: Collection[Status]) -> Document:
    return {wf.STATUS: {"$in": [status.value for status in statuses]}}


def taken_from(worker: str, since: datetime, until: datetime) -> Document:
    """Matches the workflows whose claim a worker lost because they were cancelled or paused.

    The JavaScript library may have moved that instant since: it does so with each workflow that it
    still runs.
    """
    meanwhile = {"$gte": since, "$lte": until}
    at_once = [status for status in machine.taking() if status is not Status.STOPPING]
    return {
        "$or": [
            _in_any(at_once) | {wf.TIMEOUT_AT: meanwhile, wf.WORKER: worker},
            # Still the end of the lease that was in force, or due at once: that spares the index
            # what has been due for long.
            _in_any([Status.STOPPING])
            | {wf.TIMEOUT_AT: {"$gte": since}, wf.STOPPED_AT: meanwhile, wf.WORKER: worker},
        ]
    }


def in_transaction() -> Document:
    """Counts a step that is committed in a transaction, which is progress too."""
    return {"$inc": {wf.TRANSACTIONS: 1}, "$unset": {wf.SESSION: 1}, **progress()}


def announce(session_id: Any) -> Document:
    """Names the session that may hold locks on a workflow's documents if its worker dies."""
    return {"$set": {wf.SESSION: session_id}}


def announced(workflow_id: str, session_id: Any) -> Document:
    """Matches a workflow that names this session, under any claim."""
    return {wf.WORKFLOW_ID: workflow_id, wf.SESSION: session_id}


RETRACT: Document = {"$unset": {wf.SESSION: 1}}
"""Removes the name of the session."""


def ended_before(instant: datetime, statuses: Collection[Status]) -> Document:
    """Matches the workflows that ended before an instant, in one of these states, and are settled.

    It also matches a marked workflow that `left_behind` no longer finds, since the JavaScript
    library still ran it and moved its instant.
    """
    return _in_any(statuses) | {
        wf.TIMEOUT_AT: {"$gt": _MARK, "$lt": instant},
        wf.UNSETTLED: {"$ne": True},
    }


def mark(now: datetime) -> Document:
    """Marks a workflow that has ended for deletion."""
    return {"$set": {wf.PRUNED_AT: now, wf.TIMEOUT_AT: _MARK}}


def discard(now: datetime) -> Document:
    """Marks a fork that never had all of its records for deletion, in any state."""
    cancelled: Document = {wf.STATUS: machine.target(Transition.CANCEL).value}
    return {"$set": mark(now)["$set"] | cancelled}


def marked() -> Document:
    """Matches the workflows that are marked for deletion."""
    return {wf.PRUNED_AT: {"$gte": FIRST_DATE}}


def left_behind() -> Document:
    """Matches the workflows that are marked for deletion by the index of due workflows."""
    return _in_any(ENDED) | {wf.TIMEOUT_AT: _MARK} | marked()
