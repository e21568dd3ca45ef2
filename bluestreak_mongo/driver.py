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
    ProtocolError,
    PyMongoError,
    WaitQueueTimeoutError,
    WriteConcernError,
)

from bluestreak_core.concurrency import cancel_once, finish_despite_cancel
from bluestreak_core.errors import (
    CorruptDocument,
    StoreError,
    StoreRefused,
    StoreUnavailable,
)
from bluestreak_mongo.driver_error import shown
from bluestreak_mongo.error_code import (
    is_about_document,
    is_labelled_passing,
    is_lasting,
    is_unauthenticated,
    reason_of,
)

P = ParamSpec("P")
T = TypeVar("T")


class Unauthenticated(StoreUnavailable):
    """The connection has lost its user. Another connection may work if the user exists again."""


def reads(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """A call that only reads: its errors are the store's, and it can be cancelled."""

    @functools.wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        with store_errors():
            return await cancel_and_wait(method(*args, **kwargs))

    return call


async def cancel_and_wait(operation: Coroutine[Any, Any, T]) -> T:
    """Await an operation of PyMongo; cancelled, cancel it, and be cancelled whatever it does.

    With a socket timeout PyMongo uses `asyncio.wait_for`, which before Python 3.12 forgets a
    cancellation that comes just when what it waits for is done. The operation then goes on.
    It must not be cancelled twice, see `cancel_once`.
    """
    task = asyncio.ensure_future(operation)
    return await finish_despite_cancel(task, on_cancel=lambda: cancel_once(task))


def writes(method: Callable[P, Coroutine[Any, Any, T]]) -> Callable[P, Coroutine[Any, Any, T]]:
    """A call that writes: when its caller is cancelled, it goes on to its end.

    PyMongo closes the connection of a cancelled operation, and the server may have carried it out
    all the same.
    """

    @functools.wraps(method)
    async def call(*args: P.args, **kwargs: P.kwargs) -> T:
        with store_errors():
            return await finish_despite_cancel(method(*args, **kwargs))

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
    translation = _translated(error)
    translation.__cause__ = error
    return translation


def _translated(error: PyMongoError) -> StoreError:
    if is_about_document(error) and isinstance(error, OperationFailure):
        reason = f"cannot be written: {reason_of(error)}"
        return CorruptDocument("stored", "of unknown id", "content", reason)
    if is_unauthenticated(error):
        return Unauthenticated(shown(error))
    return StoreUnavailable(shown(error)) if is_passing(error) else StoreRefused(shown(error))


def is_passing(error: PyMongoError) -> bool:
    """Whether the same call may succeed later although nothing is changed."""
    passing = (
        ConnectionFailure,
        ExecutionTimeout,
        ProtocolError,
        WaitQueueTimeoutError,
        WriteConcernError,
    )
    if isinstance(error, passing) or is_labelled_passing(error):
        return True
    if not isinstance(error, OperationFailure):
        return False
    return not is_lasting(error) and not is_about_document(error)
