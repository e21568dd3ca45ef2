"""Where the code under test runs: an event loop in virtual time, driven by plain calls."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterable, Callable, Coroutine, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from typing import Any, TypeVar

from bluestreak_core.argument import MAX_DURATION, check_count, to_instant
from bluestreak_core.errors import UsageError
from bluestreak_core.testing.virtual.stuck import Stuck
from bluestreak_core.testing.virtual.time import (
    NothingLeftToHappen,
    TooManyTurns,
    VirtualClock,
    VirtualLoop,
)

T = TypeVar("T")

_LAST = datetime.max.replace(tzinfo=UTC)


class Stage:
    """A `VirtualLoop` with its clock, for tests that are plain functions.

    A call raises `Stuck` when nothing is left to happen in it, or when the loop has turned `turns`
    times. `suspects` gives the tasks whose places `Stuck` names, and `parked` the workflows that
    wait for messages.
    """

    def __init__(
        self,
        start: datetime,
        turns: int,
        suspects: Callable[[], Iterable[asyncio.Task[Any]]],
        parked: Callable[[], Coroutine[Any, Any, Mapping[str, tuple[str, ...]]]],
    ) -> None:
        _check_outside_of_async_code()
        start_at = to_instant("start", start)
        self._turns = check_count("turns", turns, least=1)
        self._suspects = suspects
        self._parked = parked
        self.for_ever = min(MAX_DURATION, (_LAST - start_at) / 2)
        """A span that is never over: the virtual time ends before."""
        self.loop = VirtualLoop(end=self.for_ever.total_seconds() / 2)
        self.clock = VirtualClock(self.loop, start_at)

    def check_usable(self) -> None:
        """Raise `UsageError` in async code, and after `close`."""
        _check_outside_of_async_code()
        if self.loop.is_closed():
            raise UsageError("this Environment is closed")

    def check_usable_for(self, work: object) -> None:
        """`check_usable` for a coroutine that will not be awaited if it raises."""
        try:
            self.check_usable()
        except UsageError:
            if asyncio.iscoroutine(work):
                work.close()  # or Python warns that nobody awaited it
            raise

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine to its end."""
        with self._explained():
            return self.loop.run_until_complete(work)

    def advance(self, seconds: float) -> None:
        """Let time pass, with all that happens in it."""
        with self._explained():
            self.loop.run_until(self.loop.time() + seconds)

    def close(self, last: Callable[[], Coroutine[Any, Any, None]]) -> None:
        """Run the last coroutine without a limit, and close the loop. A repeat does nothing."""
        if self.loop.is_closed():
            return
        _check_outside_of_async_code()
        self.loop.allow(None)
        self.loop.run_until_complete(last())
        self.loop.close()

    @contextmanager
    def _explained(self) -> Iterator[None]:
        """Say what everything waits for, if nothing comes of it."""
        self.loop.allow(self._turns)
        try:
            yield
        except (NothingLeftToHappen, TooManyTurns):
            raise self._stuck() from None

    def _stuck(self) -> Stuck:
        now, suspects = self.clock.now(), list(self._suspects())
        parked: Mapping[str, tuple[str, ...]] = {}
        self.loop.allow(self._turns)
        with suppress(NothingLeftToHappen, TooManyTurns):
            parked = self.loop.run_until_complete(self._parked())
        return Stuck(now, suspects, parked)


async def collected(work: AsyncIterable[T]) -> list[T]:
    """All that an async iterator yields."""
    return [item async for item in work]


def _check_outside_of_async_code() -> None:
    with suppress(RuntimeError):  # no loop is running, as it should be
        asyncio.get_running_loop()
        raise UsageError(
            "an Environment has an event loop of its own: make the test a plain function"
        )
