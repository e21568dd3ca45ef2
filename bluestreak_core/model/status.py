"""The states of a workflow."""

from __future__ import annotations

from enum import StrEnum


class Status(StrEnum):
    """The state of a workflow. The JavaScript library does not know the last four."""

    IDLE = "idle"
    RUNNING = "running"
    FAILED = "failed"
    ABORTED = "aborted"
    FINISHED = "finished"
    PAUSED = "paused"
    CANCELLED = "cancelled"
    STOPPING = "stopping"
    COMPENSATING = "compensating"

    @property
    def ended(self) -> bool:
        """Whether the workflow is over, unless it is retried."""
        return self in (Status.ABORTED, Status.FINISHED, Status.CANCELLED)
