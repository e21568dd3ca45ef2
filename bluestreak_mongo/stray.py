"""Documents that neither library writes, which must cost nobody but themselves."""

from __future__ import annotations

import inspect
import logging
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, TypeVar

import bson
from bson.errors import InvalidBSON
from bson.raw_bson import RawBSONDocument
from pymongo.asynchronous.collection import AsyncCollection

from bluestreak_core.errors import CorruptDocument
from bluestreak_mongo import documents as doc
from bluestreak_mongo.bson_rules import CODEC, RAW
from bluestreak_mongo.documents import Document
from bluestreak_mongo.raw_fields import readable

T = TypeVar("T")
logger = logging.getLogger(__name__)

REMEMBERED = 10_000
"""How many strays a store remembers; the one that was met longest ago is forgotten first."""

LOOK_AGAIN_AFTER = timedelta(minutes=10)
"""How long a stray is left alone before it is looked at again: somebody may have mended it."""

Cursor = Any
"""A cursor, or what one is awaited from: the drivers differ in what an aggregation returns."""

Query = Callable[[AsyncCollection[Any]], Cursor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Stray:
    """A document that cannot be read; `key` is its `_id`."""

    key: Any
    error: CorruptDocument

    @property
    def name(self) -> bytes:
        """What tells it from all others."""
        return bson.encode({self.error.collection: self.key}, codec_options=CODEC)


class Strays:
    """The strays that a store has met. Each is logged once, and claimable ones are left alone."""

    def __init__(self) -> None:
        self._met: OrderedDict[bytes, None] = OrderedDict()
        self._left_alone: dict[bytes, tuple[Any, datetime]] = {}

    def leave_alone(self, stray: Stray, now: datetime) -> None:
        """Keep it out of what is looked for, for a while."""
        self.meet(stray, "it is left alone until it is mended")
        self._left_alone[stray.name] = (stray.key, now + LOOK_AGAIN_AFTER)

    def meet(self, stray: Stray, remark: str) -> None:
        """Log it, if it is new."""
        if stray.name not in self._met:
            logger.error("%s; %s", stray.error, remark)
            self._met[stray.name] = None
        self._met.move_to_end(stray.name)
        if len(self._met) > REMEMBERED:
            forgotten, _ = self._met.popitem(last=False)
            self._left_alone.pop(forgotten, None)

    def excluded(self, now: datetime) -> Document:
        """The part of a filter that keeps out what is left alone; empty while there is nothing."""
        keys = [key for key, until in self._left_alone.values() if until > now]
        return {"_id": {"$nin": keys}} if keys else {}


async def read_each(
    collection: AsyncCollection[Document], query: Query, read: Callable[[Document], T]
) -> tuple[list[T], list[Stray]]:
    """What a query finds, each document read by itself, and those that cannot be read."""
    try:
        found = await _all(query(collection))
    except InvalidBSON:  # in one of them, and the driver does not say which
        found = await _all(query(collection.with_options(codec_options=RAW)))
    results: list[T] = []
    strays: list[Stray] = []
    for document in found:
        try:
            results.append(read(_decoded(document, collection.name)))
        except CorruptDocument as error:
            strays.append(Stray(key=_readable(document).get("_id"), error=error))
    return results, strays


async def read_first(
    collection: AsyncCollection[Document],
    look: Callable[[AsyncCollection[Any], int], Cursor],
    read: Callable[[Document], T],
    limit: int,
) -> tuple[list[T], list[Stray]]:
    """The first so many that can be read of what a query finds, and the strays before them.

    `look` is told how many to find.
    """
    count = limit

    def query(collection: AsyncCollection[Any]) -> Cursor:
        return look(collection, count)

    while True:
        found, strays = await read_each(collection, query, read)
        if len(found) >= limit or len(found) + len(strays) < count:
            return found[:limit], strays
        count *= 2


async def _all(cursor: Cursor) -> list[Any]:
    if inspect.isawaitable(cursor):
        cursor = await cursor
    found: list[Any] = await cursor.to_list(None)
    return found


def _decoded(document: Document | RawBSONDocument, collection: str) -> Document:
    if not isinstance(document, RawBSONDocument):
        return document
    try:
        return bson.decode(document.raw, CODEC)
    except InvalidBSON as error:
        fields = _readable(document)
        name = fields.get(doc.WORKFLOW_ID, fields.get("_id"))
        raise undecodable(collection, name, error) from error


def _readable(document: Document | RawBSONDocument) -> Document:
    return readable(bytes(document.raw)) if isinstance(document, RawBSONDocument) else document


def undecodable(collection: str, name: object, error: InvalidBSON) -> CorruptDocument:
    """The error for a document that is no valid BSON, or holds what Python cannot represent."""
    return CorruptDocument(collection, name, "BSON", f"cannot be decoded: {error}")
