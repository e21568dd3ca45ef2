"""Whether a worker is to stop: by request, by `should_stop`, or for an error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from typing import Any

from bluestreak_core.clock import Clock
from bluestreak_core.concurrency import WakeUp, first_of, running_loop

ShouldStop = Callable[[], bool]
"""Asked several times a second; True stops a worker."""

_ASK_EVERY = timedelta(milliseconds=200)


class Stop:
    """The one place where it is decided that a worker claims nothing more."""

    def __init__(self, clock: Clock, should_stop: ShouldStop | None) -> None:
        self.error: BaseException | None = None
        """What ended the worker, to be raised once it has drained; None if it was asked to stop."""
        self.drain_skipped = asyncio.Event()
        self._clock = clock
        self._loop = asyncio.get_running_loop()
        self._asked = WakeUp()
        self._should_stop = should_stop
        self._should_stop_changed = WakeUp()

    @property
    def is_decided(self) -> bool:
        """Whether the worker is stopping."""
        return self._asked.count > 0

    @property
    def is_due(self) -> bool:
        """Whether the worker is stopping, or `should_stop` says that it should."""
        return self.is_decided or self._is_told()

    def ask(self) -> None:
        """Stop; a second call skips the drain. May be called from any thread."""
        if running_loop() is not self._loop:
            with suppress(RuntimeError):  # it is closed, so there is nothing left to stop
                self._loop.call_soon_threadsafe(self.ask)
            return
        if self.is_decided:
            self.drain_skipped.set()
        self.decide()

    def decide(self) -> None:
        """Stop, with the drain. Repeated calls change nothing."""
        self._asked.notify()

    def give_up(self, error: BaseException) -> None:
        """Stop because of an error. The first one counts."""
        if self.error is None:
            self.error = error
        self.decide()

    def set_should_stop(self, should_stop: ShouldStop | None) -> None:
        """Ask this function from now on. May be called from any thread."""
        self._should_stop = should_stop
        self._loop.call_soon_threadsafe(self._should_stop_changed.notify)

    async def watch(self) -> None:
        """A chore: ask `should_stop` until it says yes."""
        while not self._is_told():
            if self._should_stop is None:  # polling nothing would keep the processor awake
                await self._should_stop_changed.wait()
            else:
                await self._clock.sleep(_ASK_EVERY)
        self.decide()

    async def cuts_short(self, wait: Coroutine[Any, Any, object] | asyncio.Future[None]) -> None:
        """Wait, but no longer than until the worker is to stop."""
        await first_of(wait, self._asked.wait(seen=0))

    def _is_told(self) -> bool:
        try:
            return self._should_stop is not None and self._should_stop()
        except asyncio.CancelledError as error:  # it is not this task that was cancelled
            raise RuntimeError("should_stop was cancelled from within") from error
