"""Checks for the arguments of public calls: ids, durations, counts, handlers and the like.

Each check runs before the store is called, and names the argument that it refuses. A subclass of
str, int, float, timedelta or datetime is read as the plain value that it holds: no method that it
overrides is called.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from types import FunctionType, MethodType
from typing import Any, TypeGuard, TypeVar

from typing_extensions import get_protocol_members

from bluestreak_core.clock import in_milliseconds
from bluestreak_core.errors import InvalidArgument, InvalidDuration, InvalidHandler, InvalidId

MAX_ID_LENGTH = 512
"""The longest id, in characters."""

MAX_REASON_LENGTH = 1000
"""The longest reason of a cancellation, or error of an answer, in characters."""

MAX_DURATION = timedelta(days=365_000)
"""The longest duration, a thousand years: adding it to the present stays within the calendar."""

MAX_COUNT = 2**31 - 1
"""The largest number of slots, retries, failures or crashes."""

T = TypeVar("T")

Duration = int | float | timedelta
"""Seconds, or a `timedelta`; not negative, at most a thousand years."""


def check_id(name: str, value: object) -> str:
    """An id as a plain str. Anything else could act as a query operator in a database."""
    if not has_real_type(value, str):
        raise InvalidId(name, value, f"an id is a str, not {type(value).__name__}")
    plain = str.__str__(value)
    if not plain:
        raise InvalidId(name, value, "an id is not empty")
    if len(plain) > MAX_ID_LENGTH:
        raise InvalidId(name, value, f"an id has at most {MAX_ID_LENGTH} characters")
    if "\0" in plain:
        raise InvalidId(name, value, "an id contains no NUL")
    try:
        plain.encode()
    except UnicodeEncodeError as error:
        raise InvalidId(name, value, "an id is valid as UTF-8") from error
    return plain


def to_timedelta(name: str, value: object) -> timedelta:
    """A duration as a `timedelta`."""
    seconds: float
    if has_real_type(value, timedelta):
        seconds = timedelta.total_seconds(value)
    elif has_real_type(value, float):
        seconds = float.__float__(value)
    elif has_real_type(value, int) and not has_real_type(value, bool):
        seconds = int.__int__(value)
    else:
        raise InvalidDuration(
            name, value, f"a duration is seconds or a timedelta, not {type(value).__name__}"
        )
    if not seconds >= 0:  # so written that NaN is refused
        raise InvalidDuration(name, value, "a duration is neither negative nor NaN")
    if seconds > MAX_DURATION.total_seconds():
        raise InvalidDuration(name, value, f"a duration is at most {MAX_DURATION.days} days")
    return timedelta(seconds=seconds)


def to_positive_timedelta(name: str, value: object) -> timedelta:
    """A duration of at least a millisecond, the resolution of stored instants."""
    span = to_timedelta(name, value)
    if span < timedelta(milliseconds=1):
        raise InvalidDuration(name, value, "this duration is at least a millisecond")
    return span


def to_instant(name: str, value: object) -> datetime:
    """An aware instant in UTC, truncated to the millisecond. A naive one is ambiguous: refused."""
    if not has_real_type(value, datetime):
        raise InvalidArgument(name, value, f"expected a datetime, not {type(value).__name__}")
    try:
        plain = datetime.combine(datetime.date(value), datetime.timetz(value))
        is_aware = plain.utcoffset() is not None
        instant = in_milliseconds(plain.astimezone(UTC))
    except Exception as error:  # a time zone is foreign code
        raise InvalidArgument(name, value, "it cannot be converted to UTC") from error
    if not is_aware:
        raise InvalidArgument(name, value, "expected an aware datetime, such as one in UTC")
    return instant


def check_count(name: str, value: object, least: int = 0) -> int:
    """A whole number from `least` to `MAX_COUNT`."""
    count = (
        int.__int__(value) if has_real_type(value, int) and not has_real_type(value, bool) else None
    )
    if count is None or not least <= count <= MAX_COUNT:
        raise InvalidArgument(name, value, f"expected a whole number from {least} to {MAX_COUNT}")
    return count


def check_number(name: str, value: object, least: float, most: float = sys.float_info.max) -> None:
    """Refuse anything but a finite number within the bounds."""
    is_number = (has_real_type(value, float) or has_real_type(value, int)) and not has_real_type(
        value, bool
    )
    if not is_number or not least <= value <= most:  # type: ignore[operator]
        bounds = f"from {least:g}" + (f" to {most:g}" if most < sys.float_info.max else "")
        raise InvalidArgument(name, value, f"expected a number {bounds}")


def check_flag(name: str, value: object) -> None:
    """Refuse anything but True and False."""
    if value is not True and value is not False:
        raise InvalidArgument(name, value, "expected True or False")


def check_exceptions(name: str, value: object) -> None:
    """Refuse anything but an exception class or a tuple of them."""
    for kind in value if isinstance(value, tuple) else (value,):
        if not isinstance(kind, type) or not issubclass(kind, Exception):
            raise InvalidArgument(name, value, "expected an exception class, or a tuple of them")


def check_limit(name: str, value: object) -> int | None:
    """A whole number, or None for no limit."""
    return None if value is None else check_count(name, value)


def check_reason(value: object, name: str = "reason") -> str | None:
    """A text of at most `MAX_REASON_LENGTH` characters, or None."""
    if value is None:
        return None
    if not has_real_type(value, str):
        raise InvalidArgument(name, value, f"expected a str, not {type(value).__name__}")
    plain = str.__str__(value)
    if len(plain) > MAX_REASON_LENGTH:
        raise InvalidArgument(name, value, f"expected at most {MAX_REASON_LENGTH} characters")
    try:
        plain.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument(name, value, "it cannot be encoded as UTF-8") from error
    return plain


def check_callable(name: str, value: object) -> None:
    """Refuse what cannot be called."""
    if not callable(value):
        raise InvalidArgument(name, value, "expected a callable")


def check_function(verb: str, name: str, id: str, value: object) -> None:
    """Refuse what cannot be called; most often it is `fn(*args)` in place of `fn, *args`."""
    if callable(value):
        return
    if inspect.iscoroutine(value) and inspect.getcoroutinestate(value) == inspect.CORO_CREATED:
        value.close()  # or Python warns that it was never awaited
    reason = f"expected a function: write {verb}({id!r}, fn, *args), not {verb}({id!r}, fn(*args))"
    raise InvalidArgument(f"{name} {id!r}", value, reason)


def check_async(name: str, value: object) -> None:
    """Refuse anything but an async function."""
    check_callable(name, value)
    if not (callable(value) and is_async(value)):
        reason = "expected an async function, or a functools.partial of one"
        raise InvalidArgument(name, value, reason)


def check_should_stop(value: object) -> None:
    """Refuse what cannot be called, and an async function: the coroutine it returns is truthy."""
    check_callable("should_stop", value)
    if callable(value) and is_async(value):
        raise InvalidArgument("should_stop", value, "expected a function, not an async one")


def check_handler(handler_id: str, function: object) -> None:
    """Refuse anything but an async function that takes a context and an input."""
    name = f"handler {handler_id!r}"
    if not callable(function):
        raise InvalidHandler(name, function, "a handler is an async function")
    if not is_async(function):
        raise InvalidHandler(
            name, function, "a handler is an async function; this one is not async"
        )
    try:
        inspect.signature(function).bind(None, None)
    except (TypeError, ValueError) as error:
        raise InvalidHandler(name, function, "a handler takes a context and an input") from error


def is_async(function: Callable[..., Any]) -> bool:
    """Whether a call only creates a coroutine, so that it cannot block the event loop."""
    plain = function.__func__ if isinstance(function, MethodType) else function
    if isinstance(plain, FunctionType) and plain.__code__.co_flags & inspect.CO_COROUTINE:
        return True  # a shortcut: inspect takes longer to find the same, and each step asks
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        type(function).__call__  # of an instance with an async __call__
    )


def check_implements(name: str, value: object, protocol: type) -> None:
    """Refuse what lacks a member of a protocol, and a class in place of an instance."""
    if isinstance(value, type):
        raise InvalidArgument(name, value, f"expected a {protocol.__name__}, not a class")
    if has_real_type(value, str) and "://" in value:
        address = value.partition("://")[0] + "://..."  # it may contain a password
        reason = f"expected a {protocol.__name__}, not a URL: write MongoStore(url)"
        raise InvalidArgument(name, address, reason)
    missing = [member for member in get_protocol_members(protocol) if not hasattr(value, member)]
    if missing:
        reason = f"expected a {protocol.__name__}, which has {min(missing)!r}"
        raise InvalidArgument(name, value, reason)


def has_real_type(value: object, kind: type[T]) -> TypeGuard[T]:
    """`isinstance` by the actual type: a value cannot claim another one, as a mock does."""
    return issubclass(type(value), kind)
