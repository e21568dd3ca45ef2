"""The workflow as it is stored."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Self

from bluestreak_core.model.error import ErrorRecord, FailedStep
from bluestreak_core.model.status import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimEntry:
    """One entry of a workflow's claim log.

    `after_crash` says that this claim took over from one whose lease had expired.
    """

    worker: str
    claimed_at: datetime
    after_crash: bool


class OnParentEnd(StrEnum):
    """Whether a child is cancelled if its parent ends first."""

    CANCEL = "cancel"
    ABANDON = "abandon"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """The workflow that has started another one; `created_at` excludes later namesakes."""

    workflow_id: str
    created_at: datetime | None
    on_end: OnParentEnd = OnParentEnd.CANCEL


@dataclass(frozen=True, slots=True, kw_only=True)
class Beat:
    """The last sign of life from where the callback of a step has gone."""

    step_id: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Published:
    """A value that a workflow has published under a name, the latest one.

    `number` counts what a run publishes under this name, from 1. A replay counts in the same way,
    so that it publishes nothing again. `generation` is that of the workflow; each counts anew.
    """

    name: str
    number: int
    value: Any
    at: datetime
    generation: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class NewWorkflow:
    """A workflow to create. It is due at `start_at`, or at once where that is None.

    `trace` is the W3C `traceparent` of the call that creates it, for telemetry.
    """

    workflow_id: str
    handler_id: str
    input: Any
    created_at: datetime
    start_at: datetime | None = None
    parent: Parent | None = None
    trace: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A workflow without its input: what others have to read that wait for its end or watch it.

    The fields are those of `Workflow`.
    """

    workflow_id: str
    handler_id: str
    status: Status
    result: Any = None
    error: ErrorRecord | None = None
    reason: str | None = None
    created_at: datetime | None = None
    controls: int = 0
    parent: Parent | None = None
    unsettled: bool = False
    published: tuple[Published, ...] = ()


@dataclass(frozen=True, kw_only=True)  # without slots, see `of`
class Workflow:
    """A workflow as it is stored.

    - `timeout_at`: the due time of `idle`, `failed` and `stopping`, the end of the lease of
      `running` and `compensating`, the end of a workflow that has ended.
    - `claim_token`: the claim in force, or the last one.
    - `claims`: all claims so far. `failures`: how often the handler raised. `crashes`: leases that
      expired since a step or a nap was last recorded.
    - `start_at`: when it is to start, if that is not `created_at`: its start was delayed, or it was
      retried.
    - `retries`: how often it was retried. `controls`: how often it was cancelled, paused, resumed
      or retried.
    - `failed_steps`: the steps that were given up since the last retry.
    - `reason`: the reason given for its cancellation.
    - `forked_from`: the id of the workflow whose records it began with.
    - `pruned_at`: when it was marked for deletion. From then on, treat it as deleted.
    - `waiting_for`: the names of the messages that it waits for, while it is parked.
    - `mail`: how many messages were sent to it, including repeats, and notices of children that
      have ended.
    - `compensates`: whether it has registered a compensation, and so does not end by an abort or a
      cancellation before its compensations have run.
    - `outcome`: what it ends as after its compensations, `aborted` or `cancelled`, and
      `stopped_at`: when that was decided.
    - `leased_until`: the end of the lease that a pause has taken. Until then its run may still be
      in a step, and nothing is undone beside that.
    - `beats`: the signs of life of its callbacks, one for each.
    - `parent`: the workflow that has started it as a child.
    - `unsettled`: whether its end concerns others: it is a child, has children, or was retried.
      Once it has ended, and its children and its parent have been seen to, this is False.
    - `published`: the latest value of each name under which it has published one.
    - `generation`: how often it has restarted, each time with another input and without records.
      `restarted_at`: when it did so last.
    - `trace`: the W3C `traceparent` that it was created with, for telemetry. A fork has that of the
      workflow whose records it began with.

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
    waiting_for: tuple[str, ...] = ()
    mail: int = 0
    compensates: bool = False
    outcome: Status | None = None
    stopped_at: datetime | None = None
    leased_until: datetime | None = None
    beats: tuple[Beat, ...] = ()
    parent: Parent | None = None
    unsettled: bool = False
    published: tuple[Published, ...] = ()
    generation: int = 0
    restarted_at: datetime | None = None
    trace: str | None = None

    @classmethod
    def of(cls, fields: Mapping[str, Any]) -> Self:
        """A workflow of these fields, and empty ones, unchecked: `cls(**fields)` in less time.

        Each claim makes two, and sets few of the fields.
        """
        workflow = object.__new__(cls)
        workflow.__dict__.update(fields)
        return workflow

    @property
    def begun_at(self) -> datetime | None:
        """When this generation began: no two of a workflow begin at the same instant."""
        return self.restarted_at or self.created_at

    def heard_at(self, step_id: str) -> datetime | None:
        """When the callback of a step last gave a sign of life; None if it never did."""
        return next((beat.at for beat in self.beats if beat.step_id == step_id), None)

    @property
    def standing(self) -> Standing:
        """The part that `Store.find_standing` returns."""
        return Standing(
            workflow_id=self.workflow_id,
            handler_id=self.handler_id,
            status=self.status,
            result=self.result,
            error=self.error,
            reason=self.reason,
            created_at=self.created_at,
            controls=self.controls,
            parent=self.parent,
            unsettled=self.unsettled,
            published=self.published,
        )
