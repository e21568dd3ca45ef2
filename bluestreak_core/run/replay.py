"""A replay: the handler runs over what is recorded, and nothing else happens.

Whatever is not recorded waits for ever. Once nothing is left that could go on, the handler is
cancelled; so it is if, outside of steps, it waits for something else for too long. No function of
the application is called but the handler, and nothing is written.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextvars import Context
from datetime import datetime, timedelta
from typing import Any, NoReturn, TypeVar

from typing_extensions import override

from bluestreak_core.clock import Clock
from bluestreak_core.run.exit import Exit, Release
from bluestreak_core.run.hook import CallKind, Calls, RunHook
from bluestreak_core.run.journal import Journal
from bluestreak_core.run.operations import Operations
from bluestreak_core.store import Store, StoreWrapper

T = TypeVar("T")

STALLED_AFTER = timedelta(minutes=1)
"""A handler that does not use its context for so long is not waited for any more."""

_LOOK_AGAIN = timedelta(seconds=1)

_READS = frozenset({"find_workflow", "find_standing", "find_step", "find_nap", "history"})


class Replay:
    """Suspends what is not recorded, and notices when the handler can go no further.

    `until` is the instant that the replay takes for the present: naps that end by then have ended.
    """

    def __init__(self, until: datetime, operations: Operations, exit: Exit, clock: Clock) -> None:
        self.until = until
        self.stopped_at: str | None = None
        """What the handler first asked for without a record, for messages."""
        self._operations = operations
        self._exit = exit
        self._clock = clock
        self._suspended: set[asyncio.Task[Any] | None] = set()

    async def suspend(self, kind: str, id: str) -> NoReturn:
        """Wait until the handler is cancelled; cancel it if all of it waits like this."""
        if self.stopped_at is None:
            self.stopped_at = f"{kind} {id!r}"
        task = asyncio.current_task()
        self._suspended.add(task)
        try:
            with self._operations.operation(kind, id):
                await self._clock.sleep(timedelta(0))  # let branches that start together begin
                while True:
                    if self._operations.are_all_of(self._suspended):
                        self._exit.decide(Release())
                    await self._clock.sleep(max(self._operations.park_after, _LOOK_AGAIN))
        finally:
            self._suspended.discard(task)

    async def until_stalled(self) -> None:
        """Return when the handler waits for something else than its context, as it seems."""
        while (left := STALLED_AFTER - self._operations.quiet_for()) > timedelta(0):
            await self._clock.sleep(left)


class SealedStore(StoreWrapper):
    """A store that a replay reads and does not write: any other call waits for ever."""

    def __init__(self, store: Store, replay: Replay) -> None:
        super().__init__(store)
        self._replay = replay

    @override
    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        if name not in _READS:
            await self._replay.suspend("store call", name)
        return await call()


class SealedCalls(Calls):
    """Calls the handler, and no function of a step."""

    def __init__(self, hooks: Sequence[RunHook], journal: Journal, replay: Replay) -> None:
        super().__init__(hooks, journal)
        self._replay = replay

    @override
    def call(
        self,
        kind: CallKind,
        step_id: str,
        fn: Callable[..., Any],
        args: tuple[Any, ...],
        context: Context | None = None,
    ) -> Coroutine[Any, Any, Any]:
        return self._replay.suspend(kind.value, step_id)
