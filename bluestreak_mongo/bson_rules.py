"""Which values MongoDB can hold."""

from __future__ import annotations

from datetime import UTC
from typing import Any

import bson
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
from bson.codec_options import DatetimeConversion, TypeDecoder, TypeRegistry
from bson.datetime_ms import DatetimeMS
from bson.errors import BSONError
from bson.raw_bson import RawBSONDocument

from bluestreak_core.errors import UnstorableValue, ValueTooLarge
from bluestreak_core.store import MAX_VALUE_BYTES
from bluestreak_core.store.values import find_unstorable


class _PlainInt(TypeDecoder):
    """Reads a number of 64 bits as an int, which the driver would make a subclass of it."""

    bson_type = Int64

    def transform_bson(self, value: Int64) -> int:
        """Without what the subclass says of itself."""
        return int(value)


CODEC: CodecOptions[dict[str, Any]] = CodecOptions(
    tz_aware=True,
    tzinfo=UTC,
    uuid_representation=UuidRepresentation.STANDARD,
    # JavaScript has dates that Python has not; they come as `bson.DatetimeMS`.
    datetime_conversion=DatetimeConversion.DATETIME_AUTO,
    type_registry=TypeRegistry([_PlainInt()]),
)
"""How every value is written and read, whatever the application's client is set to."""

TOLERANT = CODEC.with_options(
    uuid_representation=UuidRepresentation.UNSPECIFIED, unicode_decode_error_handler="replace"
)
"""How a few fields are read of documents that neither library may have written."""

RAW = TOLERANT.with_options(document_class=RawBSONDocument)
"""How documents are read that are decoded later, or never."""

TOO_DEEP = 15
"""The code by which a server refuses a document that is nested deeper than it takes."""

_BSON_TYPES = (
    *(Binary, Code, DatetimeMS, DBRef, Decimal128, MaxKey, MinKey, ObjectId, Regex, Timestamp),
)
_UNSET = Timestamp(0, 0)  # which has a meaning of its own in a field of a document
_KEY = "v"
_OVERHEAD = len(bson.encode({_KEY: None}))


class BsonRules:
    """What BSON holds: the plain values, and BSON's own types such as ObjectId and Decimal128.

    The round trip is the driver's own, so what comes out of it is what a later read gives.
    """

    def round_trip(self, value: object, what: str, room: int = MAX_VALUE_BYTES) -> tuple[Any, int]:
        """See `bluestreak_core.ValueRules.round_trip`."""
        try:
            encoded = bson.encode({_KEY: value}, codec_options=CODEC)
            decoded = bson.decode(encoded, codec_options=CODEC)[_KEY]
        except (BSONError, OverflowError, UnicodeError, RecursionError, ValueError) as error:
            raise unstorable(value, what, str(error)) from error
        except KeyboardInterrupt:
            raise
        except (
            BaseException
        ) as error:  # what a subclass overrides may raise anything, as its repr may
            raise unstorable(value, what, f"reading it raised {type(error).__name__}") from error
        if decoded == _UNSET:
            raise UnstorableValue(what, "", "Timestamp", "the server would replace it by its time")
        size = len(encoded) - _OVERHEAD
        if size > room:
            raise ValueTooLarge(what, size, room)
        return decoded, size


def unstorable(value: object, what: str, reason: str) -> UnstorableValue:
    """The refusal of a value: by its place if that can be found, else by the driver's reason."""
    found = find_unstorable(value, what, also=_BSON_TYPES)
    return found or UnstorableValue(what, "", type(value).__name__, reason)
