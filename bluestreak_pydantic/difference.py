"""What of a value does not survive being stored."""

from __future__ import annotations

from collections import deque
from collections.abc import Hashable, Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass, fields, is_dataclass
from datetime import date, datetime
from decimal import Decimal
from enum import Enum
from typing import Any
from uuid import UUID

from pydantic import BaseModel

from bluestreak_core.clock import in_milliseconds

_ATOMS = frozenset({type(None), bool, int, float, str, bytes, UUID, date, datetime, Decimal})


@dataclass(frozen=True, slots=True, kw_only=True)
class Difference:
    """What would come back as another; `path` leads to it inside the value: `"['items'][3]"`."""

    reason: str
    path: str = ""

    def below(self, key: object) -> Difference:
        """The same difference, of what a value has under a key."""
        return Difference(reason=self.reason, path=f"[{key!r}]{self.path}")


def find_difference(one: Any, other: Any) -> Difference | None:
    """Where a value first differs from what would come back, in its value or in its class.

    As plain values do, a tuple may come back as a list, an enum of strings as a str, a subclass as
    its base; datetimes are compared to the millisecond. What is no number is equal to itself.
    """
    if type(one) is type(other) and type(one) in _ATOMS and one == other:
        return None  # as of most values, and this is quick
    if not _are_alike(one, other):
        return Difference(reason=f"{_name(one)} would come back as {_name(other)}")
    if isinstance(one, set | frozenset):
        return _between_sets(one, other)
    parts = _parts(one)
    if parts is not None:
        return _between_parts(parts, _parts(other) or {})
    if _cut(one) == _cut(other) or (one != one and other != other):  # noqa: PLR0124 - NaN
        return None
    return Difference(reason=f"{_name(one)} would come back with another value")


def _are_alike(one: Any, other: Any) -> bool:
    """Whether the class of the one may have become that of the other."""
    if type(one) is type(other) or {type(one), type(other)} == {list, tuple}:
        return True
    if isinstance(one, dict) and isinstance(other, dict):
        return True
    if isinstance(one, BaseModel | tuple) or is_dataclass(one):
        return False  # its fields would be lost
    if isinstance(other, Enum):
        return not isinstance(one, Enum) and isinstance(other, type(one))
    # A type checker takes an int for a float, too.
    return isinstance(one, type(other)) or (isinstance(one, int) and type(other) is float)


def _parts(value: Any) -> Mapping[Any, Any] | None:
    """What a value consists of, if it has keys; its class may have no equality of its own."""
    if isinstance(value, dict):
        return value
    if isinstance(value, list | tuple | deque):
        return dict(enumerate(value))
    if isinstance(value, BaseModel):
        names = type(value).model_fields
        return {name: getattr(value, name) for name in names} | (value.model_extra or {})
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in fields(value)}
    return None


def _between_parts(ones: Mapping[Any, Any], others: Mapping[Any, Any]) -> Difference | None:
    keys = {key: key for key in others}
    for key, one in ones.items():
        if key not in keys:
            return Difference(reason="it would not come back").below(key)
        found = find_difference(key, keys[key]) or find_difference(one, others[key])
        if found is not None:
            return found.below(key)
    added = [key for key in keys if key not in ones]
    return Difference(reason="it would be added").below(added[0]) if added else None


def _between_sets(ones: AbstractSet[Any], others: AbstractSet[Any]) -> Difference | None:
    if len(ones) != len(others):
        return Difference(reason=f"{len(ones)} members would come back as {len(others)}")
    by_cut = {_cut(other): other for other in others}
    for one in ones:
        cut = _cut(one)
        if cut not in by_cut:
            return Difference(reason=f"{_name(one)} in it would not come back")
        found = find_difference(one, by_cut[cut])
        if found is not None:  # whose path would not lead through a set
            return Difference(reason=found.reason)
    return None


def _cut(value: Any) -> Hashable:
    """What values have in common that are equal to the millisecond."""
    if isinstance(value, datetime):
        return in_milliseconds(value)
    if isinstance(value, set | frozenset):
        return frozenset(map(_cut, value))
    parts = _parts(value)
    cut: Hashable = value
    return cut if parts is None else frozenset((key, _cut(part)) for key, part in parts.items())


def _name(value: Any) -> str:
    return type(value).__name__
