"""The documents of workflows. Other modules import this one as `wf`."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from bluestreak_core.model import Status, Workflow
from bluestreak_core.store import WorkflowSummary
from bluestreak_mongo.schema import error
from bluestreak_mongo.schema.beat import read_beat
from bluestreak_mongo.schema.claim_entry import read_claim_entry
from bluestreak_mongo.schema.document import WORKFLOW_ID as WORKFLOW_ID  # noqa: PLC0414 - handed on
from bluestreak_mongo.schema.document import WORKFLOWS, Document
from bluestreak_mongo.schema.error import read_error
from bluestreak_mongo.schema.failed_step import from_failed_step, read_failed_step
from bluestreak_mongo.schema.parent import from_parent, read_parent
from bluestreak_mongo.schema.published import read_published
from bluestreak_mongo.schema.reader import Reader

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
TRANSACTIONS = "transactions"
SESSION = "session"
PRUNED_AT = "prunedAt"
WAITING_FOR = "waitingFor"
MAIL = "mail"
BEATS = "beats"
PARENT = "parent"
UNSETTLED = "unsettled"
PUBLISHED = "published"
GENERATION = "generation"
RESTARTED_AT = "restartedAt"
COMPENSATES = "compensates"
OUTCOME = "outcome"
STOPPED_AT = "stoppedAt"
LEASED_UNTIL = "leasedUntil"
TRACE = "trace"

FORKING = "forking"
FORKING_BEFORE = "before"
FORKING_KEY = "key"

STATE_FIELDS = (
    *(WORKFLOW_ID, HANDLER_ID, FAILURES, STATUS, TIMEOUT_AT),
    *(CLAIM, CLAIMS, CRASHES, CLAIM_LOG, CONTROLS),
)
"""What the state of a workflow is read from, without its values."""

SUMMARY_FIELDS = (
    *(WORKFLOW_ID, HANDLER_ID, FAILURES, STATUS, TIMEOUT_AT, CLAIMS, CRASHES, RETRIES, WORKER),
    *(CREATED_AT, STARTED_AT, FINISHED_AT, START_AT, REASON, WAITING_FOR, PARENT),
    *(f"{ERROR}.{error.TYPE}", f"{ERROR}.{error.MESSAGE}"),
)
"""What a list shows of a workflow."""

_RARE_FIELDS = frozenset(
    {
        *(START_AT, RETRIES, CONTROLS, FAILED_STEPS, REASON, FORKED_FROM, PRUNED_AT),
        *(WAITING_FOR, MAIL, BEATS, PARENT, UNSETTLED, PUBLISHED, GENERATION, RESTARTED_AT),
        *(COMPENSATES, OUTCOME, STOPPED_AT, LEASED_UNTIL, TRACE),
    }
)
"""What most workflows do without."""


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
    if workflow.parent is not None:
        document[PARENT] = from_parent(workflow.parent)
    if workflow.unsettled:
        document[UNSETTLED] = True
    if workflow.trace is not None:
        document[TRACE] = workflow.trace
    return document


def to_workflow(document: Mapping[str, Any]) -> Workflow:
    """The workflow in a document, whichever library wrote it."""
    read = Reader(WORKFLOWS, document)
    fields: dict[str, Any] = {
        "workflow_id": read.text(WORKFLOW_ID),
        "handler_id": read.text(HANDLER_ID),
        "input": document.get(INPUT),
        "status": read.status(STATUS),
        "timeout_at": read.instant(TIMEOUT_AT),
        "failures": read.count(FAILURES),
        "crashes": read.count(CRASHES),
        "claims": read.count(CLAIMS),
        "claim_token": read.optional_text(CLAIM),
        "worker": read.optional_text(WORKER),
        "claim_log": tuple(map(read_claim_entry, read.each_inside(CLAIM_LOG))),
        "created_at": read.optional_instant(CREATED_AT),
        "started_at": read.optional_instant(STARTED_AT),
        "finished_at": read.optional_instant(FINISHED_AT),
        "result": document.get(RESULT),
        "error": read_error(read.inside(ERROR)) if read.has(ERROR) else None,
    }
    if not document.keys().isdisjoint(_RARE_FIELDS):
        fields |= {
            "start_at": read.optional_instant(START_AT),
            "retries": read.count(RETRIES),
            "controls": read.count(CONTROLS),
            "failed_steps": tuple(map(read_failed_step, read.each_inside(FAILED_STEPS))),
            "reason": read.optional_text(REASON),
            "forked_from": read.optional_text(FORKED_FROM),
            "pruned_at": read.optional_instant(PRUNED_AT),
            "waiting_for": read.texts(WAITING_FOR),
            "mail": read.count(MAIL),
            "beats": tuple(map(read_beat, read.each_inside(BEATS))),
            "parent": read_parent(read.inside(PARENT)) if read.has(PARENT) else None,
            "unsettled": read.has(UNSETTLED) and read.flag(UNSETTLED),
            "published": tuple(map(read_published, read.each_inside(PUBLISHED))),
            "generation": read.count(GENERATION),
            "restarted_at": read.optional_instant(RESTARTED_AT),
            "compensates": read.has(COMPENSATES) and read.flag(COMPENSATES),
            "outcome": read.status(OUTCOME) if read.has(OUTCOME) else None,
            "stopped_at": read.optional_instant(STOPPED_AT),
            "leased_until": read.optional_instant(LEASED_UNTIL),
            "trace": read.optional_text(TRACE),
        }
    return Workflow.of(fields)


def to_summary(document: Mapping[str, Any]) -> WorkflowSummary:
    """What a list shows of a workflow, from a document with the `SUMMARY_FIELDS`."""
    read = Reader(WORKFLOWS, document)
    read_error = read.inside(ERROR) if read.has(ERROR) else None
    return WorkflowSummary(
        workflow_id=read.text(WORKFLOW_ID),
        handler_id=read.text(HANDLER_ID),
        status=read.status(STATUS),
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
        error_type=None if read_error is None else read_error.text(error.TYPE),
        error_message=None if read_error is None else read_error.text(error.MESSAGE),
        waiting_for=read.texts(WAITING_FOR),
        parent=read_parent(read.inside(PARENT)) if read.has(PARENT) else None,
    )


def to_workflow_id(document: Mapping[str, Any]) -> str:
    """The id of a workflow, from a document of which nothing else was read."""
    return Reader(WORKFLOWS, document).text(WORKFLOW_ID)


def to_candidate(document: Mapping[str, Any]) -> tuple[str, Status, datetime]:
    """The id, state and due time of a workflow, if a claim may read the rest of what it needs."""
    read = Reader(WORKFLOWS, document)
    due_at = read.instant(TIMEOUT_AT)
    return read.text(WORKFLOW_ID), read.status(STATUS), due_at
