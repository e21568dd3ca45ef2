"""The first part of a value that would not survive being stored."""

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
    """A part that would come back changed. `path` leads to it in the value: `"['items'][3]"`."""

    reason: str
    path: str = ""

    def below(self, key: object) -> Difference:
        """The same difference, seen from the value that has this part under a key."""
        return Difference(reason=self.reason, path=f"[{key!r}]{self.path}")


def find_difference(given: Any, found: Any) -> Difference | None:
    """Where a given value first differs from the value that would come back.

    As with plain values, a tuple may come back as a list, an enum of strings as a str, a subclass
    as its base. Datetimes are compared to the millisecond. NaN equals itself.
    """
    if type(given) is type(found) and type(given) in _ATOMS and given == found:
        return None  # true of most values, and quick
    if not _are_alike(given, found):
        return Difference(reason=f"{_name(given)} would come back as {_name(found)}")
    if isinstance(given, set | frozenset):
        return _between_sets(given, found)
    parts = _parts(given)
    if parts is not None:
        return _between_parts(parts, _parts(found) or {})
    if _cut(given) == _cut(found) or (given != given and found != found):  # noqa: PLR0124 - NaN
        return None
    return Difference(reason=f"{_name(given)} would come back with another value")


def _are_alike(given: Any, found: Any) -> bool:
    """Whether the class of the given value may become that of the found one."""
    if type(given) is type(found) or {type(given), type(found)} == {list, tuple}:
        return True
    if isinstance(given, dict) and isinstance(found, dict):
        return True
    if isinstance(given, BaseModel | tuple) or is_dataclass(given):
        return False  # its fields would be lost
    if isinstance(found, Enum):
        return not isinstance(given, Enum) and isinstance(found, type(given))
    # A type checker accepts an int as a float, too.
    return isinstance(given, type(found)) or (isinstance(given, int) and type(found) is float)


def _parts(value: Any) -> Mapping[Any, Any] | None:
    """The parts of a value that has keys; its class may not define equality."""
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


def _between_parts(given: Mapping[Any, Any], found: Mapping[Any, Any]) -> Difference | None:
    keys = {key: key for key in found}
    for key, part in given.items():
        if key not in keys:
            return Difference(reason="it would not come back").below(key)
        difference = find_difference(key, keys[key]) or find_difference(part, found[key])
        if difference is not None:
            return difference.below(key)
    added = [key for key in keys if key not in given]
    return Difference(reason="it would be added").below(added[0]) if added else None


def _between_sets(given: AbstractSet[Any], found: AbstractSet[Any]) -> Difference | None:
    if len(given) != len(found):
        return Difference(reason=f"{len(given)} members would come back as {len(found)}")
    by_cut = {_cut(member): member for member in found}
    for member in given:
        cut = _cut(member)
        if cut not in by_cut:
            return Difference(reason=f"{_name(member)} in it would not come back")
        difference = find_difference(member, by_cut[cut])
        if difference is not None:  # no path leads through a set
            return Difference(reason=difference.reason)
    return None


def _cut(value: Any) -> Hashable:
    """The same for all values that are equal to the millisecond."""
    if isinstance(value, datetime):
        return in_milliseconds(value)
    if isinstance(value, set | frozenset):
        return frozenset(map(_cut, value))
    parts = _parts(value)
    cut: Hashable = value
    return cut if parts is None else frozenset((key, _cut(part)) for key, part in parts.items())


def _name(value: Any) -> str:
    return type(value).__name__
