"""What PyMongo raises, in the words of the Store protocol, and calls that it must not break off."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable, Coroutine, Iterator
from contextlib import contextmanager
from typing import Any, ParamSpec, TypeVar

from bson.errors import InvalidBSON
from pymongo.errors import (
    ConnectionFailure,
    ExecutionTimeout,
    OperationFailure,
    PyMongoError,
    WaitQueueTimeoutError,
    WriteConcernError,
)

from bluestreak_core.cancellation import see_through
from bluestreak_core.errors import (
    CorruptDocument,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)

P = ParamSpec("P")
T = TypeVar("T")

# A server that is stopping, starting, or no longer primary, as listed in
# https://github.com/mongodb/specifications/blob/master/source/retryable-writes/retryable-writes.md
_CHANGING_CODES = frozenset(
    {6, 7, 64, 89, 91, 112, 134, 189, 262, 317, 9001, 10107, 11600, 11602, 13388, 13435, 13436}
)
# A read that such a server broke off: CursorNotFound, QueryPlanKilled, CursorKilled, Interrupted.
_BROKEN_OFF_CODES = frozenset({43, 175, 237, 11601})
# TransactionTooLargeForCache: of a document, too, that is large for what the cache can hold by now.
_CROWDED_CODES = frozenset({388})
_PASSING_CODES = _CHANGING_CODES | _BROKEN_OFF_CODES | _CROWDED_CODES
REFUSALS = frozenset({13, 18, 8000})
"""Unauthorized, AuthenticationFailed, AtlasError: whatever is sent, and in what portions."""

_PASSING_LABELS = ("RetryableWriteError", "TransientTransactionError")


def reads(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """A call that only reads: its errors are the store's, and it can be broken off."""

    @functools.wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        with store_errors():
            return await break_off(method(*args, **kwargs))

    return call


async def break_off(operation: Coroutine[Any, Any, T]) -> T:
    """Await an operation of PyMongo; cancelled, cancel it, and be cancelled whatever it does.

    With a socket timeout PyMongo uses `asyncio.wait_for`, which before Python 3.12 forgets a
    cancellation that comes just when what it waits for is done. The operation then goes on.
    """
    task = asyncio.ensure_future(operation)
    return await see_through(task, on_cancel=task.cancel)


def writes(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """A call that writes: it is seen through when its caller is cancelled.

    PyMongo closes the connection of a cancelled operation, and the server may have carried it out
    all the same.
    """

    @functools.wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        with store_errors():
            return await see_through(method(*args, **kwargs))

    return call


@contextmanager
def store_errors() -> Iterator[None]:
    """Raise PyMongo's errors as the Store protocol's, with the original as the cause."""
    try:
        yield
    except InvalidBSON as error:
        raise CorruptDocument("stored", "of unknown id", "BSON", str(error)) from error
    except PyMongoError as error:
        raise translated(error) from error


def translated(error: PyMongoError) -> StoreError:
    """The store's error for one of PyMongo's, its cause; a new object each time."""
    kind = StoreUnavailable if is_passing(error) else StoreRefused
    translation = kind(str(error))
    translation.__cause__ = error
    return translation


def is_passing(error: PyMongoError) -> bool:
    """Whether the same call may succeed later."""
    passing = (ConnectionFailure, WaitQueueTimeoutError, ExecutionTimeout, WriteConcernError)
    if isinstance(error, passing) or any(map(error.has_error_label, _PASSING_LABELS)):
        return True
    return isinstance(error, OperationFailure) and error.code in _PASSING_CODES
