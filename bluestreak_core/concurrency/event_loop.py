"""The event loop that an object belongs to."""

from __future__ import annotations

import asyncio

from bluestreak_core.errors import NotInitialised, WrongEventLoop


class HomeLoop:
    """The event loop of whatever is opened in one, from its `init` to its `close`.

    What it holds (connections, tasks, those who wait) cannot be used from another one, and would be
    broken for everybody by the attempt.
    """

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None

    def enter(self, call: str) -> None:
        """Belong to the running event loop. Raises `WrongEventLoop` while another one is used."""
        self.check_unless_closed(call)
        self._loop = asyncio.get_running_loop()

    def leave(self) -> None:
        """Belong to none."""
        self._loop = None

    def check(self, call: str) -> None:
        """Raise `NotInitialised` if it belongs to none, `WrongEventLoop` if not to the running one.

        Without a running event loop nothing can be done yet that would matter.
        """
        if self._loop is None:
            raise NotInitialised(call)
        if running_loop() not in (None, self._loop):
            raise WrongEventLoop(call)

    def check_unless_closed(self, call: str) -> None:
        """Raise `WrongEventLoop` if it belongs to another one that may still be used."""
        if self._loop is not None and not self._loop.is_closed():
            self.check(call)


def running_loop() -> asyncio.AbstractEventLoop | None:
    """The event loop that runs in this thread, if one does."""
    try:
        return asyncio.get_running_loop()
    except RuntimeError:
        return None
