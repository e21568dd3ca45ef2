"""What steps and naps have in common."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from functools import lru_cache
from typing import Any, NamedTuple

from bson import ObjectId

from bluestreak_core.clock import in_milliseconds
from bluestreak_core.model import Workflow
from bluestreak_mongo.schema.document import FIRST_DATE, WORKFLOW_ID, Document

SAVED_AT = "savedAt"
WORKFLOW_CREATED_AT = "workflowCreatedAt"
"""The milliseconds from 1970 to the `createdAt` of a record's workflow, or null; see `Owner`. Once
the workflow has restarted, to its `restartedAt`.

A number, since a history with a date in each record takes twice as long to decode.
"""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Owner(NamedTuple):
    """A workflow that steps and naps belong to, as opposed to a deleted one of the same id.

    Each generation of a workflow that restarts is another owner. Its mailbox has the same one
    throughout.
    """

    workflow_id: str
    begun_ms: int | None
    is_restarted: bool = False

    @classmethod
    def of(cls, workflow: Workflow) -> Owner:
        """The owner of what this workflow records."""
        return _owner(workflow.workflow_id, workflow.created_at, workflow.restarted_at)

    @classmethod
    def stored(cls, workflow_id: str, created_at: object, restarted_at: object) -> Owner:
        """Likewise, by what is stored in its workflow as `createdAt` and as `restartedAt`."""
        restarted_ms = _milliseconds(restarted_at)
        if restarted_ms is None:
            return cls(workflow_id, _milliseconds(created_at))
        return cls(workflow_id, restarted_ms, is_restarted=True)

    @classmethod
    def of_mail(cls, workflow_id: str, created_at: object) -> Owner:
        """The owner of the mailbox of a workflow, by its creation."""
        return cls(workflow_id, _milliseconds(created_at))

    def owns(self, record: Mapping[str, Any]) -> bool:
        """Whether a record of this workflow id belongs to this workflow.

        A record without the field, such as one of the JavaScript library, counts as its own, unless
        the workflow has restarted: it may be of any generation.
        """
        if self.is_restarted:
            return bool(record.get(WORKFLOW_CREATED_AT) == self.begun_ms)
        return bool(record.get(WORKFLOW_CREATED_AT, self.begun_ms) == self.begun_ms)

    @property
    def stamp(self) -> Document:
        """The fields by which a record names its workflow."""
        return {WORKFLOW_ID: self.workflow_id, WORKFLOW_CREATED_AT: self.begun_ms}

    def place_of(self, name: str) -> str:
        """The id under which a step or a nap is kept.

        That of a restarted workflow is always beside: its last generation may have taken the place,
        and may free it again, since its records are deleted.
        """
        return self.id_beside(name) if self.is_restarted else name

    def id_beside(self, name: str) -> str:
        """The id of a step or a nap whose place a deleted workflow's record has taken.

        Workers neither change nor delete such records, so both stay.
        """
        return f"{name}\0{self.begun_ms}"


def own_id(record: Mapping[str, Any], stored: str) -> str:
    """The id of a step or a nap, wherever it is kept. JavaScript's may have any character."""
    return stored.partition("\0")[0] if WORKFLOW_CREATED_AT in record else stored


def recorded_at(record: Mapping[str, Any]) -> datetime:
    """When a step or a nap was recorded; JavaScript says so by the `_id` alone, to the second."""
    saved_at, key = record.get(SAVED_AT), record["_id"]
    if isinstance(saved_at, datetime):
        return in_milliseconds(saved_at)
    return key.generation_time if isinstance(key, ObjectId) else FIRST_DATE


def _milliseconds(instant: object) -> int | None:
    return (instant - _EPOCH) // _MILLISECOND if isinstance(instant, datetime) else None


@lru_cache(maxsize=1024)
def _owner(workflow_id: str, created_at: datetime | None, restarted_at: datetime | None) -> Owner:
    """`Owner.stored`, which is asked for with each record of a run."""
    return Owner.stored(workflow_id, created_at, restarted_at)
