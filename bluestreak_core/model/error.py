"""Errors and failures as they are stored."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from bluestreak_core.model.status import Status


@dataclass(frozen=True, slots=True, kw_only=True)
class ErrorRecord:
    """An exception as it is stored: plain text, truncated so that it always fits a record."""

    type: str
    message: str
    traceback: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """What `Store.fail` records. `retry_at` is None if the workflow is not tried again."""

    error: ErrorRecord
    retry_at: datetime | None


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
