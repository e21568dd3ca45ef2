"""A step that was given up, as an entry of its workflow's list of them."""

from __future__ import annotations

from bluestreak_core.model import FailedStep
from bluestreak_mongo.schema.document import Document
from bluestreak_mongo.schema.error import from_error, read_error
from bluestreak_mongo.schema.reader import Reader
from bluestreak_mongo.schema.step import STEP_ID

ERROR = "error"
ATTEMPTS = "attempts"
FAILED_AT = "failedAt"


def from_failed_step(failed: FailedStep) -> Document:
    """The document of an entry."""
    return {
        STEP_ID: failed.step_id,
        ERROR: from_error(failed.error),
        ATTEMPTS: failed.attempts,
        FAILED_AT: failed.failed_at,
    }


def read_failed_step(read: Reader) -> FailedStep:
    """The entry in a document."""
    return FailedStep(
        step_id=read.text(STEP_ID),
        error=read_error(read.inside(ERROR)),
        attempts=read.count(ATTEMPTS),
        failed_at=read.instant(FAILED_AT),
    )
