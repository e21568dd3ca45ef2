"""The codec."""

from __future__ import annotations

from functools import lru_cache
from typing import Any

from pydantic import TypeAdapter, ValidationError
from pydantic.errors import PydanticUndefinedAnnotation, PydanticUserError

from bluestreak_core.errors import InvalidValue
from bluestreak_pydantic.difference import find_difference
from bluestreak_pydantic.plain import to_plain

_REMEMBERED = 1024


class PydanticCodec:
    """Converts whatever pydantic can: dataclasses, TypedDicts, enums, models, containers of them.

    What is given is validated as pydantic does, so a dict may stand for a model. It is stored as
    plain values, by the names of fields, not by aliases: datetimes, bytes and UUIDs as they are,
    enums as their values, sets and tuples as lists, and the rest as in JSON. What would not come
    back equal is refused, such as a subclass that would come back as its base, or one member of a
    union that would come back as another.
    """

    def __init__(self) -> None:
        self._remembered = lru_cache(maxsize=_REMEMBERED)(_adapter)

    def refusal(self, annotation: Any) -> str | None:
        """See `bluestreak_core.Codec.refusal`."""
        adapter = self._adapter(annotation)
        return adapter if isinstance(adapter, str) else None

    def encode(self, value: Any, annotation: Any, what: str) -> Any:
        """See `bluestreak_core.Codec.encode`."""
        adapter = self._usable(annotation, what)
        try:
            valid = adapter.validate_python(value, by_alias=True, by_name=True)
            dumped = adapter.dump_python(valid, by_alias=False, round_trip=True, warnings=False)
            plain = to_plain(dumped)
            lost = find_difference(valid, _built(adapter, plain))
        except Exception as error:  # a validator, a serialiser or a comparison may raise anything
            raise _refused(what, error) from error
        if lost is not None:
            raise InvalidValue(what, lost.path, lost.reason)
        return plain

    def decode(self, value: Any, annotation: Any, what: str) -> Any:
        """See `bluestreak_core.Codec.decode`."""
        adapter = self._usable(annotation, what)
        try:
            return _built(adapter, value)
        except Exception as error:  # a validator may raise anything
            raise _refused(what, error) from error

    def _usable(self, annotation: Any, what: str) -> TypeAdapter[Any]:
        adapter = self._adapter(annotation)
        if isinstance(adapter, str):
            raise InvalidValue(what, "", adapter)
        return adapter

    def _adapter(self, annotation: Any) -> TypeAdapter[Any] | str:
        try:
            return self._remembered(annotation)
        except TypeError:  # it cannot be hashed
            return _adapter(annotation)


def _adapter(annotation: Any) -> TypeAdapter[Any] | str:
    """What converts values of an annotation, or why nothing does."""
    try:
        adapter = TypeAdapter(annotation)
        if not adapter.pydantic_complete:  # a name in a class could not be resolved
            adapter.rebuild(raise_errors=True)
    except (PydanticUserError, PydanticUndefinedAnnotation) as error:
        return error.message.splitlines()[0]
    except Exception as error:  # noqa: BLE001 - a class may raise anything when it is asked
        return f"pydantic raised {type(error).__name__}: {error}"
    return adapter


def _built(adapter: TypeAdapter[Any], plain: Any) -> Any:
    """A value made of its stored form, whose types are fewer than a strict model would accept."""
    return adapter.validate_python(plain, strict=False, by_alias=True, by_name=True)


def _refused(what: str, error: Exception) -> InvalidValue:
    if not isinstance(error, ValidationError):
        return InvalidValue(what, "", f"converting it raised {type(error).__name__}: {error}")
    first, *others = error.errors(include_url=False, include_context=False, include_input=False)
    path = "".join(f"[{part!r}]" for part in first["loc"])
    more = f" (and {len(others)} more)" if others else ""
    return InvalidValue(what, path, first["msg"] + more)
