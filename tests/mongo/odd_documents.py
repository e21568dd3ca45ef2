"""Documents that neither library writes, by what is wrong with them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import bson
import pytest
from bson import Binary, Code, Decimal128, Int64, MaxKey, ObjectId, Timestamp
from bson.codec_options import CodecOptions
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database

from tests.mongo.arrange import NOW, Document

GONE: Any = object()
"""For a field that is not there."""

NO_UUID = Binary(b"short", subtype=4)
_PLACEHOLDER = "placeholder"
_NO_UTF8 = b"\xff" * len(_PLACEHOLDER)

ENTRY = {"worker": "worker", "claimedAt": NOW, "afterCrash": False}
ERROR = {"type": "ValueError", "message": "no", "traceback": ""}
FAILED = {"stepId": "s", "error": ERROR, "attempts": 1, "failedAt": NOW}

UNREADABLE: dict[str, Document] = {
    # Due, as far as the server can tell, and not to be read.
    "no workflowId": {"workflowId": GONE},
    "workflowId int": {"workflowId": 7},
    "workflowId document": {"workflowId": {"$gt": ""}},
    "workflowId array": {"workflowId": ["x1", "x2"]},
    "workflowId binary": {"workflowId": b"w"},
    "workflowId ObjectId": {"workflowId": ObjectId()},
    "workflowId no UUID": {"workflowId": NO_UUID},
    "workflowId code": {"workflowId": Code("1")},
    "no handlerId": {"handlerId": GONE},
    "handlerId null": {"handlerId": None},
    "handlerId int": {"handlerId": 5},
    "handlerId array": {"handlerId": ["h"]},
    "handlerId document": {"handlerId": {"h": 1}},
    "status array": {"status": ["idle"]},
    "timeoutAt array": {"timeoutAt": [NOW - timedelta(days=1), NOW + timedelta(days=900)]},
    "timeoutAt before Python": {"timeoutAt": DatetimeMS(-9_000_000_000_000_000)},
    "failures null": {"failures": None},
    "failures text": {"failures": "many"},
    "failures true": {"failures": True},
    "failures NaN": {"failures": float("nan")},
    "failures infinite": {"failures": float("inf")},
    "failures negative": {"failures": -1},
    "failures a fraction": {"failures": 0.5},
    "failures at the end of int64": {"failures": Int64(2**63 - 1)},
    "failures decimal": {"failures": Decimal128("1")},
    "failures array": {"failures": [0]},
    "claims null": {"claims": None},
    "claims text": {"claims": "many"},
    "claims NaN": {"claims": float("nan")},
    "claims at the end of int64": {"claims": Int64(2**63 - 1)},
    "claims document": {"claims": {}},
    "crashes text": {"crashes": "many"},
    "crashes infinite": {"crashes": float("-inf")},
    "crashes at the end of int64": {"crashes": Int64(2**63 - 1), "status": "running"},
    "claim int": {"claim": 7},
    "claim document": {"claim": {"$ne": None}},
    "worker int": {"worker": 7},
    "worker array": {"worker": ["worker"]},
    "createdAt text": {"createdAt": "2030-01-01"},
    "createdAt number": {"createdAt": 1.8e12},
    "createdAt after Python": {"createdAt": DatetimeMS(8_640_000_000_000_000)},
    "startedAt text": {"startedAt": "2030-01-01"},
    "startedAt MaxKey": {"startedAt": MaxKey()},
    "finishedAt true": {"finishedAt": True},
    "finishedAt timestamp": {"finishedAt": Timestamp(1, 1)},
    "claimLog null": {"claimLog": None},
    "claimLog text": {"claimLog": "log"},
    "claimLog document": {"claimLog": {"0": ENTRY}},
    "claimLog of numbers": {"claimLog": [1, 2]},
    "claimLog of arrays": {"claimLog": [[ENTRY]]},
    "claimLog entry empty": {"claimLog": [{}]},
    "claimLog entry worker": {"claimLog": [ENTRY | {"worker": None}]},
    "claimLog entry claimedAt": {"claimLog": [ENTRY | {"claimedAt": "now"}]},
    "claimLog entry afterCrash": {"claimLog": [ENTRY, ENTRY | {"afterCrash": 1}]},
    "startAt text": {"startAt": "2030-01-01"},
    "retries negative": {"retries": -1},
    "reason a document": {"reason": {"$ne": None}},
    "failedSteps null": {"failedSteps": None},
    "failedSteps of texts": {"failedSteps": ["s"]},
    "failedSteps without an error": {"failedSteps": [{"stepId": "s", "attempts": 1}]},
    "failedSteps attempts": {"failedSteps": [FAILED | {"attempts": "many"}]},
    "failedSteps error": {"failedSteps": [FAILED | {"error": ERROR | {"type": 1}}]},
    "error text": {"error": "ValueError: no"},
    "error array": {"error": [ERROR]},
    "error empty": {"error": {}},
    "error without a message": {"error": {"type": "ValueError", "traceback": ""}},
    "error with a number": {"error": ERROR | {"message": 7}},
    "input no UUID": {"input": NO_UUID},
    "input with no UUID inside": {"input": {"deep": [{"id": NO_UUID}]}},
    "input no UTF-8": {"input": {"name": _PLACEHOLDER}},
    "a key no UTF-8": {"input": {_PLACEHOLDER: 1}},
    "result no UTF-8": {"result": _PLACEHOLDER},
    "handlerId no UTF-8": {"handlerId": _PLACEHOLDER},
    "another field no UTF-8": {"note": _PLACEHOLDER},
    "_id no UUID": {"_id": NO_UUID},
    "_id text": {"_id": "text", "claims": None},
    "_id document": {"_id": {"a": 1}, "claims": None},
}

NEVER_DUE: dict[str, Document] = {
    "no status": {"status": GONE},
    "status unknown": {"status": "stuck"},
    "status null": {"status": None},
    "status int": {"status": 1},
    "status document": {"status": {"$ne": None}},
    "status in capitals": {"status": "IDLE"},
    "no timeoutAt": {"timeoutAt": GONE},
    "timeoutAt null": {"timeoutAt": None},
    "timeoutAt text": {"timeoutAt": "2030-01-01T00:00:00Z"},
    "timeoutAt number": {"timeoutAt": 1.8e12, "status": "running"},
    "timeoutAt timestamp": {"timeoutAt": Timestamp(1, 1), "status": "failed"},
    "neither is there": {"status": GONE, "timeoutAt": GONE},
}

ODD: dict[str, Document] = {
    # What can be read, and is run.
    "failures a double": {"failures": 0.0},
    "fields of others": {"status": "idle", "$set": {"status": "finished"}, "a.b": 1, "": {}},
    "a DBRef that is none": {"input": {"$ref": 5, "$id": 1}},
    "no failures": {"failures": GONE},
    "no input": {"input": GONE},
    "input after Python": {"input": DatetimeMS(8_640_000_000_000_000)},
    "a long claimLog": {"claimLog": [ENTRY] * 500},
    "a claimLog of none": {"claimLog": []},
    "null where nothing is needed": dict.fromkeys(("claim", "worker", "createdAt", "error")),
    "15 MB of input": {"input": "x" * 15_000_000},
}

STEPS: list[Document] = [
    # Of a workflow that is run, and that does not ask for any of them.
    {"stepId": 7, "output": 1},
    {"stepId": None, "output": 1},
    {"stepId": {"$gt": ""}, "output": 1},
    {"stepId": "other", "output": {"$set": 1}, "savedAt": "then"},
    {"stepId": "another", "note": "no output"},
]

NAPS: list[Document] = [
    {"napId": 7, "wakeUpAt": NOW},
    {"napId": None, "wakeUpAt": "then"},
    {"napId": {"$gt": ""}},
    {"napId": "other", "wakeUpAt": NOW, "savedAt": "then"},
]

ORPHANS: list[tuple[str, Document]] = [
    ("steps", {"workflowId": "of nobody", "stepId": "s", "output": 1}),
    ("steps", {"workflowId": None, "stepId": "s"}),
    ("steps", {"workflowId": 7, "stepId": 7}),
    ("steps", {}),
    ("naps", {"workflowId": "of nobody", "napId": "n", "wakeUpAt": NOW}),
    ("naps", {"workflowId": {"$gt": ""}, "napId": "n"}),
    ("naps", {}),
]


def named(name: str, fields: Document) -> RawBSONDocument:
    """A workflow that has long been due, but for these fields."""
    document = {
        "_id": ObjectId(),
        "workflowId": name,
        "handlerId": "h",
        "input": None,
        "failures": 0,
        "status": "idle",
        "timeoutAt": NOW - timedelta(days=1),
    } | fields
    return encoded({key: value for key, value in document.items() if value is not GONE})


def encoded(document: Document) -> RawBSONDocument:
    """A document as it is sent; where it has a placeholder, it is no valid UTF-8."""
    raw: bytes = bson.encode(document)
    return RawBSONDocument(raw.replace(_PLACEHOLDER.encode(), _NO_UTF8), _RAW)


_RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)


def insert(raw: Database[Document], *documents: RawBSONDocument) -> None:
    """Put documents among the workflows as they are."""
    raw.get_collection("workflows", codec_options=_RAW).insert_many(documents)


def unreadable_logged(caplog: pytest.LogCaptureFixture) -> list[str]:
    """What has been logged of unreadable documents."""
    return [
        record.getMessage()
        for record in caplog.records
        if record.name == "bluestreak_mongo.unreadable"
    ]
