"""Duplicate keys: of the ids by which documents are found, or of an application's own index.

Only the former says that something was recorded before. The latter refuses a document.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo.errors import DuplicateKeyError, OperationFailure, WriteError

from bluestreak_mongo.error_code import reason_of
from bluestreak_mongo.schema.index import KEYS

DUPLICATE_KEY = 11000
"""The code of either."""


def told_apart(error: Mapping[str, Any], collection: str) -> WriteError:
    """What a server says of one document: `DuplicateKeyError` only for a key of ours."""
    is_duplicate = error["code"] == DUPLICATE_KEY and _is_ours(error, collection)
    kind = DuplicateKeyError if is_duplicate else WriteError
    return kind(error["errmsg"], error["code"])


def single_told_apart(error: WriteError, collection: str) -> WriteError:
    """Likewise what the driver makes of it."""
    if not isinstance(error, DuplicateKeyError) or is_duplicate_id(error, collection):
        return error
    return WriteError(reason_of(error), DUPLICATE_KEY)


def is_duplicate_id(error: OperationFailure, collection: str) -> bool:
    """Whether a document of the same id is there; of a driver's error as it comes."""
    return isinstance(error, DuplicateKeyError) and _is_ours(error.details or {}, collection)


def is_foreign(error: Exception | None) -> bool:
    """Whether an index of the application refuses a document, by an error from `told_apart`."""
    is_known = isinstance(error, DuplicateKeyError)
    return isinstance(error, OperationFailure) and error.code == DUPLICATE_KEY and not is_known


def _is_ours(error: Mapping[str, Any], collection: str) -> bool:
    pattern = error.get("keyPattern")
    if pattern is None:  # MongoDB always has one, and what imitates it may not
        return True
    # By a collation, an index takes different ids for the same.
    is_key = set(pattern) == set(KEYS[collection]) and "collation" not in error
    return is_key or set(pattern) == {"_id"}
