"""Plain values, as stores hold them, from the values that pydantic dumps."""

from __future__ import annotations

from collections import deque
from datetime import datetime
from enum import Enum
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import PurePath
from typing import Any
from uuid import UUID

from pydantic_core import PydanticSerializationError, to_jsonable_python

from bluestreak_core.clock import in_milliseconds

_TEXTS = (
    *(IPv4Address, IPv4Interface, IPv4Network, IPv6Address, IPv6Interface, IPv6Network),
    PurePath,
)
"""Types that some releases of pydantic have no JSON form for."""

_KEPT = frozenset({type(None), bool, int, float, str, bytes, UUID})


def to_plain(value: Any) -> Any:
    """The value in the types that every store holds.

    A datetime (in UTC milliseconds), bytes and a UUID stay, so that a database can index them. An
    enum becomes its value, a set or a tuple a list, the keys of a dict strings. Other types, such
    as a date or a Decimal, take their JSON form. A value without a JSON form stays as it is: the
    store may hold it, or refuse it and name its place.
    """
    if type(value) in _KEPT:
        return value
    if isinstance(value, datetime):
        return in_milliseconds(value)
    if isinstance(value, Enum):
        return to_plain(value.value)
    if isinstance(value, dict):
        return {_key(key): to_plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple | set | frozenset | deque):
        items = [to_plain(item) for item in value]
        # A set's order depends on the process, and a strict start compares stored values.
        return sorted(items, key=repr) if isinstance(value, set | frozenset) else items
    return _as_in_json(value)


def _as_in_json(value: Any) -> Any:
    if isinstance(value, _TEXTS):
        return str(value)
    try:
        return to_jsonable_python(value)
    except PydanticSerializationError:
        return value


def _key(key: Any) -> Any:
    if isinstance(key, Enum):
        return _key(key.value)
    return key if isinstance(key, str) else next(iter(to_jsonable_python({key: None})))
