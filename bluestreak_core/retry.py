"""Retry policies: how often to try again, and how long to wait before."""

from __future__ import annotations

import random
from dataclasses import dataclass
from datetime import timedelta

from bluestreak_core.argument import (
    Duration,
    check_count,
    check_exceptions,
    check_number,
    to_timedelta,
)
from bluestreak_core.errors import FinalMistakes, InvalidArgument
from bluestreak_core.errors.group import has, is_all

_A_MINUTE = timedelta(minutes=1)

Exceptions = type[Exception] | tuple[type[Exception], ...]
"""An exception class or a tuple of them, as in an `except` clause."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Growing pauses: `initial`, then `factor` times the previous one, at most `max_delay`.

    The default of `max_delay` is a minute, or `initial` if that is longer. Each pause is shortened
    by a random share of itself, from 0 to `jitter` (at most 1), so that workflows that failed
    together do not all come back together. Durations are seconds or `timedelta`.

    Raises `InvalidArgument` and `InvalidDuration`.
    """

    initial: Duration = 1
    factor: float = 2
    max_delay: Duration | None = None
    jitter: float = 0.1

    def __post_init__(self) -> None:
        with FinalMistakes():
            initial = to_timedelta("initial", self.initial)
            if self.max_delay is not None and to_timedelta("max_delay", self.max_delay) < initial:
                reason = f"it is shorter than initial, {initial.total_seconds():g} s"
                raise InvalidArgument("max_delay", self.max_delay, reason)
            check_number("factor", self.factor, least=1)
            check_number("jitter", self.jitter, least=0, most=1)

    def delay(self, number: int) -> timedelta:
        """The pause after `number` failures in a row; `number` is at least 1."""
        initial = to_timedelta("initial", self.initial)
        longest = (
            max(initial, _A_MINUTE)
            if self.max_delay is None
            else to_timedelta("max_delay", self.max_delay)
        )
        try:
            delay = initial * float(self.factor) ** (number - 1)
        except OverflowError:
            delay = longest if initial else initial
        shortened_by = random.random() * self.jitter  # noqa: S311 - nothing secret
        return min(delay, longest) * (1 - shortened_by)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry(Backoff):
    """How often a step is tried, with which pauses in between.

    A step gets up to `max_attempts` attempts; None means no limit. It is tried again after an error
    that matches `retry_on`, unless it matches `give_up_on` too. An exception group matches
    `retry_on` if all of its errors do, and `give_up_on` if any of them does.

    Raises `InvalidArgument` and `InvalidDuration`.
    """

    max_attempts: int | None = 3
    retry_on: Exceptions = Exception
    give_up_on: Exceptions = ()

    def __post_init__(self) -> None:
        Backoff.__post_init__(self)  # `super()` fails here: `slots=True` replaces the class
        with FinalMistakes():
            if self.max_attempts is not None:
                check_count("max_attempts", self.max_attempts, least=1)
            check_exceptions("retry_on", self.retry_on)
            check_exceptions("give_up_on", self.give_up_on)

    def is_used_up_by(self, number: int) -> bool:
        """Whether no attempt may follow attempt `number`."""
        return self.max_attempts is not None and number >= self.max_attempts

    def pause_after(self, number: int, error: Exception) -> timedelta | None:
        """The pause after attempt `number` failed with `error`; None if it was the last one."""
        if self.is_used_up_by(number):
            return None
        if has(error, self.give_up_on) or not is_all(error, self.retry_on):
            return None
        return self.delay(number)
