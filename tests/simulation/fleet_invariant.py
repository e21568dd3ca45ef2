"""The invariants of what handlers, clients and workers see, and of what is left at the end.

One function for each, under the name that docs/reliability.md gives it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any

from bluestreak_core import Claim, Status, Workflow, machine
from bluestreak_core.machine import Transition
from bluestreak_core.run import RunInfo
from tests.simulation.record import Record
from tests.simulation.scenario import CALM_AFTER, Kind, Operation, Start, flat

ROLLED_BACK = "rolled back"
"""The reason of cancellations that must not come about."""

_ROUNDING = 0.002
_PUNCTUAL = timedelta(seconds=2)

_TOLD_WITHIN = 1.0
"""Seconds after which a worker knows that a claim was taken, if the store answers at once."""

_MESSAGES = 7
"""How many may be under way one after the other until then, from the claim on."""

_TIME_TO_EXPIRE = timedelta(minutes=5)
"""By how much later than it might a worker deletes what has ended."""

# Starting ----------------------------------------------------------------------------------------


def ids_are_new_once_in_a_batch(record: Record, workflow_id: str, again: bool) -> None:
    """The second start of an id in one `start_many` is not new."""
    if again:
        record.violated(f"{workflow_id} was new twice in one start_many")


def strict_starts_refuse_another_input(record: Record, workflow_id: str) -> None:
    """A strict start of an id that has another input does not return."""
    record.violated(f"{workflow_id} was started with another input")


def transactions_are_whole(record: Record, start: Start, *, is_first: bool, commits: bool) -> None:
    """A start happens if its transaction is committed, and what was written with it does too."""
    workflow_id = start.workflow_id
    is_there = workflow_id in record.created
    if is_first and is_there is not commits:
        record.violated(f"{workflow_id} is there: {is_there}, and committed: {commits}")
    if (workflow_id in record.placed) is not is_there:
        record.violated(f"{workflow_id} is there: {is_there}, but not what belongs to it")


# Running -----------------------------------------------------------------------------------------


def leases_end_before_their_records(
    record: Record, run: RunInfo, workflow: Workflow | None
) -> None:
    """No lease is left to a run after the store lets others claim its workflow.

    Both are read by the clock of the run's worker. The store refuses a claim that is not in force,
    whatever its run takes for its lease.
    """
    if workflow is None or workflow.timeout_at is None or not machine.in_force(workflow, run.claim):
        return
    late = run.lease.left - (workflow.timeout_at - run.clock.now())
    if late > timedelta(seconds=_ROUNDING):
        record.violated(f"{workflow.workflow_id}: a lease outlives its record by {late}")


def steps_wait_for_their_pause(record: Record, claim: Claim, step_id: str) -> None:
    """An owner calls no step before the pause after its failed attempt is over."""
    # What a stale run records after the history was read, this one cannot know.
    latest = record.known.get(claim.key, {}).get(step_id)
    if not record.has_one_time or not record.is_newest(claim) or latest is None:
        return
    is_of_this_round = latest.round == claim.workflow.retries
    is_early = latest.retry_at is not None and latest.retry_at > record.clock.now()
    if is_of_this_round and is_early:
        record.violated(f"{claim.workflow_id} called step {step_id} before its pause was over")


def steps_given_up_are_not_called(record: Record, claim: Claim, step_id: str) -> None:
    """An owner does not call a step again that was given up."""
    is_owner = record.has_one_time and record.is_newest(claim)
    if is_owner and (claim.workflow_id, step_id) in record.given_up:
        record.violated(f"{claim.workflow_id} called step {step_id}, which was given up")


def time_limits_cut_steps(record: Record, output: str) -> None:
    """A step does not go on after its time limit."""
    record.violated(f"{output} was not cut")


def lost_runs_record_nothing(record: Record, claim: Claim, step_id: str) -> None:
    """A run that knows that its claim is lost records nothing more."""
    lease = record.leases.get(claim.key)
    if lease is not None and lease.loss is not None:
        record.violated(f"{claim.workflow_id}: step {step_id} was sent after the loss")


def losses_are_known_soon(record: Record, claim: Claim) -> None:
    """Where nothing goes wrong, a run soon knows that its claim was taken from outside."""
    taken_at = record.taken.get(claim.key)
    if taken_at is None or not record.scenario.is_healthy:
        return
    within = timedelta(seconds=_TOLD_WITHIN + _MESSAGES * record.scenario.latency)
    if (late := record.clock.now() - taken_at) > within:
        record.violated(f"{claim.workflow_id}: claim {claim.number} was told {late} late")


def naps_end_in_time(record: Record, claim: Claim, nap_id: str) -> None:
    """No nap ends early, but in a replay to compensate, which allows for clocks that differ."""
    workflow_id = claim.workflow_id
    if claim.workflow.status is Status.COMPENSATING:
        return
    if not record.is_present(claim):
        return
    if record.is_still_to_come(record.outputs[workflow_id, f"nap {nap_id}"]):
        record.violated(f"{workflow_id} woke from nap {nap_id} early")


def handlers_see_the_stored_output(
    record: Record, workflow_id: str, step_id: str, output: Any
) -> None:
    """What a step returns to its handler is what is stored."""
    stored = record.outputs.get((workflow_id, f"step {step_id}"))
    if output != stored:
        record.violated(f"{workflow_id} got {output} for step {step_id}: {stored}")


def clients_see_the_stored_outputs(record: Record, workflow_id: str, result: Any) -> None:
    """The result that a client waits for is made of the outputs that are stored."""
    expected = [
        _expected(record, workflow_id, operation) for operation in record.plans[workflow_id]
    ]
    if result != expected:
        record.violated(f"{workflow_id} returned {result}, recorded is {expected}")


def _expected(record: Record, workflow_id: str, operation: Operation) -> Any:
    match operation.kind:
        case Kind.GATHER:
            branches = operation.branches
            expected: Any = [_expected(record, workflow_id, branch) for branch in branches]
        case Kind.NAP | Kind.COMPENSATION | Kind.RESTART | Kind.PUBLISH:
            expected = operation.id
        case Kind.GIVEN_UP:
            expected = operation.given_up(operation.failures + 1)
        case Kind.REFUSED | Kind.UNEXPECTED:
            expected = f"{operation.id} given up for PermissionError"
        case Kind.RECEIVE | Kind.RECEIVE_ANY:
            expected = record.received_by(workflow_id, operation)
        case Kind.ABORT:
            expected = "nothing, since it aborts"
        case _:
            expected = _recorded(record, workflow_id, operation)
    return expected


def _recorded(record: Record, workflow_id: str, operation: Operation) -> Any:
    """What is known of an operation by its id alone."""
    key = (workflow_id, operation.id)
    stored = record.outputs.get((workflow_id, f"step {operation.id}"))
    match operation.kind:
        case Kind.CHILD | Kind.STARTED_CHILD:
            return _of_child(record, workflow_id, operation)
        case Kind.ONCE:
            return f"{operation.id} given up" if key in record.given_up else stored
        case Kind.MAP | Kind.PARALLEL | Kind.RACE:
            return record.decisions.get(key)
        case Kind.CALLBACK:
            return record.answers.get(key)
        case _:
            return stored


def _of_child(record: Record, workflow_id: str, operation: Operation) -> Any:
    if operation.kind is Kind.STARTED_CHILD and not operation.is_awaited:
        return operation.id
    step_id = operation.result_id
    is_given_up = (workflow_id, step_id) in record.given_up
    stored = record.outputs.get((workflow_id, f"step {step_id}"))
    return operation.child_failed if is_given_up else stored


def handlers_begin_before_their_deadline(record: Record, claim: Claim) -> None:
    """Where nothing goes wrong, no handler begins when its time is over, but to compensate."""
    deadline_at = record.deadline_at(claim.workflow)
    is_over = deadline_at is not None and record.clock.now() > deadline_at
    if claim.workflow.status is Status.COMPENSATING:
        return
    if is_over and record.scenario.is_healthy:
        record.violated(f"{claim.workflow_id} ran though its deadline was {deadline_at}")


# Workers -----------------------------------------------------------------------------------------


def slots_are_released(record: Record, worker: str, runs: int) -> None:
    """A worker holds no slot when everything has ended."""
    if runs:
        record.violated(f"{worker} has leaked a slot")


def workers_stop_well(
    record: Record, worker: str, *, error: BaseException | None, runs: int, late: float | None
) -> None:
    """`poll` ends without an error, with nothing left that runs, and in time."""
    if error is not None:
        record.violated(f"poll raised {error!r}")
    if runs:
        record.violated("poll returned though something ran")
    if late is not None:
        record.violated(f"{worker} took {late} s to stop")


# At the end --------------------------------------------------------------------------------------


def accepted_workflows_end(record: Record, workflow_id: str, workflow: Workflow | None) -> None:
    """What was accepted has finished, or was cancelled, given up or deleted as it was to be."""
    status = workflow.status if workflow else "gone"
    orders = [event for _, event in record.orders[workflow_id]]
    is_wanted = status is Status.CANCELLED and orders[-1:] == [Transition.CANCEL]
    is_expired = workflow is None and workflow_id in record.expired
    is_late = workflow is not None and _is_given_up_late(record, workflow)
    is_aborted = workflow is not None and _has_aborted(record, workflow)
    if status is not Status.FINISHED and not (is_wanted or is_expired or is_late or is_aborted):
        error = workflow.error if workflow else None
        what = f": {error.type}: {error.message}" if error else ""
        record.violated(f"{workflow_id} was accepted, and is {status}{what}")


def _is_given_up_late(record: Record, workflow: Workflow) -> bool:
    """Whether it is aborted because of its deadline, and not before that."""
    deadline_at, ended_at = record.deadline_at(workflow), _decided_at(workflow)
    if workflow.status is not Status.ABORTED or deadline_at is None or ended_at is None:
        return False
    is_so = workflow.error is not None and workflow.error.type.endswith("DeadlineExceeded")
    is_early = ended_at + timedelta(seconds=_ROUNDING) < deadline_at
    return is_so and (not is_early or not record.has_one_time)


def _decided_at(workflow: Workflow) -> datetime | None:
    """When its end was decided: before its compensations, if there were any."""
    return workflow.stopped_at or workflow.finished_at


def _has_aborted(record: Record, workflow: Workflow) -> bool:
    """Whether it is aborted as its plan has it."""
    is_planned = any(
        operation.kind is Kind.ABORT for operation in record.plans[workflow.workflow_id]
    )
    error = workflow.error if workflow.status is Status.ABORTED else None
    return is_planned and error is not None and error.type.endswith("Abort")


def cancellations_are_rolled_back(record: Record, workflow: Workflow) -> None:
    """A cancellation has not happened where its transaction was rolled back."""
    if workflow.reason == ROLLED_BACK:
        record.violated(f"{workflow.workflow_id} was cancelled, and that was rolled back")


def deadlines_are_met(record: Record, workflow: Workflow) -> None:
    """Where nothing goes wrong, what is left alone ends by its deadline."""
    workflow_id, ended_at = workflow.workflow_id, _decided_at(workflow)
    deadline_at = record.deadline_at(workflow)
    if ended_at is None or deadline_at is None or not record.scenario.is_healthy:
        return
    is_left_alone = record.has_slot_for_all and not record.orders[workflow_id]
    if is_left_alone and ended_at > deadline_at + _PUNCTUAL:
        record.violated(f"{workflow_id} ended {ended_at}, its deadline: {deadline_at}")


def expiry_comes_in_time(record: Record, workflow: Workflow) -> None:
    """Where nothing goes wrong, what has ended is deleted in time."""
    ended_at, after = workflow.finished_at, record.scenario.expire_after
    if ended_at is None or after is None or not record.scenario.is_healthy:
        return
    if record.clock.now() > ended_at + timedelta(seconds=after) + _TIME_TO_EXPIRE:
        record.violated(f"{workflow.workflow_id} ended {ended_at}, and is still there")


def transactions_are_done_once(record: Record) -> None:
    """What a transaction does is done once if its step is recorded, and else not at all."""
    for workflow_id in sorted(record.accepted):
        for operation in flat(record.plans[workflow_id]):
            if operation.kind is not Kind.TRANSACTION:
                continue
            is_recorded = (workflow_id, f"step {operation.id}") in (
                record.outputs.keys() - record.copied
            )
            done = record.ledger.get((workflow_id, operation.id), 0)
            if done != is_recorded:
                record.violated(
                    f"{workflow_id} did {operation.id} {done} times, recorded: {is_recorded}"
                )


def undisturbed_steps_are_called_once(record: Record) -> None:
    """Where nothing goes wrong, each step of a workflow that is left alone is called once, and
    again after a failure.
    """
    if not record.scenario.is_healthy:
        return
    for (workflow_id, step_id), count in record.calls.items():
        failures = sum(operation.failures for operation in flat(record.plans[workflow_id]))
        if count > 1 + failures and not record.orders[workflow_id]:
            record.violated(f"{workflow_id} called step {step_id} {count} times")


def nothing_due_is_claimed_late(record: Record) -> None:
    """When all is well again, what falls due is claimed at once."""
    if not record.has_one_time or not record.has_slot_for_all:
        return
    for at, late, workflow_id in record.lateness:
        is_calm = (at - late - record.began_at).total_seconds() > CALM_AFTER
        if late > _PUNCTUAL and (is_calm or record.scenario.is_calm):
            record.violated(f"{workflow_id} was claimed {late} after it was due")


def pruning_takes_what_has_ended(
    record: Record, before: Mapping[str, Workflow | None], left: Mapping[str, Workflow | None]
) -> None:
    """What has ended is gone, and all else is what it was."""
    for workflow_id, workflow in before.items():
        if workflow is None:
            continue
        expected = None if workflow.status.ended else workflow
        if left[workflow_id] != expected:
            record.violated(
                f"{workflow_id} was {workflow.status}, and is left: {left[workflow_id]}"
            )


def pruning_leaves_no_record(record: Record, workflow_id: str, what: str, found: object) -> None:
    """With a workflow, all its records are gone."""
    if found is not None:
        record.violated(f"{workflow_id} was pruned, but not its {what}")
