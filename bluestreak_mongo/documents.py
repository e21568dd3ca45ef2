"""The stored documents: the only place that spells the name of a collection or a field.

The first group of fields of each collection is what the JavaScript library writes, which may share
the database; they are never renamed or retyped. The second group is ours, and it ignores them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any, NoReturn

from bson import ObjectId
from pymongo import ASCENDING, IndexModel

from bluestreak_core.clock import in_milliseconds
from bluestreak_core.errors import CorruptDocument
from bluestreak_core.model import (
    Attempt,
    ClaimEntry,
    ErrorRecord,
    FailedStep,
    Nap,
    Status,
    Step,
    Workflow,
)
from bluestreak_core.store import WorkflowSummary

Document = dict[str, Any]
Index = list[tuple[str, int]]

FIRST_DATE = datetime.min.replace(tzinfo=UTC)
"""No date that Python has is before it; bounds of an index can be made from it."""

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
START_AT = "startAt"
RETRIES = "retries"
CONTROLS = "controls"
FAILED_STEPS = "failedSteps"
REASON = "reason"
FORKED_FROM = "forkedFrom"
FORKING = "forking"
TRANSACTIONS = "transactions"
SESSION = "session"
PRUNED_AT = "prunedAt"

ERROR_TYPE = "type"
ERROR_MESSAGE = "message"
ERROR_TRACEBACK = "traceback"

FAILED_STEP_ID = "stepId"
FAILED_ERROR = "error"
FAILED_ATTEMPTS = "attempts"
FAILED_AT = "failedAt"

FORKING_BEFORE = "before"
FORKING_KEY = "key"

ENTRY_WORKER = "worker"
ENTRY_CLAIMED_AT = "claimedAt"
ENTRY_AFTER_CRASH = "afterCrash"

STEP_ID = "stepId"
OUTPUT = "output"

NAP_ID = "napId"
WAKE_UP_AT = "wakeUpAt"

SAVED_AT = "savedAt"
WORKFLOW_CREATED_AT = "workflowCreatedAt"
"""The milliseconds from 1970 to the `createdAt` of a record's workflow, or null; see `Owner`.

A number, since a history with a date in each record takes twice as long to decode.
"""

# A failed attempt of a step is a nap until the next one, under an id that no nap can have.
ATTEMPT = "attempt"
ATTEMPT_STEP_ID = "stepId"
ATTEMPT_ROUND = "round"
ATTEMPT_NUMBER = "number"
ATTEMPT_ERROR = "error"
ATTEMPT_IS_LAST = "isLast"

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
_MAX_COUNT = 2**53  # the last whole number that a double counts up to

STATE_FIELDS = (
    *(WORKFLOW_ID, HANDLER_ID, FAILURES, STATUS, TIMEOUT_AT),
    *(CLAIM, CLAIMS, CRASHES, CLAIM_LOG, CONTROLS),
)
"""What tells where a workflow stands, without its values."""

_RARE_FIELDS = frozenset(
    {START_AT, RETRIES, CONTROLS, FAILED_STEPS, REASON, FORKED_FROM, PRUNED_AT}
)
"""What most workflows do without."""

SUMMARY_FIELDS = (
    *(WORKFLOW_ID, HANDLER_ID, FAILURES, STATUS, TIMEOUT_AT, CLAIMS, CRASHES, RETRIES, WORKER),
    *(CREATED_AT, STARTED_AT, FINISHED_AT, START_AT, REASON),
    *(f"{ERROR}.{ERROR_TYPE}", f"{ERROR}.{ERROR_MESSAGE}"),
)
"""What is shown of a workflow in a list."""

RARE = (Status.FAILED, Status.ABORTED, Status.PAUSED, Status.CANCELLED)
"""The states that a workflow is never in if all goes well."""

BY_ID: Index = [(WORKFLOW_ID, ASCENDING)]
BY_STEP: Index = [(WORKFLOW_ID, ASCENDING), (STEP_ID, ASCENDING)]
BY_NAP: Index = [(WORKFLOW_ID, ASCENDING), (NAP_ID, ASCENDING)]
BY_DUE: Index = [(STATUS, ASCENDING), (TIMEOUT_AT, ASCENDING)]
BY_CREATED: Index = [(CREATED_AT, ASCENDING), (WORKFLOW_ID, ASCENDING)]
BY_HANDLER: Index = [(HANDLER_ID, ASCENDING), *BY_CREATED]
BY_RARE_STATUS: Index = [(STATUS, ASCENDING), *BY_CREATED, (HANDLER_ID, ASCENDING)]

# But for the first two, which the JavaScript library creates as well, none of them is changed when
# a workflow is claimed, or when it finishes: that would cost every workflow a good deal.
WORKFLOW_INDEXES = [
    IndexModel(BY_ID, unique=True),
    IndexModel(BY_DUE),
    IndexModel(BY_CREATED),
    IndexModel(BY_HANDLER),
    IndexModel(
        BY_RARE_STATUS,
        partialFilterExpression={STATUS: {"$in": [status.value for status in RARE]}},
    ),
]
STEP_INDEXES = [IndexModel(BY_STEP, unique=True)]
NAP_INDEXES = [IndexModel(BY_NAP, unique=True)]


@dataclass(frozen=True, slots=True)
class Owner:
    """A workflow that steps and naps belong to, as opposed to a deleted one of the same id."""

    workflow_id: str
    created_ms: int | None

    @classmethod
    def of(cls, workflow: Workflow) -> Owner:
        """The owner of what this workflow records."""
        return cls(workflow.workflow_id, _milliseconds(workflow.created_at))

    @classmethod
    def in_document(cls, workflow_id: str, document: Mapping[str, Any] | None) -> Owner:
        """Likewise, from the document of a workflow that may lack all fields but `CREATED_AT`."""
        return cls(workflow_id, _milliseconds((document or {}).get(CREATED_AT)))

    @property
    def fields(self) -> Document:
        """The fields by which a record names its workflow."""
        return {WORKFLOW_ID: self.workflow_id, WORKFLOW_CREATED_AT: self.created_ms}

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


def _milliseconds(instant: object) -> int | None:
    return (instant - _EPOCH) // _MILLISECOND if isinstance(instant, datetime) else None


def from_workflow(workflow: Workflow) -> Document:
    """The document of a workflow that has just been created."""
    document = {
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
    if workflow.start_at is not None:
        document[START_AT] = workflow.start_at
    if workflow.forked_from is not None:
        document[FORKED_FROM] = workflow.forked_from
    if workflow.failed_steps:
        document[FAILED_STEPS] = [from_failed_step(failed) for failed in workflow.failed_steps]
    return document


def from_step(workflow: Workflow, step_id: str, output: Any, saved_at: datetime) -> Document:
    """The document of a step."""
    return Owner.of(workflow).fields | {STEP_ID: step_id, OUTPUT: output, SAVED_AT: saved_at}


def from_nap(workflow: Workflow, nap_id: str, wake_up_at: datetime, saved_at: datetime) -> Document:
    """The document of a nap."""
    return Owner.of(workflow).fields | {NAP_ID: nap_id, WAKE_UP_AT: wake_up_at, SAVED_AT: saved_at}


def attempt_id(step_id: str, round: int, number: int) -> str:
    """The id under which a failed attempt is kept among the naps. No other id has a NUL in it."""
    return f"{step_id}\0{round}\0{number}"


def own_id(record: Mapping[str, Any], stored: str) -> str:
    """The id of a step or a nap, wherever it is kept. JavaScript's may have any character."""
    return stored.partition("\0")[0] if WORKFLOW_CREATED_AT in record else stored


def from_attempt(workflow: Workflow, attempt: Attempt) -> Document:
    """The document of a failed attempt."""
    return Owner.of(workflow).fields | {
        NAP_ID: attempt_id(attempt.step_id, attempt.round, attempt.number),
        WAKE_UP_AT: attempt.retry_at or attempt.saved_at,
        SAVED_AT: attempt.saved_at,
        ATTEMPT: {
            ATTEMPT_STEP_ID: attempt.step_id,
            ATTEMPT_ROUND: attempt.round,
            ATTEMPT_NUMBER: attempt.number,
            ATTEMPT_ERROR: from_error(attempt.error),
            ATTEMPT_IS_LAST: attempt.retry_at is None,
        },
    }


def from_failed_step(failed: FailedStep) -> Document:
    """A step that was given up, as an entry of its workflow's list of them."""
    return {
        FAILED_STEP_ID: failed.step_id,
        FAILED_ERROR: from_error(failed.error),
        FAILED_ATTEMPTS: failed.attempts,
        FAILED_AT: failed.failed_at,
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
    workflow = Workflow(
        workflow_id=read.text(WORKFLOW_ID),
        handler_id=read.text(HANDLER_ID),
        input=document.get(INPUT),
        status=read.status(),
        timeout_at=read.instant(TIMEOUT_AT),
        failures=read.count(FAILURES),
        crashes=read.count(CRASHES),
        claims=read.count(CLAIMS),
        claim_token=read.optional_text(CLAIM),
        worker=read.optional_text(WORKER),
        claim_log=tuple(read.claim_log()),
        created_at=read.optional_instant(CREATED_AT),
        started_at=read.optional_instant(STARTED_AT),
        finished_at=read.optional_instant(FINISHED_AT),
        result=document.get(RESULT),
        error=read.optional_error(ERROR),
    )
    if document.keys().isdisjoint(_RARE_FIELDS):
        return workflow
    return replace(
        workflow,
        start_at=read.optional_instant(START_AT),
        retries=read.count(RETRIES),
        controls=read.count(CONTROLS),
        failed_steps=tuple(read.failed_steps()) if FAILED_STEPS in document else (),
        reason=read.optional_text(REASON),
        forked_from=read.optional_text(FORKED_FROM),
        pruned_at=read.optional_instant(PRUNED_AT),
    )


def to_summary(document: Mapping[str, Any]) -> WorkflowSummary:
    """What a list shows of a workflow, from the fields that it takes."""
    read = _Reader(WORKFLOWS, document)
    has_error = document.get(ERROR) is not None
    error = read.inside(ERROR, document[ERROR]) if has_error else read
    return WorkflowSummary(
        workflow_id=read.text(WORKFLOW_ID),
        handler_id=read.text(HANDLER_ID),
        status=read.status(),
        timeout_at=read.instant(TIMEOUT_AT),
        failures=read.count(FAILURES),
        crashes=read.count(CRASHES),
        claims=read.count(CLAIMS),
        retries=read.count(RETRIES),
        worker=read.optional_text(WORKER),
        created_at=read.optional_instant(CREATED_AT),
        start_at=read.optional_instant(START_AT),
        started_at=read.optional_instant(STARTED_AT),
        finished_at=read.optional_instant(FINISHED_AT),
        reason=read.optional_text(REASON),
        error_type=error.text(ERROR_TYPE) if has_error else None,
        error_message=error.text(ERROR_MESSAGE) if has_error else None,
    )


def to_workflow_id(document: Mapping[str, Any]) -> str:
    """The id of a workflow, from a document of which nothing else was read."""
    return _Reader(WORKFLOWS, document).text(WORKFLOW_ID)


def to_candidate(document: Mapping[str, Any]) -> tuple[str, Status]:
    """Which workflow may be claimed, and its state, from a document of which little was read."""
    read = _Reader(WORKFLOWS, document)
    read.instant(TIMEOUT_AT)
    return read.text(WORKFLOW_ID), read.status()


def to_step(document: Mapping[str, Any]) -> Step:
    """The step in a document, whichever library wrote it."""
    read = _Reader(STEPS, document)
    return Step(
        workflow_id=read.text(WORKFLOW_ID),
        step_id=own_id(document, read.text(STEP_ID)),
        output=document.get(OUTPUT),
        saved_at=read.optional_instant(SAVED_AT),
    )


def to_record(document: Mapping[str, Any]) -> Nap | Attempt:
    """What a document among the naps is, as far as a history needs to know."""
    if ATTEMPT in document:
        return to_attempt(document)
    return to_nap({field: document[field] for field in document if field != SAVED_AT})


def to_attempt(document: Mapping[str, Any]) -> Attempt:
    """The failed attempt in a document."""
    read = _Reader(NAPS, document)
    inside = read.inside(ATTEMPT, document.get(ATTEMPT))
    return Attempt(
        workflow_id=read.text(WORKFLOW_ID),
        step_id=inside.text(ATTEMPT_STEP_ID),
        round=inside.count(ATTEMPT_ROUND),
        number=inside.count(ATTEMPT_NUMBER),
        error=inside.error(ATTEMPT_ERROR),
        retry_at=None if inside.flag(ATTEMPT_IS_LAST) else read.instant(WAKE_UP_AT),
        saved_at=read.instant(SAVED_AT),
    )


def to_nap(document: Mapping[str, Any]) -> Nap:
    """The nap in a document, whichever library wrote it."""
    read = _Reader(NAPS, document)
    return Nap(
        workflow_id=read.text(WORKFLOW_ID),
        nap_id=own_id(document, read.text(NAP_ID)),
        wake_up_at=read.instant(WAKE_UP_AT),
        saved_at=read.optional_instant(SAVED_AT),
    )


def recorded_at(document: Mapping[str, Any]) -> datetime:
    """When a step or a nap was recorded; JavaScript says so by the `_id` alone, to the second."""
    saved_at, key = document.get(SAVED_AT), document["_id"]
    if isinstance(saved_at, datetime):
        return in_milliseconds(saved_at)
    return key.generation_time if isinstance(key, ObjectId) else FIRST_DATE


class _Reader:
    """Reads the fields of a document, and refuses what neither library writes."""

    def __init__(self, collection: str, document: Mapping[str, Any]) -> None:
        self._collection = collection
        self._name = document.get(WORKFLOW_ID, document.get("_id"))
        self._document = document
        self._path = ""

    def text(self, field: str) -> str:
        value: object = self._document.get(field)
        if type(value) is not str:  # BSON's code is a subclass of it
            self._refuse(field, "is not a string")
        return value

    def flag(self, field: str) -> bool:
        value = self._document.get(field)
        return (
            value if isinstance(value, bool) else self._refuse(field, "is neither true nor false")
        )

    def count(self, field: str) -> int:
        """A whole number, which JavaScript may have stored as a double."""
        value = self._document.get(field, 0)
        if isinstance(value, bool) or not isinstance(value, int | float):
            self._refuse(field, "is no number")
        if not 0 <= value <= _MAX_COUNT or value != int(value):  # NaN is refused by the first
            self._refuse(field, f"is {value!r}, which is no count")
        return int(value)

    def instant(self, field: str) -> datetime:
        value = self._document.get(field)
        if not isinstance(value, datetime):
            self._refuse(field, "is not a date")
        return in_milliseconds(value)

    def optional_text(self, field: str) -> str | None:
        return None if self._document.get(field) is None else self.text(field)

    def optional_instant(self, field: str) -> datetime | None:
        return None if self._document.get(field) is None else self.instant(field)

    def status(self) -> Status:
        value = self._document.get(STATUS)
        try:
            return Status(value or "")
        except ValueError:
            self._refuse(STATUS, f"is {value!r:.80}")

    def claim_log(self) -> Iterator[ClaimEntry]:
        for read in self._each(CLAIM_LOG):
            yield ClaimEntry(
                worker=read.text(ENTRY_WORKER),
                claimed_at=read.instant(ENTRY_CLAIMED_AT),
                after_crash=read.flag(ENTRY_AFTER_CRASH),
            )

    def failed_steps(self) -> Iterator[FailedStep]:
        for read in self._each(FAILED_STEPS):
            yield FailedStep(
                step_id=read.text(FAILED_STEP_ID),
                error=read.error(FAILED_ERROR),
                attempts=read.count(FAILED_ATTEMPTS),
                failed_at=read.instant(FAILED_AT),
            )

    def optional_error(self, field: str) -> ErrorRecord | None:
        return None if self._document.get(field) is None else self.error(field)

    def error(self, field: str) -> ErrorRecord:
        read = self.inside(field, self._document.get(field))
        return ErrorRecord(
            type=read.text(ERROR_TYPE),
            message=read.text(ERROR_MESSAGE),
            traceback=read.text(ERROR_TRACEBACK),
        )

    def _each(self, field: str) -> Iterator[_Reader]:
        entries = self._document.get(field, [])
        if not isinstance(entries, list):
            self._refuse(field, "is not an array")
        for entry in entries:
            yield self.inside(field, entry)

    def inside(self, field: str, value: object) -> _Reader:
        if not isinstance(value, Mapping):
            self._refuse(field, "has no document where one belongs")
        reader = _Reader(self._collection, value)
        reader._name = self._name
        reader._path = f"{self._path}{field}."
        return reader

    def _refuse(self, field: str, reason: str) -> NoReturn:
        raise CorruptDocument(self._collection, self._name, self._path + field, reason)
