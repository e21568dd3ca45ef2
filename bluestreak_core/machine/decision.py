"""What the state machine decides about one workflow, each a pure function."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from datetime import datetime, timedelta
from typing import Any

from bluestreak_core.errors import TransitionRefused, WorkflowEnded
from bluestreak_core.machine import change
from bluestreak_core.machine.condition import is_due
from bluestreak_core.machine.table import (
    COMPENSATED,
    PRUNED,
    Transition,
    claiming,
    held,
    sources,
)
from bluestreak_core.model import (
    Attempt,
    Beat,
    ClaimRequest,
    ErrorRecord,
    FailedStep,
    Failure,
    NewWorkflow,
    Published,
    Status,
    Workflow,
)

# A workflow begins ------------------------------------------------------------------------------


def create(new: NewWorkflow) -> Workflow:
    """The record of a new workflow: idle, and due at `start_at`, else since its creation."""
    return Workflow(
        workflow_id=new.workflow_id,
        handler_id=new.handler_id,
        input=new.input,
        status=Status.IDLE,
        timeout_at=new.start_at or new.created_at,
        created_at=new.created_at,
        start_at=new.start_at,
        parent=new.parent,
        unsettled=new.parent is not None,
        trace=new.trace,
    )


def check_fork(workflow: Workflow, before: str | None) -> None:
    """Raise `TransitionRefused` for all records of a workflow whose effects are undone."""
    if before is None and workflow.outcome is not None:
        raise TransitionRefused(workflow.workflow_id, COMPENSATED, "fork")


def fork(
    workflow: Workflow, new_id: str, now: datetime, given_up: tuple[FailedStep, ...]
) -> Workflow:
    """The record of a workflow that begins with the records of another one up to some point."""
    return Workflow(
        workflow_id=new_id,
        handler_id=workflow.handler_id,
        input=workflow.input,
        status=Status.IDLE,
        timeout_at=now,
        created_at=now,
        forked_from=workflow.workflow_id,
        failed_steps=given_up,
        trace=workflow.trace,
    )


# A workflow moves: changes applied to its record ------------------------------------------------


def claim(workflow: Workflow, token: str, request: ClaimRequest) -> Workflow:
    """A due workflow, claimed. A lease that has run out counts as a crash."""
    if not is_due(workflow, request.now):
        raise TransitionRefused(workflow.workflow_id, workflow.status, Transition.CLAIM)
    crashed, event = workflow.status in held(), claiming(workflow.status)
    return change.claim(token, request, crashed=crashed, event=event).apply(workflow)


def renew(workflow: Workflow, now: datetime, lease: timedelta) -> Workflow:
    """See `change.renew`."""
    return change.renew(now, lease).apply(workflow)


def progress(workflow: Workflow) -> Workflow:
    """See `change.progress`."""
    return change.progress().apply(workflow) if workflow.crashes else workflow


def fail_step(workflow: Workflow, failed: FailedStep) -> Workflow:
    """See `change.fail_step`."""
    return change.fail_step(failed).apply(workflow)


def publish(workflow: Workflow, published: tuple[Published, ...]) -> Workflow:
    """See `change.publish`."""
    return change.publish(published).apply(workflow)


def park(workflow: Workflow, wake_up_at: datetime) -> Workflow:
    """See `change.park`."""
    return change.park(wake_up_at).apply(workflow)


def wait(
    workflow: Workflow, wake_up_at: datetime, names: tuple[str, ...], mail: int, now: datetime
) -> Workflow:
    """See `change.wait`; `mail` is what the count was when the mailbox was found empty."""
    return wait_change(workflow, wake_up_at, names, mail, now).apply(workflow)


def wait_change(
    workflow: Workflow, wake_up_at: datetime, names: tuple[str, ...], mail: int, now: datetime
) -> change.Change:
    """`change.wait` for this workflow, or `change.release` if something was sent meanwhile."""
    return change.wait(wake_up_at, names) if workflow.mail == mail else change.release(now)


def deliver(workflow: Workflow, names: Collection[str], now: datetime) -> Workflow:
    """The record after messages of these names were sent: counted, and due if it waits for one."""
    count = len(names)
    waits = workflow.status in sources(Transition.WAKE) and not set(names).isdisjoint(
        workflow.waiting_for
    )
    return (change.wake(now, count) if waits else change.deliver(count)).apply(workflow)


def beat(workflow: Workflow, step_id: str, now: datetime) -> Workflow:
    """The record after a sign of life from the callback of a step; one that comes late is older.

    Raises `WorkflowEnded`.
    """
    if workflow.status.ended:
        raise WorkflowEnded(workflow.workflow_id)
    heard_at = max(workflow.heard_at(step_id) or now, now)
    others = tuple(known for known in workflow.beats if known.step_id != step_id)
    return change.replaced(workflow, beats=(*others, Beat(step_id=step_id, at=heard_at)))


def adopt(workflow: Workflow) -> Workflow:
    """See `change.adopt`."""
    return change.adopt().apply(workflow)


def settle(workflow: Workflow) -> Workflow:
    """See `change.settle`."""
    return change.settle().apply(workflow)


def release(workflow: Workflow, now: datetime) -> Workflow:
    """See `change.release`."""
    return change.release(now).apply(workflow)


def restart(workflow: Workflow, input: Any, now: datetime) -> Workflow:
    """See `change.restart`."""
    return change.restart(workflow, input, now).apply(workflow)


def finish(workflow: Workflow, result: Any, now: datetime) -> Workflow:
    """See `change.finish`."""
    return change.finish(result, now).apply(workflow)


def fail(workflow: Workflow, failure: Failure, now: datetime) -> Workflow:
    """See `change.fail`."""
    return change.fail(failure, now).apply(workflow)


def promise(workflow: Workflow) -> Workflow:
    """See `change.promise`."""
    return change.promise().apply(workflow)


def give_up(workflow: Workflow, error: ErrorRecord, now: datetime) -> Workflow:
    """See `change.give_up`."""
    return change.give_up(error, now).apply(workflow)


def hand_over(workflow: Workflow, now: datetime) -> Workflow:
    """See `change.hand_over`. Call it if `was_taken`."""
    (moved,) = (moved for moved in change.hand_over(now) if workflow.status in moved.sources)
    return moved.apply(workflow)


def postpone(workflow: Workflow, wake_up_at: datetime) -> Workflow:
    """See `change.postpone`."""
    return change.postpone(wake_up_at).apply(workflow)


def end_compensated(workflow: Workflow, now: datetime) -> Workflow:
    """See `change.end_compensated`."""
    return change.end_compensated(workflow.outcome, now).apply(workflow)


def control(workflow: Workflow, event: Transition, now: datetime, reason: str | None) -> Workflow:
    """See `change.control`. Raises `TransitionRefused`."""
    return control_change(workflow, event, now, reason).apply(workflow)


def control_change(
    workflow: Workflow, event: Transition, now: datetime, reason: str | None
) -> change.Change:
    """The change of `change.control` for this workflow. Raises `TransitionRefused`."""
    changes = change.control(event, now, reason)
    found = [moved for moved in changes if workflow.status in moved.sources]
    if not found:
        raise TransitionRefused(workflow.workflow_id, workflow.status, event)
    if workflow.pruned_at is not None:
        raise TransitionRefused(workflow.workflow_id, PRUNED, event)
    for moved in found:
        if all(getattr(workflow, name) == value for name, value in moved.when.items()):
            return moved
    raise TransitionRefused(workflow.workflow_id, COMPENSATED, event)


# What its history and its policies say of it ------------------------------------------------------


def in_generation(id: str, generation: int) -> str:
    """An id that outlives a restart, such as a child's, told apart from that of another generation.

    That of the first generation is the plain one.
    """
    return f"{id}#{generation}" if generation else id


def latest_attempts(attempts: Iterable[Attempt], round: int) -> dict[str, Attempt]:
    """By step id, the latest attempt of a round, failed or begun."""
    ordered = sorted(attempts, key=lambda attempt: attempt.order)
    return {attempt.step_id: attempt for attempt in ordered if attempt.round == round}


def retry_at(
    workflow: Workflow, now: datetime, wait: timedelta, max_failures: int | None
) -> datetime | None:
    """When a workflow that just failed is tried again; None once it has used up its retries."""
    if max_failures is not None and workflow.failures + 1 > max_failures:
        return None
    return now + wait


def deadline_at(workflow: Workflow, deadline: timedelta | None) -> datetime | None:
    """When a workflow is given up: this long after it was to start, or has restarted.

    The first claim counts as the start of a workflow that the JavaScript library created.
    """
    if deadline is None:
        return None
    start_at = workflow.start_at or workflow.created_at or workflow.started_at
    starts = [at for at in (start_at, workflow.restarted_at) if at is not None]
    return max(starts) + deadline if starts else None


def crashed_too_often(workflow: Workflow, max_crashes: int | None) -> bool:
    """Whether a claimed workflow has taken down more workers in a row than it may."""
    return max_crashes is not None and workflow.crashes > max_crashes


def is_suspect(workflow: Workflow, max_crashes: int | None) -> bool:
    """Whether a claimed workflow may well be what takes down the workers.

    A crash counts against every workflow in the process, and most of those are bystanders. A
    workflow that has used up more than half of `max_crashes` runs alone, which shows the culprit.
    """
    return max_crashes is not None and max_crashes // 2 < workflow.crashes <= max_crashes
