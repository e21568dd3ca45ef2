"""Records and values as JSON.

Instants of records are texts in UTC. Values, such as inputs and results, are as in
`bluestreak_core.adapter.to_json`: what JSON lacks is an object with one key, such as
`{"$datetime": "..."}`. A type that only MongoDB has is `{"$repr": "..."}`.
"""

from __future__ import annotations

import json
import math
import sys
from base64 import b64encode
from collections.abc import Callable, Mapping
from dataclasses import fields, is_dataclass
from datetime import datetime
from enum import Enum
from typing import Any
from uuid import UUID

from bluestreak_cli.failure import CommandError
from bluestreak_core.adapter import from_json

STDIN = "-"
"""What stands for the standard input."""

_VALUES = frozenset({"input", "output", "result", "value", "payload"})
"""The fields of records that hold what an application has stored."""


_TAGS: Mapping[type, tuple[str, Callable[[Any], str]]] = {
    float: ("$float", repr),
    datetime: ("$datetime", datetime.isoformat),
    UUID: ("$uuid", lambda value: value.hex),
    bytes: ("$bytes", lambda value: b64encode(value).decode()),
}


def dumped(data: Any) -> str:
    """One line of ASCII, so that no terminal obeys what is in it."""
    return json.dumps(data, allow_nan=False)


def record_form(record: Any) -> Any:
    """A dataclass of Bluestreak's, or a part of one, in the types of JSON."""
    if is_dataclass(record) and not isinstance(record, type):
        return {
            field.name: (value_form if field.name in _VALUES else record_form)(
                getattr(record, field.name)
            )
            for field in fields(record)
        }
    if isinstance(record, datetime):
        return instant_form(record)
    if isinstance(record, Enum):
        return record.value
    if isinstance(record, list | tuple):
        return [record_form(item) for item in record]
    if isinstance(record, Mapping):
        return {key: record_form(item) for key, item in record.items()}
    return record


def instant_form(instant: datetime) -> str:
    """`2026-11-30T10:34:20.578Z`."""
    return instant.isoformat(timespec="milliseconds").replace("+00:00", "Z")


def value_form(value: Any) -> Any:
    """A stored value in the types of JSON."""
    if isinstance(value, list | tuple):
        return [value_form(item) for item in value]
    if isinstance(value, Mapping):
        is_like_a_tag = len(value) == 1 and str(next(iter(value))).startswith("$")
        return {
            f"${key}" if is_like_a_tag else key: value_form(item) for key, item in value.items()
        }
    return _scalar_form(value)


def _scalar_form(value: Any) -> Any:
    if value is None or isinstance(value, bool | str):
        return value
    if isinstance(value, int):
        return int(value)  # not the driver's own kind of int
    if isinstance(value, float) and math.isfinite(value):
        return value
    for kind, (tag, text_of) in _TAGS.items():
        if isinstance(value, kind):
            return {tag: text_of(value)}
    return {"$repr": repr(value)}


def read_value(text: str | None, option: str) -> Any:
    """The value that an option gives as JSON; `-` reads it from the standard input."""
    if text is None:
        return None
    source = sys.stdin.read() if text == STDIN else text
    try:
        return from_json(source)
    except ValueError as error:
        remedy = f"quote it for the shell, as in {option} '{{\"cents\": 5}}' or {option} '\"text\"'"
        raise CommandError(f"{option} is not JSON: {error}", remedy) from error
