"""What is shown of PyMongo's errors."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pymongo.errors import BulkWriteError, OperationFailure, PyMongoError

from bluestreak_core.errors.text import one_line


def shown(error: PyMongoError) -> str:
    """What an error says, in one line: of a server's answer its message and code.

    PyMongo's own text ends in that answer, which may be raw BSON, or hold what was to be written.
    """
    if not isinstance(error, OperationFailure) or error.details is None:
        return one_line(str(error))
    answer = _first_of(error.details) if isinstance(error, BulkWriteError) else error.details
    message = answer.get("errmsg") or str(error).partition(", full error: ")[0]
    code = answer.get("code", error.code)
    names = [str(name) for name in (answer.get("codeName"), code) if name is not None]
    return one_line(f"{message} ({', '.join(names)})" if names else str(message))


def _first_of(details: Mapping[str, Any]) -> Mapping[str, Any]:
    """The first error of a bulk write."""
    errors = [*details.get("writeErrors", ()), *details.get("writeConcernErrors", ())]
    first: Mapping[str, Any] = errors[0] if errors else details
    return first
