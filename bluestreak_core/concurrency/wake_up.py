"""A wake-up call between coroutines of one event loop."""

from __future__ import annotations

import asyncio


class WakeUp:
    """Wakes whoever waits when `notify` is called; `count` tells how often that has been."""

    def __init__(self) -> None:
        self.count = 0
        # In order, since chance in who is woken first could not be repeated.
        self._waiting: dict[asyncio.Future[None], None] = {}

    def notify(self) -> None:
        """Wake everyone who waits now."""
        self.count += 1
        for future in list(self._waiting):
            if not future.done():
                future.set_result(None)

    def wait(self, seen: int | None = None) -> asyncio.Future[None]:
        """Done at the next `notify`; at once if there was one since `count` was `seen`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if seen is not None and seen != self.count:
            future.set_result(None)
        else:
            self._waiting[future] = None
            future.add_done_callback(self._waiting.pop)
        return future
