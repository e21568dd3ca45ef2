"""What is due, and what a claim may move."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Sequence
from datetime import datetime, timedelta
from typing import Any

from bluestreak_core import machine
from bluestreak_core.machine import Transition, change
from bluestreak_core.model import (
    Claim,
    ClaimRequest,
    Status,
)
from bluestreak_mongo.schema import FIRST_DATE, Document
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.transitions.updating import in_any, or_missing, update


def due(
    now: datetime,
    handlers: Collection[str] | None,
    statuses: Collection[Status] = machine.claimable(),
) -> Document:
    """Matches the workflows that may be claimed."""
    found = in_any(statuses) | {wf.TIMEOUT_AT: {"$lte": now}}
    if handlers is not None:
        found[wf.HANDLER_ID] = {"$in": sorted(handlers)}
    return found


def due_between(after: datetime, until: datetime) -> Document:
    """Matches the unclaimed workflows that wait for an instant in this range."""
    return in_any(machine.waiting()) | {wf.TIMEOUT_AT: {"$gt": after, "$lte": until}}


def never_due() -> list[Document]:
    """Match documents among the workflows that have no state or no due time."""
    claimable = in_any(machine.claimable())
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
    return still_due({Status.IDLE.value}, workflow_ids, now) | {wf.CLAIMS: or_missing(0)}


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


def hand_over(claim: Claim, now: datetime) -> list[tuple[Document, Document]]:
    """For each state in which a claim may have been taken: a filter and its update.

    The stop, which may follow the pause between two updates, comes last.
    """
    taken = {
        wf.WORKFLOW_ID: claim.workflow_id,
        wf.CREATED_AT: claim.workflow.created_at,
        wf.COMPENSATES: True,
        wf.CLAIMS: claim.number,
        wf.CONTROLS: {"$in": list(machine.controls_of_taking(claim))},
    }
    return [(taken | in_any(moved.sources), update(moved)) for moved in change.hand_over(now)]


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
        **in_any(machine.held()),
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


def taken_from(worker: str, since: datetime, until: datetime) -> Document:
    """Matches the workflows whose claim a worker lost because they were cancelled or paused.

    The JavaScript library may have moved that instant since: it does so with each workflow that it
    still runs.
    """
    meanwhile = {"$gte": since, "$lte": until}
    at_once = [status for status in machine.taking() if status is not Status.STOPPING]
    return {
        "$or": [
            in_any(at_once) | {wf.TIMEOUT_AT: meanwhile, wf.WORKER: worker},
            # Still the end of the lease that was in force, or due at once: that spares the index
            # what has been due for long.
            in_any([Status.STOPPING])
            | {wf.TIMEOUT_AT: {"$gte": since}, wf.STOPPED_AT: meanwhile, wf.WORKER: worker},
        ]
    }
