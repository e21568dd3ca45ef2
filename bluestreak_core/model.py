"""The records that the engine and the stores pass to each other.

Instants end in `_at`: aware, UTC, whole milliseconds. Spans are `timedelta`. Nothing here changes
in place; a changed record is made with `dataclasses.replace`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any


class Status(StrEnum):
    """Where a workflow stands. The JavaScript library knows all of them but the last two."""

    IDLE = "idle"
    RUNNING = "running"
    FAILED = "failed"
    ABORTED = "aborted"
    FINISHED = "finished"
    PAUSED = "paused"
    CANCELLED = "cancelled"

    @property
    def ended(self) -> bool:
        """Whether nothing will happen to the workflow any more, unless somebody has it retried."""
        return self in (Status.ABORTED, Status.FINISHED, Status.CANCELLED)


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRecord:
    """An exception as it is stored: texts only, cut to a length that always fits."""

    type: str
    message: str
    traceback: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What `Store.fail` records: the error, and when to try again; `None` is never."""

    error: ErrorRecord
    retry_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimEntry:
    """One entry of a workflow's claim log; `after_crash` where an earlier lease had run out."""

    worker: str
    claimed_at: datetime
    after_crash: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedStep:
    """A step that was given up after so many attempts; its outcome from then on is this error."""

    step_id: str
    error: ErrorRecord
    attempts: int
    failed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWorkflow:
    """A workflow that is about to be created. It is due when it is created, or at `start_at`."""

    workflow_id: str
    handler_id: str
    input: Any
    created_at: datetime
    start_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What a waiting caller reads of a workflow: how far it is and how it ended, not its input.

    The fields are those of `Workflow`.
    """

    workflow_id: str
    handler_id: str
    status: Status
    result: Any = None
    error: ErrorRecord | None = None
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Workflow:
    """A workflow as it is stored.

    `timeout_at` is when it may be claimed next: the due time of `idle` and `failed`, the end of the
    lease of `running`. Once it has ended, it is when that was. `claim_token` names the claim in
    force, or the last one. `claims` counts all claims, `failures` the times that the handler
    raised, `crashes` the leases that expired since a step or a nap was last recorded. `start_at` is
    when it was to start if that is not when it was created: since its start was delayed, or it was
    retried, which `retries` counts; `controls` counts whatever was done to it from outside.
    `failed_steps` are the steps that have been given up since
    then. `reason` is what was said when it was cancelled, and `forked_from` the id of the workflow
    whose records it began with. `pruned_at` is when it was marked for deletion, from when on it is
    as good as deleted.

    Fields that only Bluestreak writes are empty on a workflow that a JavaScript producer created.
    """

    workflow_id: str
    handler_id: str
    input: Any
    status: Status
    timeout_at: datetime
    failures: int = 0
    crashes: int = 0
    claims: int = 0
    claim_token: str | None = None
    worker: str | None = None
    claim_log: tuple[ClaimEntry, ...] = field(default=())
    created_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    result: Any = None
    error: ErrorRecord | None = None
    start_at: datetime | None = None
    retries: int = 0
    controls: int = 0
    failed_steps: tuple[FailedStep, ...] = field(default=())
    reason: str | None = None
    forked_from: str | None = None
    pruned_at: datetime | None = None

    @property
    def standing(self) -> Standing:
        """The part of it that `Store.find_standing` returns."""
        return Standing(
            workflow_id=self.workflow_id,
            handler_id=self.handler_id,
            status=self.status,
            result=self.result,
            error=self.error,
            reason=self.reason,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to move one workflow, until its lease ends or another worker takes over.

    `workflow` is the record as the claim left it. Only `workflow_id` and `token` identify a claim:
    a store may give one token to several workflows, but none twice to one of them. `number` counts
    the claims of the workflow, for people to read.
    """

    token: str
    workflow: Workflow

    @property
    def workflow_id(self) -> str:
        """The workflow that is claimed."""
        return self.workflow.workflow_id

    @property
    def key(self) -> tuple[str, str]:
        """What tells this claim from all others."""
        return self.workflow_id, self.token

    @property
    def number(self) -> int:
        """1 for the workflow's first claim."""
        return self.workflow.claims


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """What a worker asks for when it claims.

    Up to `limit` workflows that are due at `now`, for `worker`, with a lease of this length.
    `handlers` are the ids of the handlers whose workflows it can run; None is any.
    """

    worker: str
    now: datetime
    lease: timedelta
    limit: int
    handlers: Collection[str] | None = None

    def accepts(self, handler_id: str) -> bool:
        """Whether workflows of this handler are asked for."""
        return self.handlers is None or handler_id in self.handlers


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A recorded step. `saved_at` is None where the JavaScript library recorded it."""

    workflow_id: str
    step_id: str
    output: Any
    saved_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Nap:
    """A recorded nap. `saved_at` is None where the JavaScript library recorded it."""

    workflow_id: str
    nap_id: str
    wake_up_at: datetime
    saved_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Attempt:
    """A failed attempt of a step with a retry policy.

    `number` counts from 1, anew in each `round`, which is how often the workflow had been retried.
    `retry_at` is when the next attempt is due; None after the last one.
    """

    workflow_id: str
    step_id: str
    round: int
    number: int
    error: ErrorRecord
    retry_at: datetime | None
    saved_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What a workflow has recorded so far.

    Outputs by step id, wake-up instants by nap id, and by step id the latest failed attempt of the
    round that the workflow is in.
    """

    steps: dict[str, Any] = field(default_factory=dict)
    naps: dict[str, datetime] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)
