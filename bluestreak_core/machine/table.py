"""The workflow state machine: one table, and pure decisions over it.

A workflow is created `idle`. An event moves it along one of the arrows in `TRANSITIONS`; an event
that has no arrow is refused, and a refusal changes nothing. States without arrows are listed with
empty rows, so the table is complete.

Guards stand before the table:

- `claim` needs a workflow that is *due*: `timeout_at` has come. That one instant is the due time of
  an `idle` or `failed` workflow and the end of the lease of a `running` one, so claiming a
  `running` workflow is taking over from a worker that died.
- `cancel`, `pause`, `resume` and `retry` come from outside and need nothing else. Each of them
  takes the claim from whoever has it; where it has no arrow, it raises `TransitionRefused`.
  A workflow that is marked for deletion has none.
- Every other event needs the *claim in force*: the workflow is `running` and the caller's claim is
  its newest. Anybody else's call is stale and raises `ClaimLost`.

    idle, failed, running --claim--> running --park, release--> idle
                                             --finish---------> finished
                                             --fail-----------> failed    (will be tried again)
                                             --abort----------> aborted   (will not)
    idle, failed, running --pause--> paused  --resume---------> idle
    idle, failed, running, paused    --cancel---------> cancelled
    aborted, cancelled               --retry----------> idle

An event may arrive twice, since a caller that got no answer has to ask again. `has_ended_by` tells
such a repeat from a stale call: the token stays on the record after its claim has ended, and when
the next claim replaces it, the claim log says whether that one took over. Where something was done
from outside since then, that may be what has ended the claim, and the call is stale. A repeat is
accepted and changes nothing.

The memory store applies the functions below to its records. The Mongo store turns `sources` and
`target` into filters and updates. The diagram in the documentation is drawn from the table.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta
from enum import StrEnum
from functools import cache
from typing import Any

from bluestreak_core.errors import ClaimLost, TransitionRefused
from bluestreak_core.model import (
    Attempt,
    Claim,
    ClaimEntry,
    ClaimRequest,
    FailedStep,
    Failure,
    NewWorkflow,
    Status,
    Workflow,
)

MAX_CLAIM_LOG = 20
"""A workflow's claim log keeps this many entries, the newest."""

PRUNED = "pruned"
"""What an ended workflow is said to be from when it was marked for deletion."""

FORKING = "forking"
"""What a fork is said to be until it has all the records that it begins with."""


class Transition(StrEnum):
    """What can happen to a workflow."""

    CLAIM = "claim"
    PARK = "park"
    RELEASE = "release"
    FINISH = "finish"
    FAIL = "fail"
    ABORT = "abort"
    CANCEL = "cancel"
    PAUSE = "pause"
    RESUME = "resume"
    RETRY = "retry"


TRANSITIONS: Mapping[Status, Mapping[Transition, Status]] = {
    Status.IDLE: {
        Transition.CLAIM: Status.RUNNING,
        Transition.PAUSE: Status.PAUSED,
        Transition.CANCEL: Status.CANCELLED,
    },
    Status.FAILED: {
        Transition.CLAIM: Status.RUNNING,
        Transition.PAUSE: Status.PAUSED,
        Transition.CANCEL: Status.CANCELLED,
    },
    Status.RUNNING: {
        Transition.CLAIM: Status.RUNNING,
        Transition.PARK: Status.IDLE,
        Transition.RELEASE: Status.IDLE,
        Transition.FINISH: Status.FINISHED,
        Transition.FAIL: Status.FAILED,
        Transition.ABORT: Status.ABORTED,
        Transition.PAUSE: Status.PAUSED,
        Transition.CANCEL: Status.CANCELLED,
    },
    Status.PAUSED: {
        Transition.RESUME: Status.IDLE,
        Transition.CANCEL: Status.CANCELLED,
    },
    Status.FINISHED: {},
    Status.ABORTED: {
        Transition.RETRY: Status.IDLE,
    },
    Status.CANCELLED: {
        Transition.RETRY: Status.IDLE,
    },
}

CONTROL = (Transition.CANCEL, Transition.PAUSE, Transition.RESUME, Transition.RETRY)
"""The events that come from outside, without a claim."""


@cache
def sources(event: Transition) -> tuple[Status, ...]:
    """The states in which an event is accepted."""
    return tuple(status for status, row in TRANSITIONS.items() if event in row)


@cache
def waiting() -> tuple[Status, ...]:
    """The states of a workflow that is nobody's, and will be claimed when it is due."""
    return tuple(status for status in sources(Transition.CLAIM) if status is not Status.RUNNING)


@cache
def target(event: Transition) -> Status:
    """The state that an event leads to, which is the same from each of its sources."""
    (status,) = {row[event] for row in TRANSITIONS.values() if event in row}
    return status


def failure_transition(failure: Failure) -> Transition:
    """`fail` while there is another try to come, else `abort`."""
    return Transition.ABORT if failure.retry_at is None else Transition.FAIL


def create(new: NewWorkflow) -> Workflow:
    """The record of a new workflow: idle, and due since it was created, or when it is to start."""
    return Workflow(
        workflow_id=new.workflow_id,
        handler_id=new.handler_id,
        input=new.input,
        status=Status.IDLE,
        timeout_at=new.start_at or new.created_at,
        created_at=new.created_at,
        start_at=new.start_at,
    )


def fork(
    workflow: Workflow, new_id: str, now: datetime, given_up: tuple[FailedStep, ...]
) -> Workflow:
    """The record of a workflow that begins with what another one had recorded by some point."""
    return Workflow(
        workflow_id=new_id,
        handler_id=workflow.handler_id,
        input=workflow.input,
        status=Status.IDLE,
        timeout_at=now,
        created_at=now,
        forked_from=workflow.workflow_id,
        failed_steps=given_up,
    )


def is_due(workflow: Workflow, now: datetime) -> bool:
    """Whether a workflow may be claimed now."""
    return workflow.status in sources(Transition.CLAIM) and workflow.timeout_at <= now


def claim(workflow: Workflow, token: str, request: ClaimRequest) -> Workflow:
    """A due workflow, claimed. A lease that expired on the way counts as a crash."""
    now = request.now
    if not is_due(workflow, now):
        raise TransitionRefused(workflow.workflow_id, workflow.status, Transition.CLAIM)
    crashed = workflow.status is Status.RUNNING
    entry = ClaimEntry(worker=request.worker, claimed_at=now, after_crash=crashed)
    return replace(
        workflow,
        status=target(Transition.CLAIM),
        timeout_at=now + request.lease,
        claim_token=token,
        claims=workflow.claims + 1,
        crashes=workflow.crashes + crashed,
        worker=request.worker,
        started_at=min(workflow.started_at or now, now),
        claim_log=(*workflow.claim_log, entry)[-MAX_CLAIM_LOG:],
    )


def is_first_run(workflow: Workflow) -> bool:
    """Whether a claimed workflow cannot have recorded anything yet.

    One that the JavaScript library created may have, whatever else it looks like: that one does not
    count its claims. So may one that was retried, which has its failures forgotten, and a fork,
    which begins with records.
    """
    if workflow.created_at is None or workflow.forked_from is not None or workflow.retries:
        return False
    return workflow.claims == 1 and workflow.failures == 0 and workflow.crashes == 0


def in_force(workflow: Workflow | None, claim: Claim) -> bool:
    """Whether a claim still is the one that may move the workflow.

    A failure since the claim has ended it, even if the JavaScript library, which leaves the token
    alone, runs the workflow again.
    """
    return (
        workflow is not None
        and workflow.status is Status.RUNNING
        and workflow.claim_token == claim.token
        and workflow.failures == claim.workflow.failures
    )


def is_of(claim: Claim, workflow: Workflow | None) -> bool:
    """Whether a claim was made on this very workflow, in force or not.

    It was not if the workflow has been deleted, and its id is that of another one by now.
    """
    return workflow is not None and workflow.created_at == claim.workflow.created_at


def has_ended_by(workflow: Workflow | None, claim: Claim, event: Transition) -> bool:
    """Whether this event of this claim was carried out before, so that the call is a repeat."""
    if workflow is None:
        return False
    if workflow.claim_token == claim.token:
        runs_again = workflow.failures > claim.workflow.failures and not workflow.status.ended
        return workflow.status is target(event) or (event is Transition.FAIL and runs_again)
    was_left_alone = workflow.controls == claim.workflow.controls
    can_go_on = Transition.CLAIM in TRANSITIONS[target(event)]
    return was_left_alone and can_go_on and _was_ended(workflow, claim)


def _was_ended(workflow: Workflow, claim: Claim) -> bool:
    """Whether the next claim found this one ended, and not its lease; the claim log tells."""
    later = workflow.claims - claim.number
    return 0 < later <= len(workflow.claim_log) and not workflow.claim_log[-later].after_crash


def lost(workflow: Workflow | None, claim: Claim) -> ClaimLost:
    """The error that tells a stale caller what became of its workflow."""
    if workflow is None:
        reason = "is void, the workflow has been deleted"
    elif workflow.claim_token == claim.token or _was_taken(workflow):
        reason = f"has ended, the workflow is {workflow.status.value!r}"
    elif workflow.claims > claim.number:
        reason = f"was superseded by claim {workflow.claims}"
    else:
        reason = "was superseded by a claim of another library"
    return ClaimLost(claim.workflow_id, claim.number, reason)


def _was_taken(workflow: Workflow) -> bool:
    """Whether nobody has a claim, since it was taken from outside."""
    return workflow.claim_token is None and workflow.status is not Status.RUNNING


def renew(workflow: Workflow, now: datetime, lease: timedelta) -> Workflow:
    """A claim in force, with a lease that starts again now, unless that would shorten it."""
    return replace(workflow, timeout_at=max(workflow.timeout_at, now + lease))


def progress(workflow: Workflow) -> Workflow:
    """A step or a nap was recorded under the claim in force: crashes are counted afresh."""
    return replace(workflow, crashes=0) if workflow.crashes else workflow


def park(workflow: Workflow, wake_up_at: datetime) -> Workflow:
    """The claim is given back until the nap ends."""
    return replace(workflow, status=target(Transition.PARK), timeout_at=wake_up_at)


def release(workflow: Workflow, now: datetime) -> Workflow:
    """The claim is given back, and the workflow is due at once."""
    return replace(workflow, status=target(Transition.RELEASE), timeout_at=now)


def finish(workflow: Workflow, result: Any, now: datetime) -> Workflow:
    """The handler returned."""
    return replace(
        workflow, status=target(Transition.FINISH), timeout_at=now, result=result, finished_at=now
    )


def fail(workflow: Workflow, failure: Failure, now: datetime) -> Workflow:
    """The handler raised: due again at the retry instant, or aborted where there is none."""
    return replace(
        workflow,
        status=target(failure_transition(failure)),
        timeout_at=failure.retry_at or now,
        failures=workflow.failures + 1,
        finished_at=now if failure.retry_at is None else None,
        error=failure.error,
    )


def fail_step(workflow: Workflow, failed: FailedStep) -> Workflow:
    """A step was given up under the claim in force, which is progress too."""
    return replace(progress(workflow), failed_steps=(*workflow.failed_steps, failed))


def latest_attempts(attempts: Iterable[Attempt], round: int) -> dict[str, Attempt]:
    """By step id, the latest failed attempt of a round."""
    ordered = sorted(attempts, key=lambda attempt: attempt.number)
    return {attempt.step_id: attempt for attempt in ordered if attempt.round == round}


def control(workflow: Workflow, event: Transition, now: datetime, reason: str | None) -> Workflow:
    """A workflow that somebody cancels, pauses, resumes or retries, whoever has a claim on it."""
    if event not in CONTROL or event not in TRANSITIONS[workflow.status]:
        raise TransitionRefused(workflow.workflow_id, workflow.status, event)
    if workflow.pruned_at is not None:
        raise TransitionRefused(workflow.workflow_id, PRUNED, event)
    moved = replace(
        workflow, status=target(event), claim_token=None, controls=workflow.controls + 1
    )
    match event:
        case Transition.CANCEL:
            return replace(moved, timeout_at=now, finished_at=now, reason=reason)
        case Transition.RETRY:
            return replace(
                moved,
                timeout_at=now,
                start_at=now,
                retries=workflow.retries + 1,
                failures=0,
                crashes=0,
                failed_steps=(),
                finished_at=None,
                error=None,
                reason=None,
            )
        case Transition.PAUSE if workflow.status is Status.RUNNING:
            # Somebody has claimed it, though the JavaScript library does not count that.
            return replace(moved, timeout_at=now, claims=max(workflow.claims, 1))
    return moved


def retry_at(
    workflow: Workflow, now: datetime, wait: timedelta, max_failures: int | None
) -> datetime | None:
    """When a workflow that just failed is tried again; None where it has used up its retries."""
    if max_failures is not None and workflow.failures + 1 > max_failures:
        return None
    return now + wait


def deadline_at(workflow: Workflow, deadline: timedelta | None) -> datetime | None:
    """When a workflow is given up, so long after it was to start; a JavaScript one, was claimed."""
    if deadline is None:
        return None
    start_at = workflow.start_at or workflow.created_at or workflow.started_at
    return None if start_at is None else start_at + deadline


def crashed_too_often(workflow: Workflow, max_crashes: int | None) -> bool:
    """Whether a claimed workflow has taken down more workers in a row than it may."""
    return max_crashes is not None and workflow.crashes > max_crashes


def is_suspect(workflow: Workflow, max_crashes: int | None) -> bool:
    """Whether a claimed workflow may well be what takes down the workers.

    Each crash counts for all that ran in the process, and most of those only stood beside. One that
    has used up more than half of `max_crashes` is to show by itself which of them it is.
    """
    return max_crashes is not None and max_crashes // 2 < workflow.crashes <= max_crashes
