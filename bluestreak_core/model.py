"""The records that the engine and the stores exchange.

Instants end in `_at` and are aware, in UTC, in whole milliseconds. Spans are `timedelta`. Records
are immutable: use `dataclasses.replace` to derive a changed one.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any


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


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRecord:
    """An exception as it is stored: plain text, truncated so that it always fits a record."""

    type: str
    message: str
    traceback: str


WAITING = ErrorRecord(type="waiting", message="until then, for a message", traceback="")
"""Stands where no error has occurred; see `Attempt`."""

BEGUN = "begun"
"""The type of the error of an attempt that has begun; its message is the token of the claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What `Store.fail` records. `retry_at` is None if the workflow is not tried again."""

    error: ErrorRecord
    retry_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimEntry:
    """One entry of a workflow's claim log.

    `after_crash` says that this claim took over from one whose lease had expired.
    """

    worker: str
    claimed_at: datetime
    after_crash: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedChild:
    """A child that did not finish: it was aborted or cancelled."""

    workflow_id: str
    status: Status


@dataclass(frozen=True, slots=True, kw_only=True)
class FailedStep:
    """A step that was given up after `attempts` attempts. Later runs raise this error there.

    `child` is set on a step that waited for a child, and has no attempts. The `error` is then the
    child's, or has the reason of its cancellation as the message.
    """

    step_id: str
    error: ErrorRecord
    attempts: int
    failed_at: datetime
    child: FailedChild | None = None


class OnParentEnd(StrEnum):
    """What becomes of a child whose parent ends before it."""

    CANCEL = "cancel"
    ABANDON = "abandon"


@dataclass(frozen=True, slots=True, kw_only=True)
class Parent:
    """The workflow that has started another one. `created_at` tells it from a later namesake."""

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
    """A workflow to create. It is due at `start_at`, or at once where that is None."""

    workflow_id: str
    handler_id: str
    input: Any
    created_at: datetime
    start_at: datetime | None = None
    parent: Parent | None = None


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


@dataclass(frozen=True, slots=True, kw_only=True)
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
    - `beats`: the signs of life of its callbacks, one for each.
    - `parent`: the workflow that has started it as a child.
    - `unsettled`: whether its end concerns others: it is a child, has children, or was retried.
      Once it has ended, and its children and its parent have been seen to, this is False.
    - `published`: the latest value of each name under which it has published one.
    - `generation`: how often it has restarted, each time with another input and without records.
      `restarted_at`: when it did so last.

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
    beats: tuple[Beat, ...] = ()
    parent: Parent | None = None
    unsettled: bool = False
    published: tuple[Published, ...] = ()
    generation: int = 0
    restarted_at: datetime | None = None

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


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """The right to move one workflow, until its lease expires or the claim ends.

    `workflow` is the record as the claim left it. `token` is the fencing token: unique among the
    claims of one workflow, though claims of several workflows may share it. So only `workflow_id`
    and `token` together identify a claim.
    """

    token: str
    workflow: Workflow

    @property
    def workflow_id(self) -> str:
        """The id of the claimed workflow."""
        return self.workflow.workflow_id

    @property
    def key(self) -> tuple[str, str]:
        """The identity of this claim."""
        return self.workflow_id, self.token

    @property
    def number(self) -> int:
        """How many claims the workflow has had, this one included; for messages."""
        return self.workflow.claims


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimRequest:
    """A request for up to `limit` workflows that are due at `now`.

    `worker` gets each with a lease that ends at `now + lease`. `handlers` are the ids of the
    handlers whose workflows it can run; None means any.
    """

    worker: str
    now: datetime
    lease: timedelta
    limit: int
    handlers: Collection[str] | None = None

    def accepts(self, handler_id: str) -> bool:
        """Whether workflows of this handler are requested."""
        return self.handlers is None or handler_id in self.handlers


@dataclass(frozen=True, slots=True, kw_only=True)
class NewMessage:
    """A message to send. No two messages to one workflow have the same `message_id`."""

    workflow_id: str
    message_id: str
    name: str
    payload: Any
    sent_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Receipt:
    """What a `receive` has got: a message, or, where the fields are None, none in time."""

    message_id: str | None = None
    name: str | None = None
    sent_at: datetime | None = None

    @classmethod
    def of(cls, message: NewMessage | None) -> Receipt:
        """The receipt of a message; of none in time for None."""
        if message is None:
            return cls()
        return cls(message_id=message.message_id, name=message.name, sent_at=message.sent_at)

    @property
    def timed_out(self) -> bool:
        """Whether no message came in time."""
        return self.message_id is None


@dataclass(frozen=True, slots=True, kw_only=True)
class NoMessage:
    """The answer of a mailbox that has none of the messages asked for.

    `mail` is a count of the workflow's messages from before the look: while the workflow has no
    other one, the mailbox still has none.
    """

    mail: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """A recorded step. `saved_at` is None where the JavaScript library recorded it.

    A step that received a message has its payload as the output, and a `receipt`.
    """

    workflow_id: str
    step_id: str
    output: Any
    saved_at: datetime | None = None
    receipt: Receipt | None = None


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

    `round` is how often the workflow had been retried before. `number` counts the attempts of one
    round from 1. `retry_at` is when the next attempt is due; None after the last one.

    A `receive` with a timeout keeps the end of its wait in the same way, as the `retry_at` of
    attempt 0, whose error is `WAITING`. The begin of attempt n of a step that is called at most
    once is kept as attempt -n.
    """

    workflow_id: str
    step_id: str
    round: int
    number: int
    error: ErrorRecord
    retry_at: datetime | None
    saved_at: datetime

    @property
    def is_wait(self) -> bool:
        """Whether it is the wait of a `receive`, and nothing has failed."""
        return self.number == 0

    @property
    def is_begin(self) -> bool:
        """Whether it is the begin of attempt `-number`, and nothing has failed yet."""
        return self.number < 0

    @property
    def order(self) -> tuple[int, bool]:
        """Its place among the attempts of a round: what came of an attempt follows its begin."""
        return abs(self.number), self.number > 0


@dataclass(frozen=True, slots=True, kw_only=True)
class History:
    """What a workflow has recorded so far.

    `steps` maps step ids to outputs, `naps` nap ids to wake-up instants, `attempts` step ids to the
    latest attempt of the current round, and `receipts` the ids of steps that received a
    message, or none in time, to what they have got.
    """

    steps: dict[str, Any] = field(default_factory=dict)
    naps: dict[str, datetime] = field(default_factory=dict)
    attempts: dict[str, Attempt] = field(default_factory=dict)
    receipts: dict[str, Receipt] = field(default_factory=dict)
