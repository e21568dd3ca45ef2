"""How long a caller waits, by either of the two ways to set it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta

from bluestreak_core.argument import Duration, check_count, to_timedelta
from bluestreak_core.errors import InvalidArgument

_TIMEOUT = timedelta(seconds=100)
_RETRIES = 100
_PAUSE_INTERVAL = timedelta(seconds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Patience:
    """A number of looks, with a pause after each but the last.

    `retries` and `timeout` are the caller's arguments: one of them is None.
    """

    looks: int
    pause: timedelta
    retries: int | None = None
    timeout: timedelta | None = None

    def pauses(self) -> Iterator[timedelta]:
        """The pause after each look."""
        for more in reversed(range(self.looks)):
            yield self.pause if more else timedelta(0)


def to_patience(
    timeout: Duration | None, retries: int | None, pause_interval: Duration | None
) -> Patience:
    """Raises `InvalidArgument` for both ways together, and `InvalidDuration`."""
    if retries is None and pause_interval is None:
        span = _TIMEOUT if timeout is None else to_timedelta("timeout", timeout)
        return Patience(looks=2 if span else 1, pause=span, timeout=span)
    if timeout is not None:
        named = "retries" if retries is not None else "pause_interval"
        raise InvalidArgument("timeout", timeout, f"expected either this or {named}, not both")
    pause = _PAUSE_INTERVAL
    if pause_interval is not None:
        pause = to_timedelta("pause_interval", pause_interval)
    looks = _RETRIES if retries is None else check_count("retries", retries, least=1)
    return Patience(looks=looks, pause=pause, retries=looks)
