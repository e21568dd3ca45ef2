"""A step that was given up, as an entry of its workflow's list of them."""

from __future__ import annotations

from bluestreak_core.model import FailedChild, FailedStep
from bluestreak_mongo.schema.document import WORKFLOW_ID, Document
from bluestreak_mongo.schema.error import from_error, read_error
from bluestreak_mongo.schema.reader import Reader
from bluestreak_mongo.schema.step import STEP_ID

ERROR = "error"
ATTEMPTS = "attempts"
FAILED_AT = "failedAt"
CHILD = "child"
CHILD_STATUS = "status"


def from_failed_step(failed: FailedStep) -> Document:
    """The document of an entry."""
    document = {
        STEP_ID: failed.step_id,
        ERROR: from_error(failed.error),
        ATTEMPTS: failed.attempts,
        FAILED_AT: failed.failed_at,
    }
    if (child := failed.child) is not None:
        document[CHILD] = {WORKFLOW_ID: child.workflow_id, CHILD_STATUS: child.status.value}
    return document


def read_failed_step(read: Reader) -> FailedStep:
    """The entry in a document."""
    return FailedStep(
        step_id=read.text(STEP_ID),
        error=read_error(read.inside(ERROR)),
        attempts=read.count(ATTEMPTS),
        failed_at=read.instant(FAILED_AT),
        child=_read_child(read.inside(CHILD)) if read.has(CHILD) else None,
    )


def _read_child(read: Reader) -> FailedChild:
    return FailedChild(workflow_id=read.text(WORKFLOW_ID), status=read.status(CHILD_STATUS))
