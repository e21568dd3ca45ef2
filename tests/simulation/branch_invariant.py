"""The invariants of steps that are called at most once, of branches, and of callbacks.

One function for each, under the name that docs/reliability.md gives it.
"""

from __future__ import annotations

from typing import Any

from bluestreak_core import Claim
from bluestreak_core.run.structure.outcomes import BranchStatus, EndedBy, Outcomes
from tests.simulation.record import Record
from tests.simulation.scenario import Operation


def attempts_are_called_at_most_once(record: Record, claim: Claim, operation: Operation) -> None:
    """A function that is called at most once is not called more often than its attempts allow."""
    workflow = claim.workflow
    key = (claim.workflow_id, operation.id, workflow.generation, workflow.retries)
    allowed = max(1, operation.failures)
    if record.begun[key] > allowed:
        record.violated(
            f"{claim.workflow_id} called {operation.id} {record.begun[key]} times in round "
            f"{workflow.retries}, which may be done {allowed} times"
        )


def branches_end_once(record: Record, claim: Claim, operation: Operation, seen: Any) -> None:
    """What a map, a parallel or a race ends with is the same in each run."""
    key = (claim.workflow_id, operation.id)
    first = record.decisions.setdefault(key, seen)
    if seen != first:
        ended = f"ended with {seen}, and before with {first}"
        record.violated(f"{claim.workflow_id}: {operation.id} {ended}")


def fan_outs_end_as_asked(
    record: Record, claim: Claim, operation: Operation, outcomes: Outcomes[Any]
) -> None:
    """A fan-out ends when all have, when enough have succeeded, or when too many have failed."""
    succeeded, failed = len(outcomes.succeeded), len(outcomes.failed)
    is_enough = operation.enough is not None and succeeded >= operation.enough
    is_too_many = operation.tolerate is not None and failed > operation.tolerate
    rules = {
        EndedBy.ALL: not outcomes.skipped and not is_too_many,
        EndedBy.ENOUGH: is_enough,
        EndedBy.FAILURES: is_too_many,
    }
    is_whole = [found.key for found in outcomes] == _keys(operation)
    if not rules[outcomes.ended_by] or not is_whole:
        record.violated(f"{claim.workflow_id}: {operation.id} ended with {outcomes}")


def branches_have_the_stored_output(
    record: Record, claim: Claim, operation: Operation, outcomes: Outcomes[Any]
) -> None:
    """The value of a branch is what is stored as its step."""
    for found in outcomes:
        stored = record.outputs.get((claim.workflow_id, f"step {operation.id}/{found.key}"))
        if found.status is BranchStatus.SUCCEEDED and found.value != stored:
            record.violated(f"{claim.workflow_id}: {operation.id} has {found}, stored is {stored}")


def callbacks_have_one_answer(record: Record, workflow_id: str, step_id: str, answer: str) -> None:
    """All who answer a callback, and its handler, are told the same answer."""
    first = record.answers.setdefault((workflow_id, step_id), answer)
    if answer != first:
        record.violated(f"{workflow_id}: {step_id} was answered by {answer}, and before by {first}")


def _keys(operation: Operation) -> list[str]:
    return [branch.id for branch in operation.branches]
