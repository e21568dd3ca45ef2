"""Which values can be stored, and what they look like when they are read back.

Inputs, results and outputs are passed on as the store reads them back, even on the first run. So a
program cannot depend on a type that no replay sees: a tuple is always a list, a datetime always in
UTC milliseconds.

Sizes are those of BSON (https://bsonspec.org/spec.html), so that tests on the memory store meet the
same limit as production.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime
from typing import Any, Protocol, cast
from uuid import UUID

from bluestreak_core.clock import in_milliseconds
from bluestreak_core.errors import UnstorableValue, ValueTooLarge

MAX_VALUE_BYTES = 16 * 1024 * 1024 - 64 * 1024
"""The largest value: MongoDB's limit for a document, less room for the other fields."""

MAX_DEPTH = 100
"""The deepest nesting of lists and dicts, the outermost included; MongoDB's documented limit."""


class ValueRules(Protocol):
    """What a store can hold, as a function from a value to the value that will be read back."""

    def round_trip(self, value: object, what: str, room: int = MAX_VALUE_BYTES) -> tuple[Any, int]:
        """The value as it will be read back, a deep copy, and its size in bytes of BSON.

        `what` names the value in errors; `room` is the largest size allowed. A round trip of the
        returned value yields an equal one.

        Raises `UnstorableValue` with the place and the type, or `ValueTooLarge` with the size.
        """
        ...


class PlainRules:
    """The values that every store can hold.

    These are None, bool, 64-bit int, float, str, bytes, UUID, datetime, list, tuple, and dict with
    str keys. An instance of a subclass is stored as its base type: a `StrEnum` is read back as a
    str, a named tuple as a list.
    """

    def round_trip(self, value: object, what: str, room: int = MAX_VALUE_BYTES) -> tuple[Any, int]:
        """See `ValueRules.round_trip`."""
        copy, size = _Walk(what).element(value)
        if size > room:
            raise ValueTooLarge(what, size, room)
        return copy, size


def find_unstorable(
    value: object, what: str, also: tuple[type, ...] = ()
) -> UnstorableValue | None:
    """The first place where a value breaks the plain rules, or None.

    For a store whose driver refuses a value without saying where. `also` are further types that the
    store can hold.
    """
    try:
        _Walk(what, also).element(value)
    except UnstorableValue as refusal:
        return refusal
    return None


def same_value(stored: object, given: object) -> bool:
    """Whether `given` would be read back as `stored`. NaN equals NaN."""
    match given:
        case list() | tuple():
            return (
                isinstance(stored, list)
                and len(stored) == len(given)
                and all(map(same_value, stored, given))
            )
        case dict():
            return (
                isinstance(stored, dict)
                and stored.keys() == given.keys()
                and all(same_value(stored[key], value) for key, value in given.items())
            )
        case datetime():
            return stored == in_milliseconds(given)
        case bool() | int() | float():
            kinds = (bool, float)
            alike = all(isinstance(stored, kind) is isinstance(given, kind) for kind in kinds)
            return alike and (stored == given or (given != given and stored != stored))  # noqa: PLR0124
    return bool(stored == given)


class _Walk:
    """One pass over a value, which copies and measures it, with a method for each type.

    `_path` is the current place, `_open` holds the ids of the containers around it.
    """

    def __init__(self, what: str, also: tuple[type, ...] = ()) -> None:
        self._what = what
        self._also = also
        self._path: list[object] = []
        self._open: set[int] = set()

    def element(self, value: object) -> tuple[Any, int]:
        copied = _COPIES.get(type(value))
        return copied(self, value) if copied else self._copy_of_subclass(value)

    def _copy_of_subclass(self, value: object) -> tuple[Any, int]:
        # Not `isinstance`, since a mock can claim to be an instance of anything.
        copies = [copy for base, copy in _COPIES.items() if issubclass(type(value), base)]
        if not copies:
            if issubclass(type(value), self._also):
                return None, 0
            reason = "no store holds this type; annotate it and use PydanticCodec to convert it"
            raise self._refusal(value, reason)
        try:
            return copies[0](self, value)
        except UnstorableValue:
            raise
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # methods that a subclass overrides may raise anything
            raise self._refusal(value, f"reading it raised {type(error).__name__}") from error

    def copy_none(self, _: object) -> tuple[None, int]:
        return None, 0

    def copy_bool(self, value: Any) -> tuple[bool, int]:
        return value, 1

    def copy_int(self, value: Any) -> tuple[int, int]:
        plain = int.__int__(value)
        if not -(2**63) <= plain < 2**63:
            raise self._refusal(value, "it does not fit into 64 bits")
        return plain, 4 if -(2**31) <= plain < 2**31 else 8

    def copy_float(self, value: Any) -> tuple[float, int]:
        return float.__float__(value), 8

    def copy_str(self, value: Any) -> tuple[str, int]:
        try:
            return str.__str__(value), 5 + len(str.encode(value))
        except UnicodeEncodeError as error:
            raise self._refusal(value, "it cannot be encoded as UTF-8") from error

    def copy_bytes(self, value: Any) -> tuple[bytes, int]:
        plain = bytes.__bytes__(value)
        return plain, 5 + len(plain)

    def copy_uuid(self, value: Any) -> tuple[UUID, int]:
        return UUID(bytes=value.bytes), 21

    def copy_datetime(self, value: Any) -> tuple[datetime, int]:
        try:
            return in_milliseconds(value), 8
        except OverflowError as error:
            raise self._refusal(value, "it is out of range in UTC") from error
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # its tzinfo may raise anything
            raise self._refusal(value, f"reading it raised {type(error).__name__}") from error

    def copy_list(self, value: Any) -> tuple[list[Any], int]:
        self._enter(value)
        copy, size = [], 5
        for index, item in enumerate(value):
            self._path.append(index)
            item_copy, item_size = self.element(item)
            self._path.pop()
            copy.append(item_copy)
            size += 2 + len(str(index)) + item_size
        self._open.discard(id(value))
        return copy, size

    def copy_dict(self, value: Any) -> tuple[dict[str, Any], int]:
        self._enter(value)
        copy: dict[str, Any] = {}
        size = 5
        for key, item in value.items():
            self._path.append(key)
            key_copy, key_size = self._key(key)
            copy[key_copy], item_size = self.element(item)
            self._path.pop()
            size += 2 + key_size + item_size
        if "$ref" in copy and "$id" in copy:
            raise self._refusal(value, "MongoDB would read a dict with $ref and $id as a DBRef")
        self._open.discard(id(value))
        return copy, size

    def _key(self, key: object) -> tuple[str, int]:
        if not issubclass(type(key), str):
            raise self._refusal(key, "a key is a str")
        copy, size = self.copy_str(key)
        if "\0" in copy:
            raise self._refusal(key, "a key contains no NUL")
        return copy, size - 5

    def _enter(self, value: object) -> None:
        if id(value) in self._open:
            raise self._refusal(value, "it contains itself")
        if len(self._open) == MAX_DEPTH:
            raise self._refusal(value, f"it is nested more than {MAX_DEPTH} deep")
        self._open.add(id(value))

    def _refusal(self, value: object, reason: str) -> UnstorableValue:
        path = "".join(f"[{_shown(step)}]" for step in self._path)
        return UnstorableValue(self._what, path, type(value).__name__, reason)


def _shown(step: object) -> str:
    """An index or a key of a path. A key may be anything, even something that cannot be shown."""
    if issubclass(type(step), str):
        return str.__repr__(cast("str", step))
    try:
        return repr(step)
    except Exception:  # noqa: BLE001 - a key's repr may raise anything
        return f"({type(step).__name__})"


_Copy = Callable[[_Walk, Any], tuple[Any, int]]

# The first match counts, so bool precedes its base class int.
_COPIES: dict[type, _Copy] = {
    type(None): _Walk.copy_none,
    bool: _Walk.copy_bool,
    int: _Walk.copy_int,
    float: _Walk.copy_float,
    str: _Walk.copy_str,
    bytes: _Walk.copy_bytes,
    UUID: _Walk.copy_uuid,
    datetime: _Walk.copy_datetime,
    list: _Walk.copy_list,
    tuple: _Walk.copy_list,
    dict: _Walk.copy_dict,
}
