"""The invariants of compensations.

One function for each, under the name that docs/reliability.md gives it.
"""

from __future__ import annotations

from datetime import timedelta

from bluestreak_core import Claim, Status, Workflow
from bluestreak_core.testing.virtual.process import ProcessState
from tests.simulation.record import Record

# In handlers -------------------------------------------------------------------------------------


def compensations_follow_an_end(record: Record, claim: Claim, step_id: str) -> None:
    """A compensation is called where the workflow is to end as aborted or cancelled."""
    workflow = claim.workflow
    if workflow.status is not Status.COMPENSATING or workflow.outcome is None:
        record.violated(
            f"{claim.workflow_id}: compensation {step_id} was called though claim {claim.number} "
            f"is not for that"
        )


def compensations_are_called_once(
    record: Record, claim: Claim, step_id: str, *, is_recorded: bool
) -> None:
    """A compensation that has succeeded is not called again in its run, and once it is recorded
    in no other.
    """
    if is_recorded or step_id in record.compensated[claim.key]:
        record.violated(f"{claim.workflow_id}: compensation {step_id} was called again")


def compensations_come_in_reverse(record: Record, claim: Claim, step_id: str) -> None:
    """The compensation that was registered last is called first."""
    registered, after = record.registered[claim.key], record.compensated[claim.key][-1:]
    if after and registered.index(after[0]) < registered.index(step_id):
        record.violated(f"{claim.workflow_id}: compensation {step_id} was called after {after[0]}")


def nothing_runs_beside_compensations(record: Record, claim: Claim, step_id: str) -> None:
    """No step of a workflow is under way when it compensates, unless its run has lost its lease."""
    for call in record.under_way:
        is_alive = call.process is None or call.process.state is ProcessState.RUNNING
        lease = record.leases.get(call.claim.key)
        is_held = lease is not None and lease.left > timedelta(0)
        if call.claim.workflow_id == claim.workflow_id and is_alive and is_held:
            record.violated(
                f"{claim.workflow_id}: compensation {step_id} was called beside {call.step_id}"
            )


# At the store ------------------------------------------------------------------------------------


def ends_are_as_decided(record: Record, before: Workflow, after: Workflow | None) -> None:
    """A workflow that has compensated ends as it was to end when it was stopped."""
    decided = record.decided.get(before.workflow_id)
    if before.status is Status.COMPENSATING and (after is None or after.status is not decided):
        status = "gone" if after is None else after.status
        record.violated(f"{before.workflow_id} is {status}, and was to be {decided}")


# At the end --------------------------------------------------------------------------------------


def compensations_are_recorded(record: Record, workflow: Workflow) -> None:
    """What a workflow had registered when it was aborted or cancelled is done or given up."""
    workflow_id = workflow.workflow_id
    if workflow.status not in (Status.ABORTED, Status.CANCELLED):
        return
    for of, step_id in sorted(record.due):
        is_done = (workflow_id, f"step {step_id}") in record.outputs
        is_given_up = (workflow_id, step_id) in record.given_up
        if of == workflow_id and not (is_done or is_given_up):
            record.violated(f"{workflow_id}: compensation {step_id} was not done")


def finished_workflows_are_not_compensated(record: Record, workflow: Workflow) -> None:
    """No compensation was called of a workflow that has finished."""
    if workflow.status is Status.FINISHED and workflow.workflow_id in record.undone:
        record.violated(f"{workflow.workflow_id} was compensated, and has finished")
