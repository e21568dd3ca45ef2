"""The attempts of a step with a retry policy, or of one that is called at most once."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

from bluestreak_core.clock import in_milliseconds
from bluestreak_core.errors import ChildFailed, StepFailed, StepInterrupted
from bluestreak_core.errors.group import is_abort
from bluestreak_core.model import BEGUN, Attempt, ErrorRecord, FailedStep, Workflow
from bluestreak_core.retry import Retry
from bluestreak_core.run.failure import error_record, in_one_line
from bluestreak_core.run.journal import Journal
from bluestreak_core.run.log import fields

logger = logging.getLogger(__name__)

_INTERRUPTED = f"{StepInterrupted.__module__}.{StepInterrupted.__qualname__}"


class Attempts:
    """The attempts of one step in the current round of its workflow, whatever the run."""

    def __init__(self, journal: Journal, step_id: str, retry: Retry) -> None:
        self._journal = journal
        self.step_id = step_id
        self._retry = retry
        latest = journal.history.attempts.get(step_id)
        self._latest = None if latest is None or latest.is_wait else latest

    @property
    def number(self) -> int:
        """The number of the next attempt, or of the one that has begun; from 1."""
        if self._latest is None:
            return 1
        return -self._latest.number if self._latest.is_begin else self._latest.number + 1

    @property
    def kind(self) -> str:
        """The next attempt as a kind of operation."""
        return f"attempt {self.number} of step"

    @property
    def next_at(self) -> datetime | None:
        """When the next attempt is due; None for at once."""
        return None if self._latest is None else self._latest.retry_at

    @property
    def are_used_up(self) -> bool:
        """Whether no attempt is left. The policy may have changed since the last one."""
        latest = self._latest
        return (
            latest is not None
            and not latest.is_begin
            and (latest.retry_at is None or self._retry.is_used_up_by(latest.number))
        )

    @property
    def is_interrupted(self) -> bool:
        """Whether an earlier run has begun the latest attempt, and has not recorded its end."""
        return self._latest is not None and self._latest.is_begin

    async def begin(self) -> bool:
        """Record that the next attempt begins; False if another run has begun it."""
        token = self._journal.lease.claim.token
        error = ErrorRecord(type=BEGUN, message=token, traceback="")
        begin = self._attempt(-self.number, error, retry_at=None)
        return (await self._journal.save_attempt(begin)).error.message == token

    async def add(self, error: Exception) -> None:
        """Record a failed attempt. If another run has recorded this attempt, its record counts.

        No attempt follows an `Abort`.
        """
        pause = None if is_abort(error) else self._retry.pause_after(self.number, error)
        await self._add(error_record(error), pause)

    async def add_last(self, error: ErrorRecord) -> None:
        """Record a failed attempt, which no other one follows."""
        await self._add(error, None)

    async def add_interrupted(self) -> None:
        """Record that the attempt that had begun has failed, since its end is not known."""
        number, workflow_id = self.number, self._journal.workflow.workflow_id
        message = f"attempt {number} had begun, and no run has recorded how it ended"
        record = ErrorRecord(type=_INTERRUPTED, message=message, traceback="")
        error = StepInterrupted(workflow_id, self.step_id, number, _INTERRUPTED, message, "")
        await self._add(record, self._retry.pause_after(number, error))

    async def give_up(self) -> FailedStep:
        """Record that the latest attempt was the last one."""
        failed = self.last_failure
        await self._journal.fail_step(failed)
        return failed

    @property
    def last_failure(self) -> FailedStep:
        """The step as given up after the latest attempt."""
        if self._latest is None:
            raise AssertionError("a step is given up after an attempt")
        return FailedStep(
            step_id=self.step_id,
            error=self._latest.error,
            attempts=self._latest.number,
            failed_at=self._journal.clock.now(),
        )

    async def _add(self, error: ErrorRecord, pause: timedelta | None) -> None:
        now = self._journal.clock.now()
        retry_at = None if pause is None else in_milliseconds(now + pause)
        attempt = self._attempt(self.number, error, retry_at=retry_at)
        self._latest = await self._journal.save_attempt(attempt)
        _log(self._journal.workflow, self._latest)

    def _attempt(self, number: int, error: ErrorRecord, *, retry_at: datetime | None) -> Attempt:
        workflow = self._journal.workflow
        return Attempt(
            workflow_id=workflow.workflow_id,
            step_id=self.step_id,
            round=workflow.retries,
            number=number,
            error=error,
            retry_at=retry_at,
            saved_at=self._journal.clock.now(),
        )


def failure_of(workflow_id: str, failed: FailedStep) -> StepFailed:
    """The error that a step raises once it has been given up."""
    error = failed.error
    kind = StepInterrupted if error.type == _INTERRUPTED else StepFailed
    return kind(
        workflow_id, failed.step_id, failed.attempts, error.type, error.message, error.traceback
    )


def recorded_failure(workflow_id: str, failed: FailedStep) -> StepFailed | ChildFailed:
    """The error that was recorded of a step: of its own attempts, or of the child it waited for."""
    error, child = failed.error, failed.child
    if child is None:
        return failure_of(workflow_id, failed)
    facts = (error.type, error.message, error.traceback)
    return ChildFailed(workflow_id, failed.step_id, child.workflow_id, child.status.value, *facts)


def _log(workflow: Workflow, attempt: Attempt) -> None:
    is_last = attempt.retry_at is None
    consequence = "giving up" if is_last else f"trying again at {attempt.retry_at}"
    logger.warning(
        "workflow %r: attempt %d of step %r failed, %s: %s",
        *(attempt.workflow_id, attempt.number, attempt.step_id, consequence),
        in_one_line(attempt.error),
        extra=fields(workflow, step_id=attempt.step_id, step_attempt=attempt.number),
    )
