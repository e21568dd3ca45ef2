"""When a workflow is given up though it has not ended."""

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
    """The deadline of one workflow; `at` is None where it has none."""

    def __init__(self, workflow: Workflow, span: timedelta | None, clock: Clock) -> None:
        self.at = machine.deadline_at(workflow, span)
        self._workflow_id = workflow.workflow_id
        self._clock = clock

    @property
    def error(self) -> DeadlineExceeded | None:
        """What the workflow is aborted with; None while the deadline is still to come."""
        if self.at is None or self.at > self._clock.now():
            return None
        return DeadlineExceeded(self._workflow_id, self.at)

    def or_sooner(self, instant: datetime) -> datetime:
        """The instant, or the deadline if that comes first: a claim is what notices it."""
        return instant if self.at is None else min(instant, self.at)

    async def wait_for(self, task: asyncio.Task[Any]) -> DeadlineExceeded | None:
        """Wait until the task has ended or its time is over; the error in the latter case."""
        if self.at is None:
            await wait_ended(task)
            return None
        returned = asyncio.ensure_future(wait_ended(task))
        await first_of(returned, self._clock.sleep(self.at - self._clock.now()))
        return None if task.done() else DeadlineExceeded(self._workflow_id, self.at)
