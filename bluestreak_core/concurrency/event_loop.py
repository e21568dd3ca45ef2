"""The event loop that an object belongs to."""

from __future__ import annotations

import asyncio

from bluestreak_core.errors import NotInitialised, WrongEventLoop


class HomeLoop:
    """The event loop that an object belongs to, from its `init` to its `close`.

    Its connections, tasks and futures cannot be used from another event loop: the attempt would
    break them for all callers. So each call checks first.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def enter(self, call: str) -> None:
        """Belong to the running event loop. Raises `WrongEventLoop` while it belongs to another."""
        self.check_unless_closed(call)
        self._loop = asyncio.get_running_loop()

    def leave(self) -> None:
        """Belong to no event loop."""
        self._loop = None

    def check_entered(self, call: str) -> None:
        """Raise `NotInitialised` if it belongs to none."""
        if self._loop is None:
            raise NotInitialised(call)

    def check(self, call: str) -> None:
        """Raise `NotInitialised` if it belongs to no event loop, `WrongEventLoop` if to another.

        A call without a running event loop passes: it cannot await anything yet.
        """
        self.check_entered(call)
        if running_loop() not in (None, self._loop):
            raise WrongEventLoop(call)

    def check_unless_closed(self, call: str) -> None:
        """Raise `WrongEventLoop` if it belongs to another event loop that is not closed."""
        if self._loop is not None and not self._loop.is_closed():
            self.check(call)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this thread, or None."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
