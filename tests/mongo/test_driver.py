"""PyMongo's errors reach a caller as the store's."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import pytest
from bson.errors import InvalidDocument
from pymongo.errors import (
    AutoReconnect,
    ConfigurationError,
    ConnectionFailure,
    DuplicateKeyError,
    ExecutionTimeout,
    InvalidOperation,
    NetworkTimeout,
    NotPrimaryError,
    OperationFailure,
    PyMongoError,
    ServerSelectionTimeoutError,
    WaitQueueTimeoutError,
    WriteConcernError,
    WTimeoutError,
)

from bluestreak_core import ClaimLost, StoreRefused, StoreUnavailable
from bluestreak_mongo.driver import reads, store_errors, writes


def labelled(label: str) -> PyMongoError:
    return OperationFailure("no", code=1, details={"errorLabels": [label]})


def answered(code: int) -> PyMongoError:
    return OperationFailure("no", code=code)


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
}

FINAL = {
    "InternalError": answered(1),
    "BadValue": answered(2),
    "Unauthorized": answered(13),
    "AuthenticationFailed": answered(18),
    "InvalidNamespace": answered(73),
    "IndexOptionsConflict": answered(85),
    "no code": OperationFailure("no"),
    "another label": labelled("HasIndexKey"),
    "duplicate key": DuplicateKeyError("no", code=11000),
    "configuration": ConfigurationError("no"),
    "closed client": InvalidOperation("no"),
    "the driver's own": PyMongoError("no"),
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
