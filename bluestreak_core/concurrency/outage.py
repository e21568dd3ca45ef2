"""Outages of a store: backoff, and repeating a call until the store answers."""

from __future__ import annotations

import random
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta
from typing import TypeVar

from bluestreak_core.errors import StoreUnavailable

T = TypeVar("T")

FIRST_PAUSE = timedelta(milliseconds=50)
LONGEST_PAUSE = timedelta(seconds=5)


def pauses(longest: timedelta = LONGEST_PAUSE) -> Iterator[timedelta]:
    """Endless pauses that double up to `longest`, each shortened at random by up to a half.

    The jitter keeps a fleet from coming back all at once
    (https://aws.amazon.com/builders-library/timeouts-retries-and-backoff-with-jitter/).
    """
    pause = FIRST_PAUSE
    while True:
        yield min(pause, longest) * random.uniform(0.5, 1.0)  # noqa: S311 - nothing secret
        pause = min(pause * 2, longest)


async def until_answered(
    ask: Callable[[], Awaitable[T]],
    pause: Callable[[timedelta, StoreUnavailable], Awaitable[object]],
    longest: timedelta = LONGEST_PAUSE,
) -> T:
    """Repeat a store call until the store answers.

    After each `StoreUnavailable`, `pause` is awaited with a span from `pauses(longest)` and the
    error. It should report the error and wait for that long, or raise to give up.
    """
    outage: Iterator[timedelta] | None = None  # created only in an outage: this is the hot path
    while True:
        try:
            return await ask()
        except StoreUnavailable as unavailable:
            outage = outage or pauses(longest)
            await pause(next(outage), unavailable)
