"""The attempts of a step with a retry policy."""

from __future__ import annotations

import logging
from datetime import datetime

from bluestreak_core.clock import in_milliseconds
from bluestreak_core.errors import StepFailed
from bluestreak_core.model import Attempt, FailedStep
from bluestreak_core.retry import Retry
from bluestreak_core.run.failure import error_record, in_one_line
from bluestreak_core.run.journal import Journal

logger = logging.getLogger(__name__)


class Attempts:
    """The failed attempts of one step in the current round of its workflow, whatever the run."""

    def __init__(self, journal: Journal, step_id: str, retry: Retry) -> None:
        self._journal = journal
        self.step_id = step_id
        self._retry = retry
        latest = journal.history.attempts.get(step_id)
        self._latest = None if latest is None or latest.is_wait else latest

    @property
    def number(self) -> int:
        """The number of the next attempt, from 1."""
        return 1 if self._latest is None else self._latest.number + 1

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
        return latest is not None and (
            latest.retry_at is None or self._retry.is_used_up_by(latest.number)
        )

    async def add(self, error: Exception) -> None:
        """Record a failed attempt. If another run has recorded this attempt, its record counts."""
        pause = self._retry.pause_after(self.number, error)
        workflow, now = self._journal.workflow, self._journal.clock.now()
        attempt = Attempt(
            workflow_id=workflow.workflow_id,
            step_id=self.step_id,
            round=workflow.retries,
            number=self.number,
            error=error_record(error),
            retry_at=None if pause is None else in_milliseconds(now + pause),
            saved_at=now,
        )
        self._latest = await self._journal.save_attempt(attempt)
        _log(self._latest)

    async def give_up(self) -> FailedStep:
        """Record that the latest attempt was the last one."""
        if self._latest is None:
            raise AssertionError("a step is given up after an attempt")
        failed = FailedStep(
            step_id=self.step_id,
            error=self._latest.error,
            attempts=self._latest.number,
            failed_at=self._journal.clock.now(),
        )
        await self._journal.fail_step(failed)
        return failed


def failure_of(workflow_id: str, failed: FailedStep) -> StepFailed:
    """The error that a step raises once it has been given up."""
    error = failed.error
    return StepFailed(
        workflow_id, failed.step_id, failed.attempts, error.type, error.message, error.traceback
    )


def _log(attempt: Attempt) -> None:
    is_last = attempt.retry_at is None
    consequence = "giving up" if is_last else f"trying again at {attempt.retry_at}"
    logger.warning(
        "workflow %r: attempt %d of step %r failed, %s: %s",
        *(attempt.workflow_id, attempt.number, attempt.step_id, consequence),
        in_one_line(attempt.error),
    )
