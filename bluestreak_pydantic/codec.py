"""The codec."""

from __future__ import annotations

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from functools import lru_cache
from types import UnionType
from typing import Annotated, Any, Union, get_args, get_origin

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

from bluestreak_core.errors import InvalidValue
from bluestreak_pydantic.difference import find_difference
from bluestreak_pydantic.plain import to_plain

_REMEMBERED = 1024

_MODULES_OF_CONTAINERS = frozenset({"builtins", "collections", "collections.abc"})
"""The modules of classes whose parameters are known to be the types of their members."""

_HASHED = "dataclasses and models cannot be stored in a set, nor as keys of a dict: use a list"


class PydanticCodec:
    """Converts every type that pydantic does: dataclasses, TypedDicts, enums, models, containers.

    pydantic validates each value, so a dict may stand for a model. The value is stored as plain
    values, by the names of its fields, not by aliases: datetimes, bytes and UUIDs as they are,
    enums as their values, sets and tuples as lists, and the rest as in JSON. A value that would not
    come back equal is refused, such as a dataclass that would come back as its base, or a member of
    a union that would come back as another.
    """

    def __init__(self) -> None:
        self._remembered = lru_cache(maxsize=_REMEMBERED)(_adapter)

    def refusal(self, annotation: Any) -> str | None:
        """See `bluestreak_core.Codec.refusal`."""
        adapter = self._adapter(annotation)
        if isinstance(adapter, str):
            return adapter
        return _HASHED if _hashes_dicts(annotation) else None

    def encode(self, value: Any, annotation: Any, what: str) -> Any:
        """See `bluestreak_core.Codec.encode`."""
        adapter = self._adapter(annotation)
        if isinstance(adapter, str):
            return value
        try:
            valid = adapter.validate_python(value, by_alias=True, by_name=True)
            plain = to_plain(_dumped(adapter, valid, what))
            lost = find_difference(valid, _built(adapter, plain))
        except InvalidValue:
            raise
        except Exception as error:  # a validator, a serialiser or a comparison may raise anything
            raise _refused(what, error) from error
        if lost is not None:
            raise InvalidValue(what, lost.path, lost.reason)
        return plain

    def decode(self, value: Any, annotation: Any, what: str) -> Any:
        """See `bluestreak_core.Codec.decode`."""
        adapter = self._adapter(annotation)
        if isinstance(adapter, str):
            return value
        try:
            return _built(adapter, value)
        except Exception as error:  # a validator may raise anything
            raise _refused(what, error) from error

    def _adapter(self, annotation: Any) -> TypeAdapter[Any] | str:
        try:
            return self._remembered(annotation)
        except TypeError:  # it cannot be hashed
            return _adapter(annotation)


def _adapter(annotation: Any) -> TypeAdapter[Any] | str:
    """The adapter that converts values of an annotation, or why there is none."""
    try:
        adapter = TypeAdapter(annotation)
        if not adapter.pydantic_complete:  # a name in a class could not be resolved
            adapter.rebuild(raise_errors=True)
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        return error.message.splitlines()[0]
    except Exception as error:  # noqa: BLE001 - a class may raise anything when it is asked
        return f"pydantic raised {type(error).__name__}: {error}"
    return adapter


def _hashes_dicts(annotation: Any) -> bool:
    """Whether an annotation names a set, or keys, of a type that pydantic turns into dicts."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:  # which may say how it is converted
        return False
    is_hashing = isinstance(origin, type) and issubclass(origin, AbstractSet | Mapping)
    is_hashing = is_hashing and origin.__module__ in _MODULES_OF_CONTAINERS
    return (is_hashing and any(map(_becomes_dict, args[:1]))) or any(map(_hashes_dicts, args))


def _becomes_dict(annotation: Any) -> bool:
    if get_origin(annotation) in {Union, UnionType}:
        return any(map(_becomes_dict, get_args(annotation)))
    adapter = _adapter(annotation)
    schema: Any = {} if isinstance(adapter, str) else adapter.core_schema
    is_of_fields = schema.get("type") in {"dataclass", "model"} and not schema.get("root_model")
    return is_of_fields and "serialization" not in schema


def _dumped(adapter: TypeAdapter[Any], valid: Any, what: str) -> Any:
    try:
        return adapter.dump_python(valid, by_alias=False, round_trip=True, warnings=False)
    except TypeError as error:  # a dict cannot be hashed
        raise InvalidValue(what, "", _HASHED) from error


def _built(adapter: TypeAdapter[Any], plain: Any) -> Any:
    """The value of a stored form. It has fewer types than a strict model would accept."""
    return adapter.validate_python(plain, strict=False, by_alias=True, by_name=True)


def _refused(what: str, error: Exception) -> InvalidValue:
    if not isinstance(error, ValidationError):
        return InvalidValue(what, "", f"converting it raised {type(error).__name__}: {error}")
    first, *others = error.errors(include_url=False, include_context=False, include_input=False)
    path = "".join(f"[{part!r}]" for part in first["loc"])
    more = f" (and {len(others)} more)" if others else ""
    return InvalidValue(what, path, first["msg"] + more)
