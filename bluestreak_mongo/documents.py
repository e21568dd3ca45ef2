"""The stored documents: the only place that spells the name of a collection or a field.

The first group of fields of each collection is what the JavaScript library writes, which may share
the database; they are never renamed or retyped. The second group is ours, and it ignores them.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, NoReturn

from pymongo import ASCENDING, IndexModel

from bluestreak_core.clock import in_milliseconds
from bluestreak_core.errors import CorruptDocument
from bluestreak_core.model import ClaimEntry, ErrorRecord, Nap, Status, Step, Workflow

Document = dict[str, Any]

WORKFLOWS = "workflows"
STEPS = "steps"
NAPS = "naps"

WORKFLOW_ID = "workflowId"
HANDLER_ID = "handlerId"
INPUT = "input"
FAILURES = "failures"
STATUS = "status"
TIMEOUT_AT = "timeoutAt"
RESULT = "result"

CLAIM = "claim"
CLAIMS = "claims"
CRASHES = "crashes"
WORKER = "worker"
CREATED_AT = "createdAt"
STARTED_AT = "startedAt"
FINISHED_AT = "finishedAt"
ERROR = "error"
CLAIM_LOG = "claimLog"

ERROR_TYPE = "type"
ERROR_MESSAGE = "message"
ERROR_TRACEBACK = "traceback"

ENTRY_WORKER = "worker"
ENTRY_CLAIMED_AT = "claimedAt"
ENTRY_AFTER_CRASH = "afterCrash"

STEP_ID = "stepId"
OUTPUT = "output"

NAP_ID = "napId"
WAKE_UP_AT = "wakeUpAt"

SAVED_AT = "savedAt"

WORKFLOW_INDEXES = [
    IndexModel([(WORKFLOW_ID, ASCENDING)], unique=True),
    IndexModel([(STATUS, ASCENDING), (TIMEOUT_AT, ASCENDING)]),
]
STEP_INDEXES = [IndexModel([(WORKFLOW_ID, ASCENDING), (STEP_ID, ASCENDING)], unique=True)]
NAP_INDEXES = [IndexModel([(WORKFLOW_ID, ASCENDING), (NAP_ID, ASCENDING)], unique=True)]


def from_workflow(workflow: Workflow) -> Document:
    """The document of a workflow that has just been created."""
    return {
        WORKFLOW_ID: workflow.workflow_id,
        HANDLER_ID: workflow.handler_id,
        INPUT: workflow.input,
        FAILURES: workflow.failures,
        STATUS: workflow.status.value,
        TIMEOUT_AT: workflow.timeout_at,
        CLAIMS: workflow.claims,
        CRASHES: workflow.crashes,
        CREATED_AT: workflow.created_at,
    }


def from_step(step: Step) -> Document:
    """The document of a step."""
    return {
        WORKFLOW_ID: step.workflow_id,
        STEP_ID: step.step_id,
        OUTPUT: step.output,
        SAVED_AT: step.saved_at,
    }


def from_nap(nap: Nap) -> Document:
    """The document of a nap."""
    return {
        WORKFLOW_ID: nap.workflow_id,
        NAP_ID: nap.nap_id,
        WAKE_UP_AT: nap.wake_up_at,
        SAVED_AT: nap.saved_at,
    }


def from_error(error: ErrorRecord) -> Document:
    """An error, as a field of a workflow."""
    return {
        ERROR_TYPE: error.type,
        ERROR_MESSAGE: error.message,
        ERROR_TRACEBACK: error.traceback,
    }


def from_claim_entry(entry: ClaimEntry) -> Document:
    """An entry of a workflow's claim log."""
    return {
        ENTRY_WORKER: entry.worker,
        ENTRY_CLAIMED_AT: entry.claimed_at,
        ENTRY_AFTER_CRASH: entry.after_crash,
    }


def to_workflow(document: Mapping[str, Any]) -> Workflow:
    """The workflow in a document, whichever library wrote it."""
    read = _Reader(WORKFLOWS, document)
    return Workflow(
        workflow_id=read.text(WORKFLOW_ID),
        handler_id=read.text(HANDLER_ID),
        input=document.get(INPUT),
        status=read.status(),
        timeout_at=read.instant(TIMEOUT_AT),
        failures=read.count(FAILURES),
        crashes=read.count(CRASHES),
        claims=read.count(CLAIMS),
        claim_token=document.get(CLAIM),
        worker=document.get(WORKER),
        claim_log=tuple(_to_claim_entry(entry) for entry in document.get(CLAIM_LOG, ())),
        created_at=document.get(CREATED_AT),
        started_at=document.get(STARTED_AT),
        finished_at=document.get(FINISHED_AT),
        result=document.get(RESULT),
        error=_to_error(document.get(ERROR)),
    )


def to_step(document: Mapping[str, Any]) -> Step:
    """The step in a document, whichever library wrote it."""
    read = _Reader(STEPS, document)
    return Step(
        workflow_id=read.text(WORKFLOW_ID),
        step_id=read.text(STEP_ID),
        output=document.get(OUTPUT),
        saved_at=document.get(SAVED_AT),
    )


def to_nap(document: Mapping[str, Any]) -> Nap:
    """The nap in a document, whichever library wrote it."""
    read = _Reader(NAPS, document)
    return Nap(
        workflow_id=read.text(WORKFLOW_ID),
        nap_id=read.text(NAP_ID),
        wake_up_at=read.instant(WAKE_UP_AT),
        saved_at=document.get(SAVED_AT),
    )


def _to_error(error: Mapping[str, str] | None) -> ErrorRecord | None:
    if error is None:
        return None
    return ErrorRecord(
        type=error[ERROR_TYPE], message=error[ERROR_MESSAGE], traceback=error[ERROR_TRACEBACK]
    )


def _to_claim_entry(entry: Mapping[str, Any]) -> ClaimEntry:
    return ClaimEntry(
        worker=entry[ENTRY_WORKER],
        claimed_at=entry[ENTRY_CLAIMED_AT],
        after_crash=entry[ENTRY_AFTER_CRASH],
    )


class _Reader:
    """Reads the fields that a document cannot do without."""

    def __init__(self, collection: str, document: Mapping[str, Any]) -> None:
        self._collection = collection
        self._document = document

    def text(self, field: str) -> str:
        value = self._document.get(field)
        return value if isinstance(value, str) else self._refuse(field, "is not a string")

    def count(self, field: str) -> int:
        """A number, which JavaScript may have stored as a double."""
        value = self._document.get(field, 0)
        return int(value) if isinstance(value, int | float) else self._refuse(field, "is no number")

    def instant(self, field: str) -> datetime:
        value = self._document.get(field)
        if not isinstance(value, datetime):
            self._refuse(field, "is not a date")
        return in_milliseconds(value)

    def status(self) -> Status:
        value = self._document.get(STATUS)
        try:
            return Status(value or "")
        except ValueError:
            self._refuse(STATUS, f"is {value!r}")

    def _refuse(self, field: str, reason: str) -> NoReturn:
        name = self._document.get(WORKFLOW_ID, self._document.get("_id"))
        raise CorruptDocument(self._collection, name, field, reason)
