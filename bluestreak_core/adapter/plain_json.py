"""Values and records as JSON, for stores that keep text.

A **value** is what `PlainRules.round_trip` returns. JSON has most of its types. The others are
objects whose only key names the type:

    {"$datetime": "2030-01-01T00:00:00+00:00"}     {"$uuid": "12345678123456781234567812345678"}
    {"$bytes": "AP8="}                             {"$float": "nan"}

A dict whose only key starts with `$` gets another `$` in front of it, so no dict is mistaken for
one of those. The text is ASCII, without control characters, and standard JSON: `NaN` is no token in
it. Integers are written with all their digits, which a reader in JavaScript would round. So keep
the text as text: a column type that parses JSON may round, reorder or refuse it.

A **record** is a `Workflow`, `Step`, `Nap` or `Attempt`. It is kept as one text, or as a row with a
column for each field. Records grow, and processes of two versions may share a database:

- A field that is missing or null is read as its default.
- A field that this version does not know is ignored. It is kept by an update of single columns, and
  by `record_to_json(record, onto=text)`. Entries of a list of entries are written as a whole.

Reading builds these types and no others, whatever the text says. Text that is not of this form
raises `ValueError` for a value and `CorruptDocument` for a record.
"""

from __future__ import annotations

import json
import math
from base64 import b64decode, b64encode
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, fields, replace
from datetime import datetime
from enum import StrEnum
from functools import partial
from types import NoneType, UnionType
from typing import Any, TypeVar, get_args, get_origin, get_type_hints
from uuid import UUID

from bluestreak_core.errors import CorruptDocument
from bluestreak_core.model import (
    Attempt,
    ClaimEntry,
    ErrorRecord,
    FailedStep,
    Nap,
    Step,
    Workflow,
)

Record = Workflow | Step | Nap | Attempt
R = TypeVar("R", bound=Record)
T = TypeVar("T")

Column = str | int | None
"""A field of a record in a row."""

# Values -------------------------------------------------------------------------------------------


def to_json(value: Any) -> str:
    """The text of a value. Raises `TypeError` for a type that `PlainRules` refuses."""
    return _dumped(_tagged(value))


def from_json(text: str) -> Any:
    """The value of a text; equal to the one that was written, NaN aside."""
    return _loaded(text)


def _dumped(data: Any) -> str:
    return json.dumps(data, separators=(",", ":"), allow_nan=False)


def _loaded(text: str) -> Any:
    try:
        return json.loads(text, object_hook=_untagged, parse_constant=_refuse_constant)
    except RecursionError as error:
        raise ValueError("it is nested too deeply") from error


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is not JSON")


def _tagged(value: Any) -> Any:
    """A value in the types of JSON."""
    if type(value) not in _WRITERS:
        raise TypeError(f"a {type(value).__name__} has no JSON form")
    return _WRITERS[type(value)](value)


def _as_it_is(value: Any) -> Any:
    return value


def _write_float(value: float) -> Any:
    return value if math.isfinite(value) else {"$float": repr(value)}


def _write_list(items: Iterable[Any]) -> list[Any]:
    return [_tagged(item) for item in items]


def _write_dict(items: Mapping[str, Any]) -> dict[str, Any]:
    is_like_a_tag = len(items) == 1 and next(iter(items)).startswith("$")
    return {f"${key}" if is_like_a_tag else key: _tagged(item) for key, item in items.items()}


_WRITERS: Mapping[type, Callable[[Any], Any]] = {
    **dict.fromkeys((type(None), bool, int, str), _as_it_is),
    float: _write_float,
    list: _write_list,
    tuple: _write_list,
    dict: _write_dict,
    datetime: lambda value: {"$datetime": value.isoformat()},
    UUID: lambda value: {"$uuid": value.hex},
    bytes: lambda value: {"$bytes": b64encode(value).decode()},
}


def _untagged(data: dict[str, Any]) -> Any:
    """The value of an object whose items have been read."""
    if len(data) != 1:
        return data
    ((key, item),) = data.items()
    if not key.startswith("$"):
        return data
    if key.startswith("$$"):
        return {key[1:]: item}
    if key not in _READERS or not isinstance(item, str):
        raise ValueError(f"{key!r} is no type of a value")
    return _READERS[key](item)


def _read_float(text: str) -> float:
    if text not in {"nan", "inf", "-inf"}:
        raise ValueError(f"{text!r} is no float of this form")
    return float(text)


_READERS: Mapping[str, Callable[[str], Any]] = {
    "$datetime": datetime.fromisoformat,
    "$uuid": UUID,
    "$bytes": partial(b64decode, validate=True),
    "$float": _read_float,
}


# Records ------------------------------------------------------------------------------------------


def record_to_json(record: Record, *, onto: str | None = None) -> str:
    """The text of a record. `onto` is the text that it replaces, whose unknown fields are kept."""
    kept = {} if onto is None else json.loads(onto)
    return _dumped(kept | _written(record))


def record_from_json(kind: type[R], text: str) -> R:
    """The record of a text. Raises `CorruptDocument`."""
    try:
        data = _checked(dict, _loaded(text))
    except (ValueError, TypeError) as error:
        raise CorruptDocument(_collection(kind), None, "record", str(error)) from error
    return _read_record(kind, data, lambda form, item: form.read(item))


def record_to_columns(record: Record) -> dict[str, Column]:
    """The row of a record: a column for each field."""
    kind = type(record)
    return to_columns(kind, {name: getattr(record, name) for name in _FORMS[kind]})


def to_columns(kind: type[Record], changed: Mapping[str, Any]) -> dict[str, Column]:
    """The columns of some fields of a record, such as those of `Change.set`.

    Texts, counts and instants can be compared and sorted: an instant is a text in UTC milliseconds.
    None is NULL, and everything else is JSON.
    """
    forms = _FORMS[kind]
    return {
        name: None if value is None else forms[name].to_column(value)
        for name, value in changed.items()
    }


def record_from_columns(kind: type[R], row: Mapping[str, Any]) -> R:
    """The record of a row, which may lack columns and have others. Raises `CorruptDocument`."""
    return _read_record(kind, row, lambda form, column: form.from_column(column))


@dataclass(frozen=True, slots=True)
class _Form:
    """How fields of a type are written in the types of JSON and read from them."""

    write: Callable[[Any], Any]
    read: Callable[[Any], Any]
    is_scalar: bool = False
    may_be_none: bool = False

    def to_column(self, value: Any) -> Column:
        data: Column = self.write(value)
        return data if self.is_scalar else _dumped(data)

    def from_column(self, column: Any) -> Any:
        return self.read(column if self.is_scalar else _loaded(_checked(str, column)))


def _form(hint: Any) -> _Form:
    if isinstance(hint, UnionType):  # of a type and None
        (known,) = (option for option in get_args(hint) if option is not NoneType)
        return replace(_form(known), may_be_none=True)
    if hint is Any:
        return _Form(_tagged, _as_it_is, may_be_none=True)  # `_loaded` has read the tags
    if hint in _SCALARS:
        return _SCALARS[hint]
    if get_origin(hint) is tuple:
        item = _form(get_args(hint)[0])
        return _Form(
            lambda items: [item.write(each) for each in items],
            lambda items: tuple(item.read(each) for each in _checked(list, items)),
        )
    if issubclass(hint, StrEnum):
        return _Form(str, hint, is_scalar=True)
    return _Form(_written, lambda data: _read(hint, _checked(dict, data)))


def _written(record: Any) -> dict[str, Any]:
    """A record, or a part of one, as a JSON object."""
    written = {}
    for name, form in _FORMS[type(record)].items():
        value = getattr(record, name)
        written[name] = None if value is None else form.write(value)
    return written


def _read(kind: type, data: Mapping[str, Any]) -> Any:
    """A part of a record."""
    forms = _FORMS[kind].items()
    return kind(
        **{name: form.read(data[name]) for name, form in forms if data.get(name) is not None}
    )


def _read_record(kind: type[R], source: Mapping[str, Any], read: Callable[[_Form, Any], Any]) -> R:
    found: dict[str, Any] = {}
    for name, form in _FORMS[kind].items():
        if source.get(name) is None:
            if form.may_be_none:
                found[name] = None
            continue
        try:
            found[name] = read(form, source[name])
        except (ValueError, TypeError) as error:
            workflow_id = source.get("workflow_id")
            raise CorruptDocument(_collection(kind), workflow_id, name, str(error)) from error
    try:
        return kind(**found)
    except TypeError as error:  # a field without a default is missing
        workflow_id = source.get("workflow_id")
        raise CorruptDocument(_collection(kind), workflow_id, "record", str(error)) from error


def _collection(kind: type) -> str:
    return f"{kind.__name__.lower()}s"


def _checked(kind: type[T], data: Any) -> T:
    if type(data) is not kind:
        raise TypeError(f"is of type {type(data).__name__}, not {kind.__name__}")
    return data


def _flag(data: Any) -> bool:
    """True or false; a database without this type has 1 or 0."""
    if type(data) is int and data in (0, 1):
        return bool(data)
    return _checked(bool, data)


def _instant_text(instant: datetime) -> str:
    return instant.isoformat(timespec="milliseconds")


def _instant(text: Any) -> datetime:
    instant = datetime.fromisoformat(_checked(str, text))
    if instant.tzinfo is None:
        raise ValueError(f"{text!r} has no time zone")
    return instant


_SCALARS: Mapping[type, _Form] = {
    datetime: _Form(_instant_text, _instant, is_scalar=True),
    **{kind: _Form(kind, partial(_checked, kind), is_scalar=True) for kind in (str, int)},
    bool: _Form(bool, _flag, is_scalar=True),
}


def _forms(kind: type) -> Mapping[str, _Form]:
    hints = get_type_hints(kind)
    return {field.name: _form(hints[field.name]) for field in fields(kind)}


_FORMS: Mapping[type, Mapping[str, _Form]] = {
    kind: _forms(kind)
    for kind in (Workflow, Step, Nap, Attempt, ClaimEntry, FailedStep, ErrorRecord)
}
"""By field, how the records and their parts are written and read."""
