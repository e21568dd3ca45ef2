"""The deadline of a workflow."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any

from bluestreak_core import machine
from bluestreak_core.clock import Clock
from bluestreak_core.concurrency import first_of, wait_ended
from bluestreak_core.errors import DeadlineExceeded
from bluestreak_core.model import Workflow


class Deadline:
    """The deadline of one workflow; `at` is None if it has none."""

    def __init__(self, workflow: Workflow, span: timedelta | None, clock: Clock) -> None:
        self.at = machine.deadline_at(workflow, span)
        self._workflow_id = workflow.workflow_id
        self._clock = clock

    @property
    def error(self) -> DeadlineExceeded | None:
        """The error to abort the workflow with; None before its deadline."""
        if self.at is None or self.at > self._clock.now():
            return None
        return DeadlineExceeded(self._workflow_id, self.at)

    def or_sooner(self, instant: datetime) -> datetime:
        """The instant, or the deadline if that is sooner.

        For the next due time of a workflow: the claim at its deadline aborts it.
        """
        return instant if self.at is None else min(instant, self.at)

    async def wait_for(self, task: asyncio.Task[Any]) -> DeadlineExceeded | None:
        """Wait until the task has ended, or until the deadline; return the error of the latter."""
        if self.at is None:
            await wait_ended(task)
            return None
        await first_of(wait_ended(task), self._clock.sleep(self.at - self._clock.now()))
        return None if task.done() else DeadlineExceeded(self._workflow_id, self.at)
