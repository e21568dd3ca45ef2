"""Stopping a worker: on request, by `should_stop`, or because of an error."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextlib import suppress
from datetime import timedelta
from typing import Any

from bluestreak_core.clock import Clock
from bluestreak_core.concurrency import WakeUp, first_of, running_loop

ShouldStop = Callable[[], bool]
"""Called several times a second; True stops the worker."""

_ASK_EVERY = timedelta(milliseconds=200)


class Stop:
    """The one place where a worker is decided to stop claiming."""

    def __init__(self, clock: Clock, should_stop: ShouldStop | None) -> None:
        self.error: BaseException | None = None
        """The error that stopped the worker, to be raised after the drain; None on request."""
        self.drain_skipped = asyncio.Event()
        """Set when the worker should cancel its runs without a drain."""
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
        """Whether the worker is stopping or should stop; calls `should_stop`."""
        return self.is_decided or self._should_stop_now()

    def ask(self) -> None:
        """Stop; a second call skips the drain. May be called from any thread."""
        if running_loop() is not self._loop:
            with suppress(RuntimeError):  # the loop is closed, so nothing is left to stop
                self._loop.call_soon_threadsafe(self.ask)
            return
        if self.is_decided:
            self.drain_skipped.set()
        self.decide()

    def decide(self) -> None:
        """Stop with a drain. A repeated call changes nothing."""
        self._asked.notify()

    def give_up(self, error: BaseException) -> None:
        """Stop because of an error. The first error counts."""
        if self.error is None:
            self.error = error
        self.decide()

    def set_should_stop(self, should_stop: ShouldStop | None) -> None:
        """Call this function from now on. May be called from any thread."""
        self._should_stop = should_stop
        self._loop.call_soon_threadsafe(self._should_stop_changed.notify)

    async def watch(self) -> None:
        """A chore: call `should_stop` until it returns True, then stop."""
        while not self._should_stop_now():
            if self._should_stop is None:  # do not wake the processor for nothing
                await self._should_stop_changed.wait()
            else:
                await self._clock.sleep(_ASK_EVERY)
        self.decide()

    async def cuts_short(self, wait: Coroutine[Any, Any, object] | asyncio.Future[None]) -> None:
        """Wait, but return early when the worker stops."""
        await first_of(wait, self._asked.wait(seen=0))

    def _should_stop_now(self) -> bool:
        try:
            return self._should_stop is not None and self._should_stop()
        except asyncio.CancelledError as error:  # raised by the function: this task is not awaiting
            raise RuntimeError("should_stop was cancelled from within") from error
