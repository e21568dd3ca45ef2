"""How long to leave an unwell store alone."""

from __future__ import annotations

import random
from collections.abc import Iterator
from datetime import timedelta

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
