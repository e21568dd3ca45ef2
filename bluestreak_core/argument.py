"""What the public calls accept: ids, durations, counts and handlers.

Every check raises before a store is touched, and names the argument it refuses.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from datetime import timedelta
from typing import Any

from bluestreak_core.errors import InvalidArgument, InvalidDuration, InvalidHandler, InvalidId

MAX_ID_LENGTH = 512
"""Characters in the longest id that is accepted."""

MAX_DURATION = timedelta(days=365_000)
"""The longest duration: a thousand years, so that no instant leaves the calendar."""

Duration = int | float | timedelta
"""Seconds, or a `timedelta`; not negative, at most a thousand years."""


def check_id(name: str, value: object) -> str:
    """The id as a plain string. Anything but a string could become a query operator."""
    if not isinstance(value, str):
        raise InvalidId(name, value, f"an id is a str, not {type(value).__name__}")
    if not value:
        raise InvalidId(name, value, "an id is not empty")
    if len(value) > MAX_ID_LENGTH:
        raise InvalidId(name, value, f"an id has at most {MAX_ID_LENGTH} characters")
    if "\0" in value:
        raise InvalidId(name, value, "an id has no NUL")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InvalidId(name, value, "an id can be encoded as UTF-8") from error
    return str.__str__(value)


def to_timedelta(name: str, value: object) -> timedelta:
    """A duration as a `timedelta`."""
    if isinstance(value, bool) or not isinstance(value, int | float | timedelta):
        raise InvalidDuration(
            name, value, f"a duration is seconds or a timedelta, not {type(value).__name__}"
        )
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
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


def check_count(name: str, value: object, least: int = 0) -> int:
    """A whole number, not below `least`."""
    if isinstance(value, bool) or not isinstance(value, int) or value < least:
        raise InvalidArgument(name, value, f"expected a whole number, at least {least}")
    return value


def check_limit(name: str, value: object) -> int | None:
    """A whole number, or None for no limit."""
    return None if value is None else check_count(name, value)


def check_callable(name: str, value: object) -> None:
    """Refuse what cannot be called."""
    if not callable(value):
        raise InvalidArgument(name, value, "expected something callable")


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
    except TypeError as error:
        raise InvalidHandler(name, function, "a handler takes a context and an input") from error


def is_async(function: Callable[..., Any]) -> bool:
    """Whether calling it only makes a coroutine, so that it can be called on the event loop."""
    return inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(
        getattr(function, "__call__", None)  # noqa: B004 - an instance with an async __call__
    )
