"""Changes of the state machine as updates."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from typing import Any

from bluestreak_core.machine import Change
from bluestreak_core.model import (
    ClaimEntry,
    ErrorRecord,
    FailedStep,
    Published,
    Status,
)
from bluestreak_mongo.schema import Document
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.claim_entry import from_claim_entry
from bluestreak_mongo.schema.error import from_error
from bluestreak_mongo.schema.failed_step import from_failed_step
from bluestreak_mongo.schema.published import from_published

FIELDS: Mapping[str, str] = {
    "status": wf.STATUS,
    "timeout_at": wf.TIMEOUT_AT,
    "claim_token": wf.CLAIM,
    "claims": wf.CLAIMS,
    "crashes": wf.CRASHES,
    "failures": wf.FAILURES,
    "worker": wf.WORKER,
    "claim_log": wf.CLAIM_LOG,
    "started_at": wf.STARTED_AT,
    "finished_at": wf.FINISHED_AT,
    "result": wf.RESULT,
    "error": wf.ERROR,
    "start_at": wf.START_AT,
    "retries": wf.RETRIES,
    "controls": wf.CONTROLS,
    "failed_steps": wf.FAILED_STEPS,
    "reason": wf.REASON,
    "waiting_for": wf.WAITING_FOR,
    "mail": wf.MAIL,
    "unsettled": wf.UNSETTLED,
    "beats": wf.BEATS,
    "published": wf.PUBLISHED,
    "input": wf.INPUT,
    "generation": wf.GENERATION,
    "restarted_at": wf.RESTARTED_AT,
    "compensates": wf.COMPENSATES,
    "outcome": wf.OUTCOME,
    "stopped_at": wf.STOPPED_AT,
    "leased_until": wf.LEASED_UNTIL,
}
"""Where a document has the fields that a change may touch."""


_STORED: Mapping[type, Callable[[Any], Any]] = {
    Status: lambda status: status.value,
    tuple: lambda entries: [_stored_value(entry) for entry in entries],
    ErrorRecord: from_error,
    FailedStep: from_failed_step,
    ClaimEntry: from_claim_entry,
    Published: from_published,
}
"""How a document has what is neither a date nor a plain value."""


def update(moved: Change) -> Document:
    """The update that carries out a change."""
    operators = {
        operator: stored(fields)
        for operator, fields in (
            ("$set", moved.set),
            ("$unset", dict.fromkeys(moved.clear, 1)),
            ("$inc", moved.add),
            ("$min", moved.at_most),
            ("$max", moved.at_least),
            ("$push", moved.append),
        )
        if fields
    }
    if moved.keep is not None:
        operators["$push"] = {
            field: {"$each": [entry], "$slice": -moved.keep}
            for field, entry in operators["$push"].items()
        }
    return operators


def pipeline(moved: Change) -> list[Document]:
    """`update` for a change that compares fields, and appends nothing."""
    fields: Document = {field: {"$literal": value} for field, value in stored(moved.set).items()}
    for field, count in stored(moved.add).items():
        fields[field] = {"$add": [{"$ifNull": [f"${field}", 0]}, count]}
    for field, value in stored(moved.at_least).items():
        fields[field] = {"$max": [f"${field}", value]}
    for name, other in moved.not_before.items():
        field = FIELDS[name]
        fields[field] = {"$max": [fields.get(field, f"${field}"), f"${FIELDS[other]}"]}
    return [{"$set": fields}, {"$project": {FIELDS[name]: 0 for name in moved.clear}}]


def stored(fields: Mapping[str, Any]) -> Document:
    """New values as they are stored, by where a document has them."""
    return {FIELDS[name]: _stored_value(value) for name, value in fields.items()}


def _stored_value(value: Any) -> Any:
    return _STORED[type(value)](value) if type(value) in _STORED else value


def or_missing(value: Any) -> Any:
    """Matches a value; an empty one may be missing."""
    return value or {"$in": [value, None]}


def in_any(statuses: Collection[Status]) -> Document:
    """Matches the workflows in one of these states."""
    return {wf.STATUS: {"$in": [status.value for status in statuses]}}
