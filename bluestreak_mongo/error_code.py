"""What an error of the server is about: this moment, one document, or the sender of the command.

The codes have their names in the server's own list,
https://github.com/mongodb/mongo/blob/master/src/mongo/base/error_codes.yml. Codes of 10000 and
above that have none there are assertions, such as that of an index which cannot hold a value.
"""

from __future__ import annotations

from pymongo.errors import OperationFailure, PyMongoError, WriteError

# UserNotFound, AuthenticationFailed, InvalidSSLConfiguration,
# AuthenticationRestrictionUnmet, MechanismUnavailable, AtlasError
_UNAUTHORIZED = 13
_ATLAS_ERROR = 8000
_CREDENTIALS = frozenset({11, _UNAUTHORIZED, 18, 140, 214, 334, _ATLAS_ERROR})

_INVALID = frozenset(
    {
        *(2, 9, 14, 16, 20, 40),  # BadValue, FailedToParse, TypeMismatch, IllegalOperation, ...
        *(
            27,
            67,
            68,
            85,
            86,
            197,
            291,
        ),  # indexes that are missing, or are there with other options
        *(59, 115, 166, 167, 168, 235, 238),  # commands, options and stages that it does not have
        *(
            61,
            66,
            72,
            73,
            101,
            188,
            224,
            263,
        ),  # ShardKeyNotFound, ImmutableField, InvalidOptions...
        *(76, 123, 148, 354, 376, 411),  # set-ups without replication, read concern or streams
        *(322, 323, 324, 347, 352),  # versions of the API
        *(13297, 31082, 40324, 40413, 40414, 40415, 40573, 50768),  # among them $changeStream
    }
)
"""The server never accepts such a command, unless somebody changes one of the two."""

_UNWRITABLE = frozenset(
    {
        # Overflow (nested too deep), InvalidBSON, InvalidBSONType, NonConformantBSON
        *(15, 22, 357, 378),
        *(10334, 17419, 17420),  # larger than a document may be
    }
)
"""A document is no document to the server, so it refuses the whole command."""

_DOCUMENT = frozenset(
    {
        *_UNWRITABLE,
        *_INVALID,  # where a single document meets them, a type or a value is that of the document
        *(10, 28, 34, 52, 53, 54, 55, 56, 57),  # fields that cannot be set as they are
        *(116, 121, 171, 201),  # DocumentValidationFailure, CannotIndexParallelArrays, ...
    }
)
"""What a document may be refused for."""

_NAMED_FROM = 10_000

_NAMED = frozenset(
    {
        *(10058, 10107, 11600, 11601, 11602, 12586, 12587, 13388, 13435, 13436),
        *(14031, 46841, 50915, 56846, 91331, 640570, 640571),
        *(1003141, 4938500, 10045600, 10171600),
        16500,  # Cosmos DB: TooManyRequests
    }
)
"""Of the codes from there on those that are about the state of the server."""

_LONG = 400

_PASSING_LABELS = (
    "RetryableWriteError",
    "TransientTransactionError",
    "RetryableError",
    "SystemOverloadedError",
)


def is_labelled_passing(error: PyMongoError) -> bool:
    """Whether server or driver say themselves that the same may succeed later."""
    return any(map(error.has_error_label, _PASSING_LABELS))


def is_lasting(error: OperationFailure) -> bool:
    """Whether the same command succeeds only after a change to the server or the application.

    Every other error is an outage, known or not.
    """
    return is_about_sender(error) or error.code in _INVALID


def is_about_sender(error: OperationFailure) -> bool:
    """Whether credentials or privileges are missing, whatever is sent, and in what portions."""
    return error.code in _CREDENTIALS and not _is_quota(error)


def is_unauthenticated(error: PyMongoError) -> bool:
    """Whether a connection has no user, not even one without the privilege.

    That is so once a user has been dropped. If it is created again, its connections stay so.
    """
    if not isinstance(error, OperationFailure) or error.code != _UNAUTHORIZED:
        return False
    return "requires authentication" in str(error)


def is_about_document(error: PyMongoError) -> bool:
    """Whether a write is refused for what its own document holds, or would hold."""
    if not isinstance(error, OperationFailure) or is_labelled_passing(error):
        return False
    if isinstance(error, WriteError):
        return is_code_about_document(error.code)
    return error.code in _UNWRITABLE


def is_code_about_document(code: int | None) -> bool:
    """Whether this is what the server says of one document that it was to write."""
    if code is None:
        return False
    return code in _DOCUMENT or (code >= _NAMED_FROM and code not in _NAMED)


def reason_of(error: OperationFailure) -> str:
    """The server's words, without most of the document that it may repeat in them."""
    text = str((error.details or {}).get("errmsg") or error)
    return text if len(text) <= _LONG else f"{text[: _LONG // 3]} ... {text[-_LONG // 2 :]}"


def _is_quota(error: OperationFailure) -> bool:
    """Whether Atlas has no room left for this cluster: a full disk, under its code for all."""
    return error.code == _ATLAS_ERROR and "quota" in str(error)
