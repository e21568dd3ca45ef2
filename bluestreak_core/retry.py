"""How long to wait before something is tried again, and how often."""

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
"""An exception class, or several of them, as an `except` takes them."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Backoff:
    """Pauses that grow: `initial`, then `factor` times the one before, up to `max_delay`, which is
    a minute unless it is given, or `initial` where that is longer.

    Each is shortened by a random part of itself, of up to `jitter` (0 is none, 1 all of it), so
    that what failed together is not tried again together. Durations are seconds or `timedelta`.

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
                reason = f"it is shorter than initial, which is {initial.total_seconds():g} s"
                raise InvalidArgument("max_delay", self.max_delay, reason)
            check_number("factor", self.factor, least=1)
            check_number("jitter", self.jitter, least=0, most=1)

    def delay(self, number: int) -> timedelta:
        """The pause after so many failures, from 1 on."""
        initial = to_timedelta("", self.initial)
        given = self.max_delay
        longest = max(initial, _A_MINUTE) if given is None else to_timedelta("", given)
        try:
            delay = initial * float(self.factor) ** (number - 1)
        except OverflowError:
            delay = longest if initial else initial
        spared = random.random() * self.jitter  # noqa: S311 - nothing secret
        return min(delay, longest) * (1 - spared)


@dataclass(frozen=True, slots=True, kw_only=True)
class Retry(Backoff):
    """How often a step is tried, and after which pauses.

    It is tried up to `max_attempts` times, None for without end, while it raises one of `retry_on`
    and none of `give_up_on`, which outweighs the other. Of an exception group each error counts: it
    is tried again if all are of `retry_on`, and given up if one is of `give_up_on`.

    Raises `InvalidArgument` and `InvalidDuration`.
    """

    max_attempts: int | None = 3
    retry_on: Exceptions = Exception
    give_up_on: Exceptions = ()

    def __post_init__(self) -> None:
        Backoff.__post_init__(self)  # `super()` has no class to look in: slots make another one
        with FinalMistakes():
            if self.max_attempts is not None:
                check_count("max_attempts", self.max_attempts, least=1)
            check_exceptions("retry_on", self.retry_on)
            check_exceptions("give_up_on", self.give_up_on)

    def is_used_up_by(self, number: int) -> bool:
        """Whether there is none after this attempt."""
        return self.max_attempts is not None and number >= self.max_attempts

    def pause_after(self, number: int, error: Exception) -> timedelta | None:
        """How long to wait after this attempt has failed so; None where it was the last one."""
        if self.is_used_up_by(number):
            return None
        if has(error, self.give_up_on) or not is_all(error, self.retry_on):
            return None
        return self.delay(number)
