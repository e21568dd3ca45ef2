"""A document of `workers`; it is the last report of a worker."""

from __future__ import annotations

from bluestreak_core.model import RunInFlight, WorkerRecord, WorkerState
from bluestreak_mongo.schema.document import WORKERS, WORKFLOW_ID, Document
from bluestreak_mongo.schema.reader import Reader
from bluestreak_mongo.schema.step import STEP_ID
from bluestreak_mongo.schema.workflow import HANDLER_ID

NAME = "_id"
HOST = "host"
PID = "pid"
BLUESTREAK_VERSION = "bluestreakVersion"
PYTHON_VERSION = "pythonVersion"
STARTED_AT = "startedAt"
SEEN_AT = "seenAt"
UNTIL = "until"
STATE = "state"
MAX_CONCURRENCY = "maxConcurrency"
RUNS = "runs"
IN_FLIGHT = "inFlight"
SINCE = "since"
HANDLERS = "handlers"
LAST_STORE_ERROR = "lastStoreError"


def from_worker(record: WorkerRecord) -> Document:
    """The fields of a worker, without the name, which is the `_id`."""
    return {
        HOST: record.host,
        PID: record.pid,
        BLUESTREAK_VERSION: record.bluestreak_version,
        PYTHON_VERSION: record.python_version,
        STARTED_AT: record.started_at,
        SEEN_AT: record.seen_at,
        UNTIL: record.until,
        STATE: record.state.value,
        MAX_CONCURRENCY: record.max_concurrency,
        RUNS: record.runs,
        IN_FLIGHT: [
            {
                WORKFLOW_ID: run.workflow_id,
                HANDLER_ID: run.handler_id,
                STEP_ID: run.step_id,
                SINCE: run.since,
            }
            for run in record.in_flight
        ],
        HANDLERS: list(record.handlers),
        LAST_STORE_ERROR: record.last_store_error,
    }


def to_worker(document: Document) -> WorkerRecord:
    """The worker in a document. Raises `CorruptDocument`."""
    read = Reader(WORKERS, document)
    return WorkerRecord(
        name=read.text(NAME),
        host=read.text(HOST),
        pid=read.count(PID),
        bluestreak_version=read.text(BLUESTREAK_VERSION),
        python_version=read.text(PYTHON_VERSION),
        started_at=read.instant(STARTED_AT),
        seen_at=read.instant(SEEN_AT),
        until=read.instant(UNTIL),
        state=WorkerState(read.one_of(STATE, [state.value for state in WorkerState])),
        max_concurrency=read.count(MAX_CONCURRENCY),
        runs=read.count(RUNS),
        in_flight=tuple(_read_run(run) for run in read.each_inside(IN_FLIGHT)),
        handlers=read.texts(HANDLERS),
        last_store_error=read.optional_text(LAST_STORE_ERROR),
    )


def _read_run(read: Reader) -> RunInFlight:
    return RunInFlight(
        workflow_id=read.text(WORKFLOW_ID),
        handler_id=read.text(HANDLER_ID),
        step_id=read.optional_text(STEP_ID),
        since=read.instant(SINCE),
    )
