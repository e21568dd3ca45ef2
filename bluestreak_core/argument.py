"""What the public calls accept: ids, durations, counts and handlers.

Every check raises before a store is touched, and names the argument it refuses. A subclass of str,
int, float or timedelta is taken for the plain value that it holds: nothing that it overrides is
asked.
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
"""Characters in the longest id that is accepted."""

MAX_REASON_LENGTH = 1000
"""Characters in the longest reason of a cancellation."""

MAX_DURATION = timedelta(days=365_000)
"""The longest duration: a thousand years, so that no instant leaves the calendar."""

MAX_COUNT = 2**31 - 1
"""The largest number of slots, retries, failures or crashes."""

T = TypeVar("T")

Duration = int | float | timedelta
"""Seconds, or a `timedelta`; not negative, at most a thousand years."""


def check_id(name: str, value: object) -> str:
    """The id as a plain string. Anything but a string could become a query operator."""
    if not has_real_type(value, str):
        raise InvalidId(name, value, f"an id is a str, not {type(value).__name__}")
    plain = str.__str__(value)
    if not plain:
        raise InvalidId(name, value, "an id is not empty")
    if len(plain) > MAX_ID_LENGTH:
        raise InvalidId(name, value, f"an id has at most {MAX_ID_LENGTH} characters")
    if "\0" in plain:
        raise InvalidId(name, value, "an id has no NUL")
    try:
        plain.encode()
    except UnicodeEncodeError as error:
        raise InvalidId(name, value, "an id can be encoded as UTF-8") from error
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
    if not seconds >= 0:  # which refuses NaN too
        raise InvalidDuration(name, value, "a duration is not negative, and not NaN")
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
    """An aware instant in UTC, cut to the millisecond. A naive one could be anybody's time."""
    if not has_real_type(value, datetime):
        raise InvalidArgument(name, value, f"expected a datetime, not {type(value).__name__}")
    try:
        plain = datetime.combine(datetime.date(value), datetime.timetz(value))
        is_aware = plain.utcoffset() is not None
        instant = in_milliseconds(plain.astimezone(UTC))
    except Exception as error:  # a time zone may raise anything
        raise InvalidArgument(name, value, "its time in UTC cannot be told") from error
    if not is_aware:
        raise InvalidArgument(name, value, "expected an aware datetime, such as in UTC")
    return instant


def check_count(name: str, value: object, least: int = 0) -> int:
    """A whole number, not below `least`."""
    count = (
        int.__int__(value) if has_real_type(value, int) and not has_real_type(value, bool) else None
    )
    if count is None or not least <= count <= MAX_COUNT:
        raise InvalidArgument(name, value, f"expected a whole number, {least} to {MAX_COUNT}")
    return count


def check_number(name: str, value: object, least: float, most: float = sys.float_info.max) -> None:
    """Refuse what is no finite number between two bounds."""
    is_number = (has_real_type(value, float) or has_real_type(value, int)) and not has_real_type(
        value, bool
    )
    if not is_number or not least <= value <= most:  # type: ignore[operator]
        bounds = f"from {least:g}" + (f" to {most:g}" if most < sys.float_info.max else "")
        raise InvalidArgument(name, value, f"expected a number {bounds}")


def check_exceptions(name: str, value: object) -> None:
    """Refuse what is neither an exception class nor a tuple of them."""
    for kind in value if isinstance(value, tuple) else (value,):
        if not isinstance(kind, type) or not issubclass(kind, Exception):
            raise InvalidArgument(name, value, "expected an exception class, or a tuple of them")


def check_limit(name: str, value: object) -> int | None:
    """A whole number, or None for no limit."""
    return None if value is None else check_count(name, value)


def check_reason(value: object) -> str | None:
    """A text for people, or None."""
    if value is None:
        return None
    if not has_real_type(value, str):
        raise InvalidArgument("reason", value, f"expected a str, not {type(value).__name__}")
    plain = str.__str__(value)
    if len(plain) > MAX_REASON_LENGTH:
        raise InvalidArgument(
            "reason", value, f"a reason has at most {MAX_REASON_LENGTH} characters"
        )
    try:
        plain.encode()
    except UnicodeEncodeError as error:
        raise InvalidArgument("reason", value, "it cannot be encoded as UTF-8") from error
    return plain


def check_callable(name: str, value: object) -> None:
    """Refuse what cannot be called."""
    if not callable(value):
        raise InvalidArgument(name, value, "expected something callable")


def check_function(verb: str, name: str, id: str, value: object) -> None:
    """Refuse what cannot be called. The result of a call is what most often stands there."""
    if callable(value):
        return
    if inspect.iscoroutine(value) and inspect.getcoroutinestate(value) == inspect.CORO_CREATED:
        value.close()  # nobody will await it, which Python would warn of
    reason = f"expected a function: write {verb}({id!r}, fn, *args), not {verb}({id!r}, fn(*args))"
    raise InvalidArgument(f"{name} {id!r}", value, reason)


def check_async(name: str, value: object) -> None:
    """Refuse what is no async function."""
    check_callable(name, value)
    if not (callable(value) and is_async(value)):
        reason = "expected an async function, or a functools.partial of one"
        raise InvalidArgument(name, value, reason)


def check_should_stop(value: object) -> None:
    """Refuse what cannot be called, and what would answer with a coroutine, which is true."""
    check_callable("should_stop", value)
    if callable(value) and is_async(value):
        raise InvalidArgument("should_stop", value, "expected a function that is not async")


def check_handler(handler_id: str, function: object) -> None:
    """Refuse what is not an async function that takes a context and an input."""
    name = f"handler {handler_id!r}"
    if not callable(function):
        raise InvalidHandler(name, function, "a handler is an async function")
    if not is_async(function):
        raise InvalidHandler(name, function, "a handler is an async function, this one is not")
    try:
        inspect.signature(function).bind(None, None)
    except (TypeError, ValueError) as error:
        raise InvalidHandler(name, function, "a handler takes a context and an input") from error


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it only makes a coroutine, so that it can be called on the event loop."""
    plain = function.__func__ if isinstance(function, MethodType) else function
    if isinstance(plain, FunctionType) and plain.__code__.co_flags & inspect.CO_COROUTINE:
        return True  # as inspect would say too, after a longer search, and this is asked every step
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        type(function).__call__  # of an instance with an async __call__
    )


def check_implements(name: str, value: object, protocol: type) -> None:
    """Refuse what lacks a member of a protocol, and a class where an object of it is meant."""
    if isinstance(value, type):
        raise InvalidArgument(name, value, f"expected a {protocol.__name__}, not a class")
    if has_real_type(value, str) and "://" in value:
        address = value.partition("://")[0] + "://..."  # without the password in it
        reason = f"expected a {protocol.__name__}, not a URL: write MongoStore(url)"
        raise InvalidArgument(name, address, reason)
    missing = sorted(one for one in get_protocol_members(protocol) if not hasattr(value, one))
    if missing:
        reason = f"expected a {protocol.__name__}, which has {missing[0]!r}"
        raise InvalidArgument(name, value, reason)


def has_real_type(value: object, kind: type[T]) -> TypeGuard[T]:
    """Whether a value is of a type. `isinstance` would believe what a mock says of itself."""
    return issubclass(type(value), kind)
