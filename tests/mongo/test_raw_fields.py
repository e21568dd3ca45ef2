"""Fields that are read one by one, compared with PyMongo's reading of the whole."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import bson
import pytest
from bson import (
    Binary,
    Code,
    DBRef,
    Decimal128,
    Int64,
    MaxKey,
    MinKey,
    ObjectId,
    Regex,
    Timestamp,
)

from bluestreak_mongo.bson_rules import TOLERANT
from bluestreak_mongo.raw_fields import readable

VALUES = [
    *(1.5, "text", "", {"a": {"b": [1, 2]}}, {}, [], [1, "x"], b"bytes", True, False, None),
    *(ObjectId(), datetime(2030, 1, 1, tzinfo=UTC), 7, 2**40, Int64(1), Decimal128("1.5")),
    *(Timestamp(1, 2), MinKey(), MaxKey(), Code("f"), Code("f", {"a": 1}), DBRef("c", 1)),
    *(Regex("a.*", "i"), re.compile("b"), Binary(b"b", 5), Binary(b"x" * 16, 4)),
]


def test_every_type_is_read_as_pymongo_reads_it() -> None:
    document = {f"field {place}": value for place, value in enumerate(VALUES)}
    encoded = bson.encode(document, codec_options=TOLERANT)
    assert readable(encoded) == bson.decode(encoded, TOLERANT)


@pytest.mark.parametrize("value", [Binary(b"short", 4), {"inside": Binary(b"short", 4)}])
def test_what_pymongo_may_refuse_keeps_nothing_else_from_being_read(value: Any) -> None:
    encoded = bson.encode({"_id": 7, "odd": value, "workflowId": "w"}, codec_options=TOLERANT)
    fields = readable(encoded)
    assert fields.pop("odd", value) == value
    assert fields == {"_id": 7, "workflowId": "w"}
