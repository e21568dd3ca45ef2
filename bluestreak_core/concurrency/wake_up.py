"""Wake-ups between coroutines of one event loop."""

from __future__ import annotations

import asyncio


class WakeUp:
    """Wakes all waiting coroutines at each `notify`; `count` is the number of calls so far.

    To miss no wake-up, read `count`, check your condition, then wait with the count that you read.
    """

    def __init__(self) -> None:
        self.count = 0
        # A dict, not a set: a random order of wake-ups could not be reproduced.
        self._waiting: dict[asyncio.Future[None], None] = {}

    def notify(self) -> None:
        """Wake everything that waits now."""
        self.count += 1
        for future in list(self._waiting):
            if not future.done():
                future.set_result(None)

    def wait(self, seen: int | None = None) -> asyncio.Future[None]:
        """A future that the next `notify` completes; done already if `count` is not `seen`."""
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        if seen is not None and seen != self.count:
            future.set_result(None)
        else:
            self._waiting[future] = None
            future.add_done_callback(self._waiting.pop)
        return future
