"""The fields of a document that cannot be decoded as a whole, each read by itself.

Until PyMongo 4.20 one binary that says it is a UUID, and is of another length, keeps everything
beside it from being read, `_id` included, whatever the codec options. The layout of an element is
that of https://bsonspec.org/spec.html: a byte for its type, its name, and its value.
"""

from __future__ import annotations

from collections.abc import Iterator
from struct import Struct
from typing import Any

import bson
from bson import Binary
from bson.errors import InvalidBSON

from bluestreak_mongo.bson_rules import TOLERANT

_LENGTH = Struct("<i")
_BINARY, _REGEX, _END = 0x05, 0x0B, 0x00
_TYPES_BY_SIZE = {
    0: (0x06, 0x0A, 0x7F, 0xFF),
    1: (0x08,),
    4: (0x10,),
    8: (0x01, 0x09, 0x11, 0x12),
    12: (0x07,),
    16: (0x13,),
}
_FIXED = {kind: size for size, kinds in _TYPES_BY_SIZE.items() for kind in kinds}
"""The size of a value by its type, in bytes."""

_COUNTED = {0x02: 4, 0x0D: 4, 0x0E: 4, _BINARY: 5, 0x0C: 16, 0x03: 0, 0x04: 0, 0x0F: 0}
"""Where a value begins with a length: what comes on top of that."""


def readable(raw: bytes) -> dict[str, Any]:
    """The fields that can be read, of a document in valid BSON. A binary is taken as it stands."""
    fields: dict[str, Any] = {}
    for name, kind, element, value in _elements(raw):
        if kind == _BINARY:
            fields[name] = Binary(value[5:], value[4]) if value[4] else value[5:]
            continue
        document = _LENGTH.pack(len(element) + 5) + element + bytes([_END])
        try:
            fields[name] = bson.decode(document, TOLERANT)[name]
        except (InvalidBSON, KeyError):  # which is why each is read by itself
            continue
    return fields


def _elements(raw: bytes) -> Iterator[tuple[str, int, bytes, bytes]]:
    """The name, the type, all bytes and the value of each element."""
    at = _LENGTH.size
    while raw[at] != _END:
        end_of_name = raw.index(_END, at + 1)
        begin = end_of_name + 1
        end = begin + _size(raw[at], raw, begin)
        name = raw[at + 1 : end_of_name].decode(errors="replace")
        yield name, raw[at], raw[at:end], raw[begin:end]
        at = end


def _size(kind: int, raw: bytes, begin: int) -> int:
    if kind == _REGEX:  # two texts, each with an end
        return raw.index(_END, raw.index(_END, begin) + 1) + 1 - begin
    if kind in _FIXED:
        return _FIXED[kind]
    (length,) = _LENGTH.unpack_from(raw, begin)
    return int(length) + _COUNTED[kind]
