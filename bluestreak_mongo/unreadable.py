"""Unreadable documents: what neither library writes, and what must disturb no other workflow."""

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
from bluestreak_mongo.bson_rules import CODEC, RAW
from bluestreak_mongo.raw_fields import readable
from bluestreak_mongo.schema import Document
from bluestreak_mongo.schema import workflow as wf

T = TypeVar("T")
logger = logging.getLogger(__name__)

REMEMBERED = 10_000
"""How many unreadable documents a store remembers, the last that it met."""

LOOK_AGAIN_AFTER = timedelta(minutes=10)
"""How long a document is set aside before it is read again: somebody may have mended it."""

Cursor = Any
"""A cursor, or what one is awaited from: the drivers differ in what an aggregation returns."""

Query = Callable[[AsyncCollection[Any]], Cursor]


@dataclass(frozen=True, slots=True, kw_only=True)
class Unreadable:
    """A document that cannot be read; `key` is its `_id`."""

    key: Any
    error: CorruptDocument

    @property
    def name(self) -> bytes:
        """What no other document has."""
        return bson.encode({self.error.collection: self.key}, codec_options=CODEC)


class UnreadableDocuments:
    """The unreadable documents that a store has met: logged once each, and set aside if due."""

    def __init__(self) -> None:
        self._met: OrderedDict[bytes, None] = OrderedDict()
        self._set_aside: dict[bytes, tuple[Any, datetime]] = {}

    def set_aside(self, document: Unreadable, now: datetime) -> None:
        """Log it, and leave it out of queries for a while; see `excluded`."""
        self.report(document, "it is left alone until it is mended")
        self._set_aside[document.name] = (document.key, now + LOOK_AGAIN_AFTER)

    def report(self, document: Unreadable, remark: str) -> None:
        """Log it with a remark if it is new."""
        if document.name not in self._met:
            logger.error("%s; %s", document.error, remark)
            self._met[document.name] = None
        self._met.move_to_end(document.name)
        if len(self._met) > REMEMBERED:
            forgotten, _ = self._met.popitem(last=False)
            self._set_aside.pop(forgotten, None)

    def excluded(self, now: datetime) -> Document:
        """The part of a filter that leaves out what is set aside; empty while there is nothing."""
        keys = [key for key, until in self._set_aside.values() if until > now]
        return {"_id": {"$nin": keys}} if keys else {}


async def read_each(
    collection: AsyncCollection[Document], query: Query, read: Callable[[Document], T]
) -> tuple[list[T], list[Unreadable]]:
    """The documents that a query finds, each read by itself, and the unreadable ones."""
    try:
        found = await _all(query(collection))
    except InvalidBSON:  # in one of them, and the driver does not say which
        found = await _all(query(collection.with_options(codec_options=RAW)))
    results: list[T] = []
    unreadable: list[Unreadable] = []
    for document in found:
        try:
            results.append(read(_decoded(document, collection.name)))
        except CorruptDocument as error:
            unreadable.append(Unreadable(key=_readable(document).get("_id"), error=error))
    return results, unreadable


async def read_first(
    collection: AsyncCollection[Document],
    look: Callable[[AsyncCollection[Any], int], Cursor],
    read: Callable[[Document], T],
    limit: int,
) -> tuple[list[T], list[Unreadable]]:
    """The first `limit` readable documents that a query finds, and the unreadable ones before them.

    `look` makes the query for a number of documents.
    """
    count = limit

    def query(collection: AsyncCollection[Any]) -> Cursor:
        return look(collection, count)

    while True:
        found, unreadable = await read_each(collection, query, read)
        if len(found) >= limit or len(found) + len(unreadable) < count:
            return found[:limit], unreadable
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
        name = fields.get(wf.WORKFLOW_ID, fields.get("_id"))
        raise undecodable(collection, name, error) from error


def _readable(document: Document | RawBSONDocument) -> Document:
    return readable(bytes(document.raw)) if isinstance(document, RawBSONDocument) else document


def undecodable(collection: str, name: object, error: InvalidBSON) -> CorruptDocument:
    """The error for a document that is no valid BSON, or holds what Python cannot represent."""
    return CorruptDocument(collection, name, "BSON", f"cannot be decoded: {error}")
