"""An unwell store: how long to leave it alone, and how to ask it until it answers."""

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
    """Pauses without end, doubling up to `longest`, each shortened at random by up to a half.

    The randomness keeps a fleet from coming back all at once
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
    """The store's answer, however often it has to be asked.

    After each `StoreUnavailable`, `pause` is called with a span from `pauses(longest)` and the
    error. It reports the error and waits for that long; it raises to give up.
    """
    outage: Iterator[timedelta] | None = None  # an iterator for each call would cost every step
    while True:
        try:
            return await ask()
        except StoreUnavailable as unavailable:
            outage = outage or pauses(longest)
            await pause(next(outage), unavailable)
