"""What a change depends on: questions about a workflow, a claim or an end, each a pure function."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from bluestreak_core.errors import ClaimLost
from bluestreak_core.machine import change
from bluestreak_core.machine.table import CLAIMS, TRANSITIONS, Transition, claimable, held, target
from bluestreak_core.model import Claim, Parent, Standing, Status, Workflow


def is_due(workflow: Workflow, now: datetime) -> bool:
    """Whether a workflow may be claimed now."""
    return workflow.status in claimable() and workflow.timeout_at <= now


def guard(claim: Claim) -> dict[str, Any]:
    """`in_force` as a condition: what a workflow has, by field, while the claim may move it."""
    return {
        "status": claim.workflow.status,
        "claim_token": claim.token,
        "failures": claim.workflow.failures,
    }


def in_force(workflow: Workflow | None, claim: Claim) -> bool:
    """Whether a claim may still move the workflow.

    A failure since the claim has ended it. The JavaScript library leaves the token alone, even when
    it runs the workflow again.
    """
    return (
        workflow is not None
        and workflow.status is claim.workflow.status
        and workflow.status in held()
        and workflow.claim_token == claim.token
        and workflow.failures == claim.workflow.failures
    )


def is_of(claim: Claim, workflow: Workflow | None) -> bool:
    """Whether a claim was made on this very workflow in its present generation, in force or not.

    It was not if its workflow has been deleted, and the id now belongs to another one, or if its
    workflow has restarted since.
    """
    return (
        workflow is not None
        and workflow.created_at == claim.workflow.created_at
        and workflow.generation == claim.workflow.generation
    )


def is_first_run(workflow: Workflow) -> bool:
    """Whether a claimed workflow cannot have recorded anything yet.

    A workflow that the JavaScript library created may have records whatever else it looks like,
    since that library does not count its claims. So may a retried one, whose failures are
    forgotten, and a fork, which begins with records.
    """
    if workflow.created_at is None or workflow.forked_from is not None or workflow.retries:
        return False
    return workflow.claims == 1 and workflow.failures == 0 and workflow.crashes == 0


def has_ended_by(workflow: Workflow | None, claim: Claim, event: Transition | None) -> bool:
    """Whether this claim has ended by this transition before, so that the call is a repeat."""
    if workflow is None or event is None:
        return False
    if workflow.claim_token == claim.token:
        runs_again = workflow.failures > claim.workflow.failures and not workflow.status.ended
        return workflow.status is target(event) or (event is Transition.FAIL and runs_again)
    was_left_alone = workflow.controls == claim.workflow.controls
    can_go_on = not TRANSITIONS[target(event)].keys().isdisjoint(CLAIMS)
    return was_left_alone and can_go_on and _was_given_back(workflow, claim)


def is_noted(workflow: Workflow | None, noted: change.Change) -> bool:
    """Whether a change that leaves its claim in force, and only sets fields, has been made."""
    return (
        workflow is not None
        and noted.event is None
        and all(getattr(workflow, name) == value for name, value in noted.set.items())
    )


def was_taken(workflow: Workflow | None, claim: Claim) -> bool:
    """Whether a `stop` or a `pause` has taken this claim, so that its run has to hand over.

    Nothing else has happened to the workflow since, but that a `stop` may have followed the pause.
    """
    return (
        workflow is not None
        and is_of(claim, workflow)
        and workflow.status in (Status.PAUSED, Status.STOPPING)
        and workflow.compensates
        and workflow.claims == claim.number
        and workflow.controls in controls_of_taking(claim)
    )


def controls_of_taking(claim: Claim) -> tuple[int, int]:
    """What `controls` may count after a pause or a stop, or both, since this claim."""
    return claim.workflow.controls + 1, claim.workflow.controls + 2


def _was_given_back(workflow: Workflow, claim: Claim) -> bool:
    """Whether the next claim found no lease of this one, by the claim log."""
    later = workflow.claims - claim.number
    return 0 < later <= len(workflow.claim_log) and not workflow.claim_log[-later].after_crash


def is_settled_by(workflow: Workflow | Standing | None, seen: Standing) -> bool:
    """Whether `change.settle` may follow what was seen of a workflow: it is the same end still."""
    return (
        workflow is not None
        and workflow.status.ended
        and workflow.created_at == seen.created_at
        and workflow.controls == seen.controls
    )


def is_parent(parent: Parent, workflow: Standing | Workflow | None) -> bool:
    """Whether a workflow is the parent that is meant, and not a later one of the same id."""
    return (
        workflow is not None
        and workflow.workflow_id == parent.workflow_id
        and workflow.created_at == parent.created_at
    )


def lost(workflow: Workflow | None, claim: Claim) -> ClaimLost:
    """The error for a stale caller, with what became of its workflow."""
    if workflow is None:
        reason = "is void, the workflow has been deleted"
    elif workflow.claim_token == claim.token or _is_held_by_nobody(workflow):
        reason = f"has ended, the workflow is {workflow.status.value!r}"
    elif workflow.claims > claim.number:
        reason = f"was superseded by claim {workflow.claims}"
    else:
        reason = "was superseded by a claim of another library"
    return ClaimLost(claim.workflow_id, claim.number, reason)


def _is_held_by_nobody(workflow: Workflow) -> bool:
    """Whether nobody holds a claim because a transition from outside took it."""
    return workflow.claim_token is None and workflow.status not in held()
