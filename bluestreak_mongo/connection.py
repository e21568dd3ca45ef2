"""Where a MongoStore gets its database from: a client of its own, or the application."""

from __future__ import annotations

import asyncio
import logging
import re
import warnings
from collections.abc import Callable, Mapping
from typing import Any, Protocol, TypeVar

import pymongo
from bson.codec_options import DatetimeConversion
from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.database import Database
from pymongo.errors import InvalidName, PyMongoError

from bluestreak_core.argument import has_real_type
from bluestreak_core.concurrency import finish_despite_cancel
from bluestreak_core.errors import InvalidArgument, StoreRefused
from bluestreak_mongo.schema import Document

Client = TypeVar("Client")
logger = logging.getLogger(__name__)

GOODBYE = 1.0
"""Seconds that closing a client may take if the server does not answer."""

_CLOSED_WITHIN = 5.0
"""Seconds after which a client that cannot be closed is left alone."""

OPTIONS: Mapping[str, str | int] = {
    "appname": "bluestreak",
    "serverSelectionTimeoutMS": 5000,
    "connectTimeoutMS": 5000,
    "heartbeatFrequencyMS": 5000,
    "socketTimeoutMS": 15_000,
}
"""What an owned client is made with, unless its URL says otherwise.

With the driver's own values, calls to a server that has stopped answering without closing its
connections (halted, or its packets dropped) end after half a minute, when the driver's monitor does
without it; and calls on a single connection that has gone dead, never. They hold slots and claims,
and `stop` waits for them. With these values the monitor takes 10 s at most, the sum of two of them,
and a dead connection is given up after 15 s; a poll loop then tries again.
"""

_WANTED = "expected an AsyncDatabase of PyMongo, or a Motor database"


class Connection(Protocol):
    """A way to a database. Its `str()` shows no secret."""

    def open(self) -> AsyncDatabase[Document]:
        """The database; nothing is sent to it yet."""
        ...

    async def close(self) -> None:
        """Let go of what `open` made."""
        ...

    def anew(self) -> Connection | None:
        """A connection to the same database by another client; None if that cannot be made."""
        ...

    def open_blocking(self) -> Database[Document]:
        """The same database, by a blocking client of one connection, which the caller closes.

        For any thread. Raises `StoreRefused` if there is no URL to connect to.
        """
        ...


class OwnClient:
    """A client made from a URL. Raises `InvalidArgument` for what the driver cannot take.

    `argument` is what the caller knows the URL by.
    """

    def __init__(self, url: str, name: str, argument: str = "url") -> None:
        if not has_real_type(url, str):
            raise InvalidArgument(argument, type(url).__name__, "expected a MongoDB URL as a str")
        self._url = str.__str__(url)
        self._name = _text("database", name)
        self._argument = argument
        self._client: AsyncMongoClient[Document] | None = None
        self._database_of(self._new_client())  # which finds fault with the arguments now

    def __str__(self) -> str:
        return f"{redacted(self._url)}, database {self._name!r}"

    def open(self) -> AsyncDatabase[Document]:
        """The database, by a client that is made where there is none."""
        if self._client is None:
            self._client = self._new_client()
        return self._database_of(self._client)

    async def close(self) -> None:
        """Close the client, whatever the server is doing."""
        client, self._client = self._client, None
        if client is not None:
            await finish_despite_cancel(self._close(client))

    async def _close(self, client: AsyncMongoClient[Document]) -> None:
        try:
            async with asyncio.timeout(_CLOSED_WITHIN):
                with pymongo.timeout(GOODBYE):
                    await client.close()
        except TimeoutError:
            logger.warning("the client of %s is left open: closing it takes too long", self)

    def anew(self) -> OwnClient:
        """By another client, which has other connections."""
        return OwnClient(self._url, self._name, self._argument)

    def open_blocking(self) -> Database[Document]:
        """The database, by another client."""
        client = self._made_by(MongoClient[Document], minPoolSize=0, maxPoolSize=1, connect=False)
        return client[self._name]

    def _new_client(self) -> AsyncMongoClient[Document]:
        return self._made_by(AsyncMongoClient[Document])

    def _made_by(self, kind: Callable[..., Client], **options: Any) -> Client:
        if not self._url or "\0" in self._url or not _is_utf8(self._url):
            raise self._refusal("it is empty, has a NUL, or is no UTF-8")
        given = {name.lower() for name in re.findall(r"[?&](\w+)=", self._url)}
        own = {name: value for name, value in OPTIONS.items() if name.lower() not in given}
        try:
            with warnings.catch_warnings():
                # It warns of options that it does not know, and goes on without, be it without TLS.
                warnings.simplefilter("error", UserWarning)
                client = kind(self._url, **own, **options)
            if _conversion(client) is DatetimeConversion.DATETIME:
                return client
            reason = (
                "datetime_conversion is not for the URL to choose: every store reads dates alike"
            )
        except UserWarning:
            names = ", ".join(sorted(given))
            reason = f"PyMongo does not take one of its options as it stands, of {names}"
        except KeyError:  # of a name that the driver looks up
            reason = "PyMongo does not take its datetime_conversion"
        except (PyMongoError, ValueError, TypeError, OSError) as error:
            reason = f"PyMongo refuses it with {type(error).__name__}"
        # Neither the URL nor what the driver says of it is shown or kept, as the context that an
        # error has which is raised within `except`: both may hold a password.
        raise self._refusal(reason)

    def _refusal(self, reason: str) -> InvalidArgument:
        return InvalidArgument(self._argument, "mongodb://***", reason)

    def _database_of(self, client: AsyncMongoClient[Document]) -> AsyncDatabase[Document]:
        try:
            return client[self._name]
        except (InvalidName, TypeError) as error:
            raise InvalidArgument("database", self._name, str(error)) from error


class GivenDatabase:
    """A database that the application has open, and keeps open.

    What options it was opened with cannot be had from it, so another client wants a URL.
    """

    def __init__(self, database: AsyncDatabase[Document], renewal_url: str | None) -> None:
        has_name = has_real_type(getattr(database, "name", None), str)
        if not has_name or not hasattr(type(database), "get_collection"):
            raise InvalidArgument("database", type(database).__name__, _WANTED)
        if isinstance(database, Database):
            raise InvalidArgument("database", "a Database", f"{_WANTED}, not a synchronous one")
        self._database = database
        self._other = (
            None
            if renewal_url is None
            else OwnClient(renewal_url, database.name, argument="renewal_url")
        )

    def __str__(self) -> str:
        return f"given database {self._database.name!r}"

    def open(self) -> AsyncDatabase[Document]:
        """The application's database."""
        return self._database

    async def close(self) -> None:
        """The application closes its own client."""

    def anew(self) -> None:
        """There is only the application's client."""

    def open_blocking(self) -> Database[Document]:
        """The database of the same name at the URL that was given for this."""
        if self._other is None:
            raise StoreRefused("from_database() was given no renewal_url to connect to")
        return self._other.open_blocking()


def _conversion(client: Any) -> DatetimeConversion:
    conversion: DatetimeConversion = client.codec_options.datetime_conversion
    return conversion


def _text(name: str, value: object) -> str:
    """A str, as far as PyMongo and the server do not look at it themselves."""
    if not has_real_type(value, str):
        raise InvalidArgument(name, value, f"expected a str, not {type(value).__name__}")
    plain = str.__str__(value)
    if not _is_utf8(plain):
        raise InvalidArgument(name, value, "it cannot be encoded as UTF-8")
    return plain


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def redacted(url: str) -> str:
    """A valid MongoDB URL without its credentials and options, fit to be shown."""
    return re.sub(r"(?s)//.*@", "//***@", url.partition("?")[0])
