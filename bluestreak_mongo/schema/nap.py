"""The documents of naps, among which failed attempts are kept.

A failed attempt of a step is a nap until the next attempt, under an id that no nap can have: no
other id has a NUL in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bluestreak_core.model import Attempt, Nap, Workflow
from bluestreak_mongo.schema.document import NAPS, WORKFLOW_ID, Document
from bluestreak_mongo.schema.error import from_error, read_error
from bluestreak_mongo.schema.reader import MAX_COUNT, Reader
from bluestreak_mongo.schema.record import SAVED_AT, Owner, own_id
from bluestreak_mongo.schema.step import STEP_ID

NAP_ID = "napId"
WAKE_UP_AT = "wakeUpAt"

ATTEMPT = "attempt"
ATTEMPT_ROUND = "round"
ATTEMPT_NUMBER = "number"
ATTEMPT_ERROR = "error"
ATTEMPT_IS_LAST = "isLast"


def from_nap(workflow: Workflow, nap_id: str, wake_up_at: datetime, saved_at: datetime) -> Document:
    """The document of a nap."""
    owner = Owner.of(workflow)
    place = owner.place_of(nap_id)
    return owner.stamp | {NAP_ID: place, WAKE_UP_AT: wake_up_at, SAVED_AT: saved_at}


def from_attempt(workflow: Workflow, attempt: Attempt) -> Document:
    """The document of a failed attempt."""
    owner = Owner.of(workflow)
    return owner.stamp | {
        NAP_ID: owner.place_of(f"{attempt.step_id}\0{attempt.round}\0{attempt.number}"),
        WAKE_UP_AT: attempt.retry_at or attempt.saved_at,
        SAVED_AT: attempt.saved_at,
        ATTEMPT: {
            STEP_ID: attempt.step_id,
            ATTEMPT_ROUND: attempt.round,
            ATTEMPT_NUMBER: attempt.number,
            ATTEMPT_ERROR: from_error(attempt.error),
            ATTEMPT_IS_LAST: attempt.retry_at is None,
        },
    }


def to_nap(document: Mapping[str, Any]) -> Nap:
    """The nap in a document, whichever library wrote it."""
    read = Reader(NAPS, document)
    return Nap(
        workflow_id=read.text(WORKFLOW_ID),
        nap_id=own_id(document, read.text(NAP_ID)),
        wake_up_at=read.instant(WAKE_UP_AT),
        saved_at=read.optional_instant(SAVED_AT),
    )


def to_attempt(document: Mapping[str, Any]) -> Attempt:
    """The failed attempt in a document."""
    read = Reader(NAPS, document)
    inside = read.inside(ATTEMPT)
    return Attempt(
        workflow_id=read.text(WORKFLOW_ID),
        step_id=inside.text(STEP_ID),
        round=inside.count(ATTEMPT_ROUND),
        number=inside.count(ATTEMPT_NUMBER, least=-MAX_COUNT),
        error=read_error(inside.inside(ATTEMPT_ERROR)),
        retry_at=None if inside.flag(ATTEMPT_IS_LAST) else read.instant(WAKE_UP_AT),
        saved_at=read.instant(SAVED_AT),
    )


def to_record(document: Mapping[str, Any]) -> Nap | Attempt:
    """The nap or the failed attempt in a document."""
    return to_attempt(document) if ATTEMPT in document else to_nap(document)


def to_replayed(document: Mapping[str, Any]) -> Nap | Attempt:
    """Likewise for a history, which needs no `savedAt` of a nap: an unreadable one is ignored."""
    if ATTEMPT in document:
        return to_attempt(document)
    return to_nap({field: document[field] for field in document if field != SAVED_AT})
