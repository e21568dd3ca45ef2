"""PyMongo's errors reach a caller as the store's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import bson
import pytest
from bson.errors import InvalidDocument
from bson.raw_bson import RawBSONDocument
from pymongo.errors import (
    AutoReconnect,
    BulkWriteError,
    ConfigurationError,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    InvalidOperation,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    ProtocolError,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
    WriteError,
    WTimeoutError,
)

from bluestreak_core import ClaimLost, CorruptDocument, StoreError, StoreRefused, StoreUnavailable
from bluestreak_mongo.driver import reads, store_errors, writes


def labelled(label: str) -> PyMongoError:
    return OperationFailure("no", code=2, details={"errorLabels": [label]})


def answered(code: int) -> PyMongoError:
    return OperationFailure("no", code=code)


def of_a_document(code: int) -> PyMongoError:
    return WriteError("no", code=code)


PASSING = {
    "no server in time": ServerSelectionTimeoutError("no"),
    "connection refused": ConnectionFailure("no"),
    "connection lost": AutoReconnect("no"),
    "no answer in time": NetworkTimeout("no"),
    "no free connection": WaitQueueTimeoutError("no"),
    "not a primary": NotPrimaryError("no"),
    "maxTimeMS": ExecutionTimeout("no", code=50),
    "not replicated": WriteConcernError("no", code=100),
    "not replicated in time": WTimeoutError("no", code=64),
    "label RetryableWriteError": labelled("RetryableWriteError"),
    "label TransientTransactionError": labelled("TransientTransactionError"),
    "HostUnreachable": answered(6),
    "HostNotFound": answered(7),
    "NetworkTimeout": answered(89),
    "ShutdownInProgress": answered(91),
    "CursorNotFound": answered(43),
    "WriteConflict": answered(112),
    "ReadConcernMajorityNotAvailableYet": answered(134),
    "PrimarySteppedDown": answered(189),
    "ExceededTimeLimit": answered(262),
    "QueryPlanKilled": answered(175),
    "CursorKilled": answered(237),
    "SocketException": answered(9001),
    "NotWritablePrimary": answered(10107),
    "InterruptedAtShutdown": answered(11600),
    "Interrupted": answered(11601),
    "TransactionTooLargeForCache": answered(388),
    "InterruptedDueToReplStateChange": answered(11602),
    "NotPrimaryNoSecondaryOk": answered(13435),
    "NotPrimaryOrSecondary": answered(13436),
    "bytes out of place": ProtocolError("no"),
    "label SystemOverloadedError": labelled("SystemOverloadedError"),
    "label RetryableError": labelled("RetryableError"),
    "InternalError": answered(1),
    "UnknownError": answered(8),
    "LockTimeout": answered(24),
    "NamespaceNotFound": answered(26),
    "FailedToSatisfyReadPreference": answered(133),
    "NetworkInterfaceExceededTimeLimit": answered(202),
    "KeyNotFound": answered(211),
    "DatabaseDropPending": answered(215),
    "NoSuchTransaction": answered(251),
    "TemporarilyUnavailable": answered(365),
    "UserWritesBlocked": answered(371),
    "ReauthenticationRequired": answered(391),
    "ResourceExhausted": answered(402),
    "AdmissionQueueOverflow": answered(433),
    "IngressRequestRateLimitExceeded": answered(462),
    "shed load": answered(463),
    "OutOfDiskSpace": answered(14031),
    "Cosmos DB's TooManyRequests": answered(16500),
    "RetriableRemoteCommandFailure": answered(91331),
    "a code that nobody knows": answered(3999),
    "an assertion that nobody knows": answered(7654321),
    "no code": OperationFailure("no"),
    "Atlas without room": OperationFailure("no: you are over your space quota", code=8000),
    "a document, while writes are blocked": of_a_document(371),
    "a document, on a full disk": of_a_document(14031),
    "a document, at Cosmos DB's limit": of_a_document(16500),
    "a document, and a code that nobody knows": of_a_document(3999),
}

FINAL = {
    "BadValue": answered(2),
    "FailedToParse": answered(9),
    "Unauthorized": answered(13),
    "AuthenticationFailed": answered(18),
    "IllegalOperation": answered(20),
    "CommandNotFound": answered(59),
    "ShardKeyNotFound": answered(61),
    "InvalidNamespace": answered(73),
    "IndexOptionsConflict": answered(85),
    "CommandNotSupported": answered(115),
    "AuthenticationRestrictionUnmet": answered(214),
    "NotImplemented": answered(238),
    "APIVersionError": answered(322),
    "AtlasError": answered(8000),
    "change streams on a standalone server": answered(40573),
    "another label": labelled("HasIndexKey"),
    "a document, without the privilege": of_a_document(13),
    "configuration": ConfigurationError("no"),
    "closed client": InvalidOperation("no"),
    "the driver's own": PyMongoError("no"),
}

OF_A_DOCUMENT = {
    "an index on places": of_a_document(16755),
    "an index on text": of_a_document(17262),
    "two arrays in an index": of_a_document(171),
    "a validator": of_a_document(121),
    "a field of another type": of_a_document(14),
    "duplicate key": DuplicateKeyError("no", code=11000),
    "nested too deep": answered(15),
    "too large": answered(10334),
}

STRANGERS = [InvalidDocument("no"), ClaimLost("w", 1, "no"), ValueError("no"), KeyError("no")]


@pytest.mark.parametrize("error", PASSING.values(), ids=PASSING)
def test_what_may_pass_is_unavailable(error: PyMongoError) -> None:
    with pytest.raises(StoreUnavailable, match="no") as raised, store_errors():
        raise error
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", FINAL.values(), ids=FINAL)
def test_what_would_come_again_is_refused(error: PyMongoError) -> None:
    with pytest.raises(StoreRefused, match="no") as raised, store_errors():
        raise error
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", OF_A_DOCUMENT.values(), ids=OF_A_DOCUMENT)
def test_what_concerns_one_document_is_no_refusal_of_the_sender(error: PyMongoError) -> None:
    with pytest.raises(CorruptDocument, match="cannot be written: no") as raised, store_errors():
        raise error
    assert raised.value.__cause__ is error


@pytest.mark.parametrize("error", STRANGERS, ids=repr)
def test_other_errors_pass_through(error: Exception) -> None:
    with pytest.raises(type(error)) as raised, store_errors():
        raise error
    assert raised.value is error
    assert raised.value.__cause__ is None


@pytest.mark.asyncio
@pytest.mark.parametrize("kind", [reads, writes])
async def test_calls_of_either_kind_translate_errors(kind: Callable[..., Any]) -> None:
    @kind
    async def call(error: Exception) -> None:
        raise error

    with pytest.raises(StoreUnavailable):
        await call(AutoReconnect("no"))
    with pytest.raises(ValueError, match="no"):
        await call(ValueError("no"))


@pytest.mark.asyncio
async def test_a_cancelled_write_ends_before_its_caller() -> None:
    inside, go_on, ended = asyncio.Event(), asyncio.Event(), asyncio.Event()

    @writes
    async def write() -> None:
        inside.set()
        await go_on.wait()
        ended.set()

    caller = asyncio.create_task(write())
    await inside.wait()
    caller.cancel()
    await asyncio.sleep(0)
    assert not caller.done()
    go_on.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert ended.is_set()


@pytest.mark.asyncio
async def test_a_cancelled_read_is_broken_off() -> None:
    inside = asyncio.Event()

    @reads
    async def read() -> None:
        inside.set()
        await asyncio.Event().wait()

    caller = asyncio.create_task(read())
    await inside.wait()
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller


ANSWER = {"ok": 0.0, "errmsg": "not allowed", "code": 13, "codeName": "Unauthorized", "extra": "x"}
RAW = RawBSONDocument(bson.encode(ANSWER))
REFUSED = {"index": 0, "code": 121, "errmsg": "failed validation", "op": {"input": "secret"}}
UNCONFIRMED = {"code": 64, "codeName": "WriteConcernFailed", "errmsg": "timed out"}


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (OperationFailure("not allowed", 13, ANSWER), "not allowed (Unauthorized, 13)"),
        (OperationFailure("not allowed", 13, RAW), "not allowed (Unauthorized, 13)"),
        (OperationFailure("no", 13), "no"),
        (OperationFailure("no", 13, {"ok": 0}), "no (13)"),
        (BulkWriteError({"writeErrors": [REFUSED]}), "failed validation (121)"),
        (
            BulkWriteError({"writeErrors": [], "writeConcernErrors": [UNCONFIRMED]}),
            "timed out (WriteConcernFailed, 64)",
        ),
        (AutoReconnect("connection closed"), "connection closed"),
    ],
)
def test_an_error_shows_what_the_server_says_and_not_its_whole_answer(
    error: PyMongoError, said: str
) -> None:
    with pytest.raises(StoreError) as raised, store_errors():
        raise error
    assert str(raised.value) == said
