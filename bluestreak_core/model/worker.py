"""What a worker reports about itself to the store."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum


class WorkerState(StrEnum):
    """What a worker is doing."""

    POLLING = "polling"
    DRAINING = "draining"
    STOPPED = "stopped"


class RunEnd(StrEnum):
    """How a worker's run of a workflow has ended.

    One that is `failed` is tried again, and one that is `aborted` is not, except to compensate.
    `released` is what a stopping worker leaves to others, and a run is `lost` if its claim is.
    """

    FINISHED = "finished"
    FAILED = "failed"
    ABORTED = "aborted"
    CANCELLED = "cancelled"
    COMPENSATED = "compensated"
    PARKED = "parked"
    RESTARTED = "restarted"
    RELEASED = "released"
    LOST = "lost"


@dataclass(frozen=True, slots=True, kw_only=True)
class RunInFlight:
    """A workflow that a worker was running when it last reported.

    - `step_id`: the oldest step that was being called; None between steps, and in a nap or a wait.
    - `since`: when that step began; without a step, when the worker claimed the workflow.
    """

    workflow_id: str
    handler_id: str
    step_id: str | None
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkerRecord:
    """A worker as it last reported, at `seen_at`. It counts as alive before `until`.

    - `name`: unique, as in the claim log.
    - `runs`: how many of its `max_concurrency` slots are taken. `in_flight` has the oldest 100 of
      these runs.
    - `handlers`: the ids of its handlers, sorted.
    - `last_store_error`: the last error because of which the store was unavailable to it.
    """

    name: str
    host: str
    pid: int
    bluestreak_version: str
    python_version: str
    started_at: datetime
    seen_at: datetime
    until: datetime
    state: WorkerState
    max_concurrency: int
    runs: int
    in_flight: tuple[RunInFlight, ...] = ()
    handlers: tuple[str, ...] = ()
    last_store_error: str | None = None

    @property
    def free_slots(self) -> int:
        """How many workflows it may still claim; none if it is draining."""
        return self.max_concurrency - self.runs if self.state is WorkerState.POLLING else 0
