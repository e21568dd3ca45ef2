"""`ctx.child` and `ctx.start_child`: workflows that a workflow starts, and waits for."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Generic, TypeVar

from bluestreak_core import machine
from bluestreak_core.argument import check_id, has_real_type
from bluestreak_core.errors import (
    FinalMistakes,
    InvalidArgument,
    InvalidValue,
    WorkflowConflict,
    WorkflowNotFound,
)
from bluestreak_core.model import (
    ErrorRecord,
    FailedChild,
    FailedStep,
    NewWorkflow,
    OnParentEnd,
    Standing,
    Status,
)
from bluestreak_core.run.attempts import recorded_failure
from bluestreak_core.run.frame import Frame
from bluestreak_core.run.handler import Handler
from bluestreak_core.run.hook import WaitKind
from bluestreak_core.run.settling import NOT_NEEDED, PARENT_ENDED, name_of_child
from bluestreak_core.run.unawaited import Unawaited
from bluestreak_core.run.verb.message_wait import FOREVER, aborting, unusable

R = TypeVar("R")

_SHORT_PAUSE = 0.01
"""In seconds: hints count milliseconds, so a clock that goes on has gone past the last hint."""

_OF_THE_PARENT = (PARENT_ENDED, NOT_NEEDED)

_CANCELLED = "cancelled"

_UNKNOWN = ErrorRecord(type="unknown error", message="none was recorded", traceback="")


@dataclass(frozen=True, slots=True, kw_only=True)
class ChildRequest:
    """The arguments of `ctx.child` and `ctx.start_child`, as they were given."""

    handler: object
    input: Any
    workflow_id: str | None
    on_parent_end: str


@dataclass(frozen=True, slots=True)
class Child:
    """A child as its parent asks for it; `function` is None where it gave only the handler's id."""

    new: NewWorkflow
    function: Handler | None


class ChildHandle(Generic[R]):
    """A child that `ctx.start_child` has started."""

    def __init__(self, frame: Frame, unawaited: Unawaited, step_id: str, child: Child) -> None:
        self._frame = frame
        self._unawaited = unawaited
        self._step_id = step_id
        self._child = child

    @property
    def workflow_id(self) -> str:
        """The id of the child."""
        return self._child.new.workflow_id

    def result(self) -> Coroutine[Any, Any, R]:
        """Wait for the result of the child, which is recorded as step `"{step_id}/result"`.

        Await it once in a run. Waits and raises as `ctx.child` does.
        """
        result_id = f"{self._step_id}/result"
        work = _result(self._frame, result_id, self._child)
        return self._unawaited.watch("start_child", result_id, work)

    def __repr__(self) -> str:
        return f"<ChildHandle of workflow {self.workflow_id!r}>"


async def child(
    frame: Frame,
    step_id: str,
    request: ChildRequest,
) -> Any:
    """Start a child unless that is done, and return its result, which is recorded."""
    await frame.check("child", step_id)
    with FinalMistakes():
        step_id = frame.step_id(step_id)
        asked = to_child(frame, step_id, request)
        frame.use_step(step_id, "child")
    if frame.is_recorded(step_id):
        return _converted(frame, asked, frame.journal.history.steps[step_id])
    with frame.operations.operation("start of child", step_id):
        await frame.record(start(frame, asked.new))
    return await result_of(frame, step_id, asked, frame.journal.fail_step)


async def start_child(
    frame: Frame,
    unawaited: Unawaited,
    step_id: str,
    request: ChildRequest,
) -> ChildHandle[Any]:
    """Start a child unless that is done, which is recorded."""
    await frame.check("start_child", step_id)
    with FinalMistakes():
        step_id = frame.step_id(step_id)
        asked = to_child(frame, step_id, request)
        frame.use_step(step_id, "start_child")
    with frame.operations.operation("start of child", step_id):
        if not frame.is_recorded(step_id):
            await frame.record(start(frame, asked.new))
            record = {"workflow_id": asked.new.workflow_id, "parent": frame.workflow_id}
            await frame.record(frame.journal.save_value(step_id, record))
        elif not frame.journal.is_settled(f"{step_id}/result"):
            asked = await _resumed(frame, step_id, asked)
    return ChildHandle(frame, unawaited, step_id, asked)


async def _resumed(frame: Frame, step_id: str, asked: Child) -> Child:
    """A child that an earlier run has started, or whose start a fork has copied."""
    recorded = frame.journal.history.steps[step_id]
    if not has_real_type(recorded, dict) or "parent" not in recorded:
        raise unusable(frame, step_id, "no start_child has recorded it")
    if recorded["parent"] != frame.workflow_id:
        await frame.record(start(frame, asked.new))
    elif frame.journal.workflow.retries:
        found = await frame.family.find(recorded["workflow_id"])
        if found is not None:
            await _revive(frame, found)
    return asked


async def _result(frame: Frame, step_id: str, asked: Child) -> Any:
    await frame.check("result", step_id)
    with FinalMistakes():
        frame.use_step(step_id, "result")
    if frame.is_recorded(step_id):
        return _converted(frame, asked, frame.journal.history.steps[step_id])
    return await result_of(frame, step_id, asked, frame.journal.fail_step)


def to_child(
    frame: Frame,
    step_id: str,
    request: ChildRequest,
) -> Child:
    """The child to start, with the input as it is stored."""
    frame.family.check_supported()
    on_parent_end = to_on_parent_end(step_id, request.on_parent_end)
    child_id = to_child_id(frame, step_id, request.workflow_id)
    handler_id, stored = frame.known.to_store(child_id, request.handler, request.input)
    new = NewWorkflow(
        workflow_id=child_id,
        handler_id=handler_id,
        input=stored,
        created_at=frame.journal.clock.now(),
        parent=frame.family.as_parent(on_parent_end),
    )
    is_id = has_real_type(request.handler, str)
    return Child(new, None if is_id else frame.known.by_id[handler_id])


def to_on_parent_end(step_id: str, given: object) -> OnParentEnd:
    """What becomes of a child after its parent. Raises `InvalidArgument`."""
    if not has_real_type(given, str) or given not in tuple(OnParentEnd):
        reason = "expected 'cancel' or 'abandon'"
        raise InvalidArgument(f"on_parent_end of child {step_id!r}", given, reason)
    return OnParentEnd(given)


def to_child_id(frame: Frame, step_id: str, given: str | None = None) -> str:
    """The workflow id of the child of a step. Raises `InvalidId`."""
    own_id = machine.in_generation(step_id, frame.journal.workflow.generation)
    child_id = f"{frame.workflow_id}/{own_id}" if given is None else given
    return check_id(f"workflow id of child {step_id!r}", child_id)


async def start(frame: Frame, new: NewWorkflow) -> None:
    """Create a child unless it exists. Raises `WorkflowConflict` if its id is another's."""
    family = frame.family
    is_first = machine.is_first_run(frame.journal.workflow)
    found = None if is_first else await family.find(new.workflow_id)
    while found is None:
        if await family.start(new):
            return
        found = await family.find(new.workflow_id)
    if not family.is_child(found):
        raise WorkflowConflict(new.workflow_id, "parent")
    if found.handler_id != new.handler_id:
        raise WorkflowConflict(new.workflow_id, "handler")
    await _revive(frame, found)


async def _revive(frame: Frame, found: Standing) -> bool:
    """Retry a child that was cancelled for the sake of its parent, which was retried since.

    False if it was not, or cannot be retried: one that has compensated stays as it is.
    """
    if found.status is not Status.CANCELLED or found.reason not in _OF_THE_PARENT:
        return False
    await frame.family.retry(found.workflow_id)
    now = await frame.family.find(found.workflow_id)
    return not machine.is_settled_by(now, found)


async def result_of(
    frame: Frame,
    step_id: str,
    asked: Child,
    record_failure: Callable[[FailedStep], Awaitable[None]],
) -> Any:
    """The result of a child that has no record yet; records it. Raises `ChildFailed`."""
    name = name_of_child(asked.new.workflow_id)
    operation = frame.operations.wait("child", step_id, (name,), FOREVER, for_child=True)
    with frame.calls.waiting(WaitKind.CHILD, step_id), operation as wait:
        mail: int | None = frame.journal.workflow.mail
        last: datetime | None = None
        while True:
            since = frame.journal.clock.now()
            found = await _look(frame, asked.new.workflow_id)
            if found.status is Status.FINISHED:
                saving = frame.journal.save_value(step_id, found.result)
                return _converted(frame, asked, await frame.record(saving))
            if found.status.ended and not await _revive(frame, found):
                failed = _failure(step_id, found, frame.journal.clock.now())
                await frame.record(record_failure(failed))
                raise recorded_failure(frame.workflow_id, failed)
            if mail is None:  # only now, since most are woken by the end
                mail = await frame.family.find_mail()
                continue
            # The count is from before the look. If it has changed since, parking is a release.
            wait.mail = mail
            if since == last:  # woken for nothing, and an end may come in this millisecond
                await asyncio.sleep(_SHORT_PAUSE)
            last = since
            await frame.await_end(found.workflow_id, since)
            wait.mail = mail = None


async def _look(frame: Frame, child_id: str) -> Standing:
    found = await frame.record(frame.family.find(child_id))
    if found is None:
        raise WorkflowNotFound(child_id)
    return found


def _failure(step_id: str, found: Standing, now: datetime) -> FailedStep:
    """The record of a child that was aborted or cancelled."""
    error = found.error or _UNKNOWN
    if found.status is Status.CANCELLED:
        error = ErrorRecord(type=_CANCELLED, message=found.reason or "", traceback="")
    return failed_child(step_id, found.workflow_id, error, now)


def failed_child(step_id: str, child_id: str, error: ErrorRecord, now: datetime) -> FailedStep:
    """The failure of a child by the error that stands for it.

    The type of that error says whether the child was cancelled: any other type has the name of its
    module before its own.
    """
    status = Status.CANCELLED if error.type == _CANCELLED else Status.ABORTED
    return FailedStep(
        step_id=step_id,
        error=error,
        attempts=0,
        failed_at=now,
        child=FailedChild(workflow_id=child_id, status=status),
    )


def _converted(frame: Frame, asked: Child, stored: Any) -> Any:
    return converted(frame, asked.new.workflow_id, asked.function, stored)


def converted(frame: Frame, child_id: str, function: Handler | None, stored: Any) -> Any:
    """The result of a child by the annotation of its function; one that does not fit is final."""
    if function is None or frame.journal.conversion is None:
        return stored
    try:
        return frame.journal.conversion.result(child_id, function, stored)
    except InvalidValue as refusal:
        aborting(frame, refusal)
        raise
