"""What JavaScript can write, as a handler gets it, and as it is stored again when it returns it."""

from __future__ import annotations

import struct
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

import bson
import pytest
import pytest_asyncio
from bson import (
    Binary,
    Code,
    CodecOptions,
    DBRef,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
)
from bson.binary import UuidRepresentation
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from pymongo.database import Database

from bluestreak_core import Bluestreak, Context, WorkflowAborted
from bluestreak_core.testing import ManualClock
from bluestreak_memory import MemoryStore
from bluestreak_mongo import BsonRules, MongoStore
from bluestreak_pydantic import PydanticCodec
from tests.mongo.arrange import NOW, Document, new, polling

pytestmark = [pytest.mark.asyncio, pytest.mark.server, pytest.mark.usefixtures("unmeasured")]

RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)
KEY = ObjectId("0123456789abcdef01234567")
LAST_MS = 253_402_300_799_999
"""The last millisecond of the year 9999, since 1970."""
LAST_DATE = 8_640_000_000_000_000
"""The last one that a Date of JavaScript has."""


def element(kind: int, content: bytes) -> bytes:
    """One element named `v`, in BSON that PyMongo does not write."""
    return bytes([kind]) + b"v\0" + content


def of(value: Any) -> bytes:
    """One element named `v`, as PyMongo writes it."""
    options = CodecOptions[Document](uuid_representation=UuidRepresentation.STANDARD)
    return bson.encode({"v": value}, codec_options=options)[4:-1]


# By what it is in JavaScript: the element, and what it is in Python.
WRITTEN: dict[str, tuple[bytes, Any]] = {
    "null": (of(None), None),
    "undefined": (element(0x06, b""), None),
    "boolean": (of(True), True),
    "string": (of("text"), "text"),
    "symbol": (element(0x0E, struct.pack("<i", 5) + b"text\0"), "text"),
    "number": (of(7), 7),
    "fraction": (of(0.5), 0.5),
    "number above 2^31": (of(2.0**31), 2.0**31),
    "infinity": (of(float("-inf")), float("-inf")),
    "bigint": (of(Int64(2**53 + 2)), 2**53 + 2),
    "long": (of(Int64(5)), 5),
    "date": (of(NOW), NOW),
    "last date of Python": (
        of(DatetimeMS(LAST_MS)),
        datetime(9999, 12, 31, 23, 59, 59, 999_000, UTC),
    ),
    "date after Python": (of(DatetimeMS(LAST_DATE)), DatetimeMS(LAST_DATE)),
    "date before Python": (of(DatetimeMS(-LAST_DATE)), DatetimeMS(-LAST_DATE)),
    "buffer": (of(b"\0\xff"), b"\0\xff"),
    "uuid": (of(UUID(int=7)), UUID(int=7)),
    "binary of another kind": (of(Binary(b"x", 128)), Binary(b"x", 128)),
    "array": (of([1, [2]]), [1, [2]]),
    "object": (of({"b": 1, "a": {"": 2}}), {"b": 1, "a": {"": 2}}),
    "regexp": (of(Regex("^a", "i")), Regex("^a", "i")),
    "ObjectId": (of(KEY), KEY),
    "Decimal128": (of(Decimal128("1.10")), Decimal128("1.10")),
    "Timestamp": (of(Timestamp(1, 2)), Timestamp(1, 2)),
    "Code": (of(Code("f()", {"a": 1})), Code("f()", {"a": 1})),
    "DBRef": (of({"$ref": "c", "$id": KEY}), DBRef("c", KEY)),
    "MinKey": (of(MinKey()), MinKey()),
    "MaxKey": (of(MaxKey()), MaxKey()),
}


@pytest_asyncio.fixture
async def store(
    mongodb_url: str, empty_database: str, clock: ManualClock
) -> AsyncIterator[MongoStore]:
    store = MongoStore(mongodb_url, database=empty_database, clock=clock)
    await store.init()
    yield store
    await store.close()


def start_by_javascript(raw: Database[Document], value: bytes) -> None:
    """What its `start` inserts, with the element `v` as the input."""
    fields = {
        "workflowId": "w",
        "handlerId": "h",
        "status": "idle",
        "timeoutAt": NOW,
        "failures": 0,
    }
    named = bytes([value[0]]) + b"input\0" + value[3:]
    content = bson.encode({"_id": ObjectId()} | fields)[4:-1] + named
    document = struct.pack("<i", len(content) + 5) + content + b"\0"
    raw.get_collection("workflows", codec_options=RAW).insert_one(RawBSONDocument(document))


@pytest.mark.parametrize("name", WRITTEN)
async def test_what_javascript_writes_arrives_as_the_table_says_and_can_be_returned(
    store: MongoStore, raw: Database[Document], name: str
) -> None:
    value, expected = WRITTEN[name]
    start_by_javascript(raw, value)
    inputs: list[Any] = []
    bluestreak = Bluestreak(store, wait_retry_interval=0)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: Any) -> Any:
        inputs.append(input)
        return await ctx.step("s", lambda: [input])

    await bluestreak.init()
    async with polling(bluestreak):
        result = await bluestreak.wait("w")
    for arrived in (inputs[0], result[0]):
        assert (type(arrived), arrived) == (type(expected), expected)


@pytest.mark.parametrize("name", WRITTEN)
async def test_a_memory_store_with_the_rules_of_bson_holds_it_alike(name: str) -> None:
    _, expected = WRITTEN[name]
    store = MemoryStore(rules=BsonRules())
    await store.create(new("w", input=[expected]))
    workflow = await store.find_workflow("w")
    assert workflow is not None
    held = workflow.input[0]
    assert (type(held), held) == (type(expected), expected)


async def test_a_handler_that_wants_a_datetime_gets_no_date_that_python_lacks(
    store: MongoStore, raw: Database[Document]
) -> None:
    start_by_javascript(raw, WRITTEN["date after Python"][0])
    bluestreak = Bluestreak(store, wait_retry_interval=0, codec=PydanticCodec())

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: datetime) -> None:
        raise AssertionError(f"called with {input!r}")

    await bluestreak.init()
    async with polling(bluestreak):
        with pytest.raises(WorkflowAborted, match="InvalidValue: stored input of"):
            await bluestreak.wait("w")
