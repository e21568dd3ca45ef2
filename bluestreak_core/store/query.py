"""The questions and answers of `SupportsSearch` and `SupportsPruning`."""

from __future__ import annotations

import json
from base64 import urlsafe_b64decode, urlsafe_b64encode
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from bluestreak_core.errors import InvalidArgument
from bluestreak_core.model import Attempt, Nap, Parent, Status, Step, Workflow

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_FIRST = datetime.min.replace(tzinfo=UTC)
_CURSOR_VERSION = 1

ENDED = tuple(status for status in Status if status.ended)
"""The states of workflows that have ended."""


class Order(StrEnum):
    """The order of a list of workflows."""

    NEWEST = "newest"
    """By `created_at` and then by id, both descending."""

    OLDEST = "oldest"
    """The reverse of `NEWEST`."""

    ID = "id"
    """By id, in the order of its UTF-8 bytes."""


class CountBy(StrEnum):
    """The field that workflows are counted by."""

    STATUS = "status"
    HANDLER_ID = "handler_id"


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkflowSummary:
    """A workflow without its input, its result and other large fields.

    The fields are those of `Workflow`; `error_type` and `error_message` are from its last error.
    `cursor` is its position in the list that it came from, for `list(after=...)`.
    """

    workflow_id: str
    handler_id: str
    status: Status
    timeout_at: datetime
    failures: int = 0
    crashes: int = 0
    claims: int = 0
    retries: int = 0
    worker: str | None = None
    created_at: datetime | None = None
    start_at: datetime | None = None
    started_at: datetime | None = None
    finished_at: datetime | None = None
    reason: str | None = None
    error_type: str | None = None
    error_message: str | None = None
    waiting_for: tuple[str, ...] = ()
    parent: Parent | None = None
    cursor: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class ListPosition:
    """The position of a workflow in a list. It never changes.

    A workflow without `created_at` counts as the oldest.
    """

    workflow_id: str
    created_at: datetime | None = None

    @classmethod
    def of(cls, workflow: Workflow | WorkflowSummary) -> ListPosition:
        """The position of a workflow."""
        return cls(workflow_id=workflow.workflow_id, created_at=workflow.created_at)

    def key(self, order: Order) -> tuple[Any, ...]:
        """A sort key, ascending; `NEWEST` sorts by it in reverse."""
        if order is Order.ID:
            return (self.workflow_id,)
        return (self.created_at or _FIRST, self.created_at is not None, self.workflow_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Query:
    """A filter for workflows, and their order. A condition that is None always holds.

    `waiting_for` is the name of a message that a parked workflow waits for, `parent` the id of a
    workflow's parent.
    `created_from` is inclusive, `created_until` exclusive. A workflow that the JavaScript library
    created has no `created_at`, so no such range contains it. A workflow that is marked for
    deletion is never accepted.
    """

    statuses: frozenset[Status] | None = None
    handler_id: str | None = None
    id_prefix: str | None = None
    waiting_for: str | None = None
    parent: str | None = None
    created_from: datetime | None = None
    created_until: datetime | None = None
    order: Order = Order.NEWEST

    def accepts(self, workflow: Workflow) -> bool:
        """Whether a workflow satisfies all conditions."""
        return (
            workflow.pruned_at is None
            and (self.statuses is None or workflow.status in self.statuses)
            and (self.handler_id is None or workflow.handler_id == self.handler_id)
            and (self.id_prefix is None or workflow.workflow_id.startswith(self.id_prefix))
            and (self.waiting_for is None or self.waiting_for in workflow.waiting_for)
            and (self.parent is None or _has_parent(workflow, self.parent))
            and self._is_in_range(workflow.created_at)
        )

    @property
    def has_range(self) -> bool:
        """Whether the query filters by `created_at`."""
        return self.created_from is not None or self.created_until is not None

    def _is_in_range(self, created_at: datetime | None) -> bool:
        if not self.has_range:
            return True
        return (
            created_at is not None
            and (self.created_from is None or created_at >= self.created_from)
            and (self.created_until is None or created_at < self.created_until)
        )

    def page_of(
        self, summaries: Collection[WorkflowSummary], after: ListPosition | None, limit: int
    ) -> list[WorkflowSummary]:
        """The first `limit` of some accepted summaries after a position, in this query's order."""
        ordered = sorted(summaries, key=self._key, reverse=self.order is Order.NEWEST)
        if after is not None:
            ordered = [summary for summary in ordered if self._is_behind(summary, after)]
        return ordered[:limit]

    def _key(self, summary: WorkflowSummary) -> tuple[Any, ...]:
        return ListPosition.of(summary).key(self.order)

    def _is_behind(self, summary: WorkflowSummary, after: ListPosition) -> bool:
        key, after_key = self._key(summary), after.key(self.order)
        return key < after_key if self.order is Order.NEWEST else key > after_key


@dataclass(frozen=True, slots=True, kw_only=True)
class Records:
    """All records of one workflow, each kind in the order of recording."""

    steps: tuple[Step, ...] = ()
    naps: tuple[Nap, ...] = ()
    attempts: tuple[Attempt, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Pruned:
    """The numbers of deleted workflows, steps, naps and messages. Failed attempts count as naps."""

    workflows: int = 0
    steps: int = 0
    naps: int = 0
    messages: int = 0

    def __add__(self, other: Pruned) -> Pruned:
        return Pruned(
            workflows=self.workflows + other.workflows,
            steps=self.steps + other.steps,
            naps=self.naps + other.naps,
            messages=self.messages + other.messages,
        )


def to_summary(workflow: Workflow) -> WorkflowSummary:
    """The summary of a workflow, without a cursor."""
    error = workflow.error
    return WorkflowSummary(
        workflow_id=workflow.workflow_id,
        handler_id=workflow.handler_id,
        status=workflow.status,
        timeout_at=workflow.timeout_at,
        failures=workflow.failures,
        crashes=workflow.crashes,
        claims=workflow.claims,
        retries=workflow.retries,
        worker=workflow.worker,
        created_at=workflow.created_at,
        start_at=workflow.start_at,
        started_at=workflow.started_at,
        finished_at=workflow.finished_at,
        reason=workflow.reason,
        error_type=None if error is None else error.type,
        error_message=None if error is None else error.message,
        waiting_for=workflow.waiting_for,
        parent=workflow.parent,
    )


def _has_parent(workflow: Workflow, workflow_id: str) -> bool:
    return workflow.parent is not None and workflow.parent.workflow_id == workflow_id


def to_cursor(position: ListPosition, order: Order) -> str:
    """A position in a list of this order, as an opaque text."""
    created_at = position.created_at
    at = None if created_at is None else (created_at - _EPOCH) // _MILLISECOND
    fields = [_CURSOR_VERSION, order.value, at, position.workflow_id]
    text = json.dumps(fields, separators=(",", ":"), ensure_ascii=False)
    return urlsafe_b64encode(text.encode()).decode().rstrip("=")


def from_cursor(
    name: str, cursor: str, order: Order, check_id: Callable[[str], str]
) -> ListPosition:
    """The position behind a cursor.

    Raises `InvalidArgument`, with `name`, for any other text and for a cursor of another order.
    """
    try:
        fields = json.loads(urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)))
        version, cursor_order, at, workflow_id = fields
        created_at = None if at is None else _EPOCH + at * _MILLISECOND
        position = ListPosition(workflow_id=check_id(workflow_id), created_at=created_at)
        is_valid = version == _CURSOR_VERSION and to_cursor(position, Order(cursor_order)) == cursor
    except (ValueError, TypeError, OverflowError, RecursionError) as error:
        raise InvalidArgument(name, cursor, "expected the cursor of a summary") from error
    if not is_valid:
        raise InvalidArgument(name, cursor, "expected the cursor of a summary")
    if cursor_order != order:
        reason = f"it comes from a list in the order {cursor_order!r}"
        raise InvalidArgument(name, cursor, reason)
    return position
