"""The invariants that are checked at the store, for each call that it carries out.

One function for each, under the name that docs/reliability.md gives it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from bluestreak_core import (
    Attempt,
    Claim,
    ErrorRecord,
    Failure,
    Status,
    Workflow,
    machine,
)
from bluestreak_core.machine import Transition
from tests.simulation.record import Record
from tests.simulation.scenario import LEASE

_ROUNDING = timedelta(milliseconds=2)
_KNOWN_WITHIN = timedelta(seconds=LEASE)
"""After which the owner of a claim that was taken knows it, whatever happens."""


def ids_are_new_once(record: Record, workflow_id: str) -> None:
    """A workflow is created, by a start or a fork, where there was none of its id."""
    if workflow_id in record.created:
        record.violated(f"{workflow_id} was created twice")


def transactions_are_isolated(
    record: Record, workflow_id: str, before: object, after: object
) -> None:
    """What others see of a workflow and its mail does not change before the commit."""
    if after != before:
        record.violated(f"{workflow_id} was changed before its transaction was through")


def transactions_see_their_own_writes(
    record: Record, session: Any, workflow_id: str, found: Workflow | None
) -> None:
    """What a transaction has created is there for it."""
    if found is None and workflow_id in record.written[session]:
        record.violated(f"{workflow_id} is not there for the transaction that has created it")


def nothing_is_claimed_before_it_is_due(
    record: Record, before: Workflow, claim: Claim, now: datetime
) -> None:
    """A claim comes when the lease, the nap, the pause or the delay before it is over."""
    is_left_alone = not record.orders[claim.workflow_id]
    begins_later = record.begins.get(claim.workflow_id, now) > now
    if before.timeout_at > now or (begins_later and is_left_alone):
        record.violated(f"{claim.workflow_id} was claimed before it was due")


def moves_follow_the_table(
    record: Record,
    workflow_id: str,
    event: Transition,
    before: Workflow | None,
    after: Status | None,
) -> None:
    """Nothing moves a workflow along an arrow that the state machine does not have."""
    if before is None or machine.TRANSITIONS[before.status].get(event) is not after:
        record.violated(f"{workflow_id} was moved by {event} to {after} from {before}")


def ends_are_final(record: Record, event: str, before: Workflow, after: Workflow | None) -> None:
    """What has ended is left by no owner."""
    if before.status.ended and after != before:
        record.violated(f"{before.workflow_id} was changed by {event} though {before.status}")


def refusals_change_nothing(
    record: Record, workflow_id: str, event: str, before: Workflow | None, after: Workflow | None
) -> None:
    """A workflow is what it was before a call that was refused."""
    if after != before:
        record.violated(f"{workflow_id} was changed by {event} though it was refused")


def only_owners_move_a_workflow(
    record: Record, claim: Claim, event: str, before: Workflow, after: Workflow | None
) -> None:
    """A claim that another one has superseded changes nothing."""
    if not record.is_newest(claim) and after != before:
        record.violated(f"{claim.workflow_id} was changed by {event} by an owner of before")


def only_owners_renew_a_lease(record: Record, claim: Claim) -> None:
    """A claim that another one has superseded, or that was taken, is not renewed."""
    if not record.is_newest(claim):
        record.violated(f"{claim.workflow_id}: claim {claim.number} was renewed after another")
    if claim.key in record.taken:
        record.violated(f"{claim.workflow_id}: claim {claim.number} was renewed though taken")


def only_owners_call_a_step(record: Record, claim: Claim, step_id: str) -> None:
    """No step is called under a claim that another one has superseded.

    An owner whose claim was taken from outside need not know it yet.
    """
    taken_at = record.taken.get(claim.key)
    may_not_know = taken_at is not None and record.clock.now() < taken_at + _KNOWN_WITHIN
    if not record.is_newest(claim) and not may_not_know:
        called = f"called step {step_id} after another claim"
        record.violated(f"{claim.workflow_id}: claim {claim.number} {called}")


def taken_claims_write_nothing(
    record: Record, claim: Claim, event: str, before: Workflow, after: Workflow | None
) -> None:
    """A claim that was taken from outside changes its workflow no more."""
    if claim.key in record.taken and after != before:
        record.violated(f"{claim.workflow_id} was changed by {event} by an owner that was relieved")


def steps_have_one_output(record: Record, workflow_id: str, what: str, stored: Any) -> None:
    """What is recorded first is what every later call of the store returns."""
    first = record.outputs.setdefault((workflow_id, what), stored)
    if stored != first:
        record.violated(f"{workflow_id} {what} is {stored}, but was {first}")


def policies_give_up_at_once(record: Record, attempt: Attempt) -> None:
    """What a policy gives up on is not tried again."""
    if attempt.error.type == "PermissionError" and attempt.retry_at is not None:
        record.violated(f"{attempt.workflow_id} is to call step {attempt.step_id} again")


def aborts_are_no_attempts(record: Record, attempt: Attempt) -> None:
    """An `Abort` in a step with a policy is no failed attempt."""
    if _is_abort(attempt.error):
        record.violated(f"{attempt.workflow_id}: {attempt.step_id} has aborted, and is tried again")


def aborts_are_not_retried(record: Record, claim: Claim, failure: Failure) -> None:
    """A workflow that aborts is not tried again."""
    if failure.retry_at is not None and _is_abort(failure.error):
        record.violated(f"{claim.workflow_id} has aborted, and is to be tried again")


def pauses_follow_their_backoff(
    record: Record, claim: Claim, failure: Failure, now: datetime
) -> None:
    """Where nothing goes wrong, the pause after a failure is as long as its `Backoff` says."""
    if failure.retry_at is None or record.backoff is None or not record.scenario.is_healthy:
        return
    due_at = now + record.backoff.delay(claim.workflow.failures + 1)
    due_at = min(due_at, record.deadline_at(claim.workflow) or due_at)
    if abs(failure.retry_at - due_at) > _ROUNDING:
        record.violated(f"{claim.workflow_id} is due at {failure.retry_at}, not at {due_at}")


def forks_have_what_was_recorded(
    record: Record, workflow_id: str, new_id: str, before: str | None, copies: Mapping[str, Any]
) -> None:
    """A fork has all that the other workflow had recorded, or what came before a step."""
    theirs = {what: v for (owner, what), v in record.outputs.items() if owner == workflow_id}
    expected = theirs if before is None else {what: theirs.get(what) for what in copies}
    if copies != {what: v for what, v in expected.items() if not what.startswith("attempt")}:
        record.violated(f"{new_id} was forked with {copies}, {workflow_id} had {theirs}")
    if f"step {before}" in copies:
        record.violated(f"{new_id} was forked before {before}, and has it")


def expiry_waits_long_enough(record: Record, workflow: Workflow, now: datetime) -> None:
    """What is deleted had ended, long enough before."""
    ended_at = workflow.finished_at
    if ended_at is None or now - ended_at < record.kept_for:
        record.violated(f"{workflow.workflow_id} was deleted, and ended at {ended_at}")


def _is_abort(error: ErrorRecord) -> bool:
    return error.type.rpartition(".")[2] == "Abort"
