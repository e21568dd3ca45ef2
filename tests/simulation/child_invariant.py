"""The invariants of children.

One function for each, under the name that docs/reliability.md gives it.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

from bluestreak_core import FailedStep, Status, Workflow
from bluestreak_core.model import OnParentEnd
from bluestreak_core.run.settling import PARENT_ENDED, child_of_name
from tests.simulation.record import Record

_ROUNDING = timedelta(milliseconds=2)

# At the store ------------------------------------------------------------------------------------


def children_end_as_recorded(
    record: Record, workflow_id: str, child_id: str, output: Any, failed: FailedStep | None
) -> None:
    """What a parent records of a child is how that has ended: its result, or its failure."""
    if failed is None:
        told: object = (Status.FINISHED, output)
    else:
        told = (None if failed.child is None else failed.child.status, None)
    if told not in record.ends[child_id]:
        ends = record.ends[child_id]
        record.violated(f"{workflow_id} recorded {told} of {child_id}, which has ended as {ends}")


def nobody_sleeps_over_the_end_of_a_child(
    record: Record, workflow: Workflow, find: Callable[[str], Workflow | None]
) -> None:
    """A workflow that waits for a child does not do so once that has ended, and is settled."""
    skew = timedelta(seconds=max(map(abs, record.scenario.skews)))
    is_released = workflow.timeout_at <= record.clock.now() + skew + _ROUNDING
    if workflow.status not in (Status.IDLE, Status.PAUSED) or is_released:
        return
    for name in workflow.waiting_for:
        child_id = child_of_name(name)
        child = None if child_id is None else find(child_id)
        if child is not None and child.status.ended and not child.unsettled:
            record.violated(f"{workflow.workflow_id} sleeps over the end of {child_id}")


def abandoned_children_are_left_alone(record: Record, child: Workflow, reason: str | None) -> None:
    """A child that is abandoned is not cancelled because its parent has ended."""
    is_abandoned = child.parent is not None and child.parent.on_end is OnParentEnd.ABANDON
    if is_abandoned and reason == PARENT_ENDED:
        record.violated(f"{child.workflow_id} was cancelled, and is to outlive its parent")


# At the end --------------------------------------------------------------------------------------


def children_do_not_outlive_their_parent(
    record: Record, child: Workflow, parent: Workflow | None
) -> None:
    """A child that is to end with its parent has ended where that has, or is gone."""
    if child.parent is None or child.parent.on_end is OnParentEnd.ABANDON:
        return
    if (parent is None or parent.status.ended) and not child.status.ended:
        status = "gone" if parent is None else parent.status
        record.violated(f"{child.workflow_id} is {child.status}, its parent is {status}")


def ends_are_settled(record: Record, workflow: Workflow) -> None:
    """What has ended is settled: its parent knows it, and its children are seen to."""
    if workflow.status.ended and workflow.unsettled:
        record.violated(f"{workflow.workflow_id} is {workflow.status}, and was never settled")
