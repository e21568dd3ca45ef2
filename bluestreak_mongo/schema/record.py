"""What steps and naps have in common."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

from bson import ObjectId

from bluestreak_core.clock import in_milliseconds
from bluestreak_core.model import Workflow
from bluestreak_mongo.schema.document import FIRST_DATE, WORKFLOW_ID, Document

SAVED_AT = "savedAt"
WORKFLOW_CREATED_AT = "workflowCreatedAt"
"""The milliseconds from 1970 to the `createdAt` of a record's workflow, or null; see `Owner`.

A number, since a history with a date in each record takes twice as long to decode.
"""

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)


class Owner(NamedTuple):
    """A workflow that steps and naps belong to, as opposed to a deleted one of the same id."""

    workflow_id: str
    created_ms: int | None

    @classmethod
    def of(cls, workflow: Workflow) -> Owner:
        """The owner of what this workflow records."""
        return cls(workflow.workflow_id, _milliseconds(workflow.created_at))

    @classmethod
    def created(cls, workflow_id: str, created_at: object) -> Owner:
        """Likewise, by what is stored in its workflow as `createdAt`."""
        return cls(workflow_id, _milliseconds(created_at))

    def owns(self, record: Mapping[str, Any]) -> bool:
        """Whether a record of this workflow id belongs to this workflow.

        A record without the field, such as one of the JavaScript library, counts as its own.
        """
        return bool(record.get(WORKFLOW_CREATED_AT, self.created_ms) == self.created_ms)

    def id_beside(self, name: str) -> str:
        """The id of a step or a nap whose place a deleted workflow's record has taken.

        Workers neither change nor delete records, so both stay.
        """
        return f"{name}\0{self.created_ms}"


def belonging_to(workflow: Workflow) -> Document:
    """The fields by which a record names its workflow."""
    created_ms = _milliseconds(workflow.created_at)
    return {WORKFLOW_ID: workflow.workflow_id, WORKFLOW_CREATED_AT: created_ms}


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
