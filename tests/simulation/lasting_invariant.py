"""The invariants of restarts and of published values.

One function for each, under the name that docs/reliability.md gives it.
"""

from __future__ import annotations

from bluestreak_core import Claim, Status, Workflow
from tests.simulation.record import Record
from tests.simulation.scenario import Kind


def generations_are_apart(record: Record, claim: Claim, step_id: str, output: object) -> None:
    """No run sees what another generation of its workflow has recorded."""
    born = record.born.get(output) if isinstance(output, str) else None
    generation = claim.workflow.generation
    if born is not None and born != generation:
        record.violated(
            f"{claim.workflow_id} saw {output} of generation {born} as step {step_id} in "
            f"generation {generation}"
        )


def published_values_do_not_go_back(
    record: Record, before: Workflow, after: Workflow | None
) -> None:
    """The value of a name is followed by a later one of the same name, and never lost."""
    latest = {value.name: value for value in after.published} if after is not None else {}
    for value in before.published:
        now = latest.get(value.name)
        if now is None or (now.generation, now.number) < (value.generation, value.number):
            record.violated(f"{before.workflow_id} showed {value}, and then {now}")


def published_values_are_written(record: Record, workflow: Workflow) -> None:
    """What a workflow published last is there once it has finished."""
    plan = record.plans[workflow.workflow_id]
    last = [operation.id for operation in plan if operation.kind is Kind.PUBLISH][-1:]
    if workflow.status is not Status.FINISHED or not last:
        return
    shown = [value.value for value in workflow.published]
    if shown != last:
        record.violated(f"{workflow.workflow_id} shows {shown}, and has published {last}")
