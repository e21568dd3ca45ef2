"""A replay: the handler runs over what is recorded, and nothing else happens.

Whatever is not recorded waits for ever. Once nothing is left that could go on, the handler is
cancelled; so it is if, outside of steps, it waits for something else for too long. No function of
the application is called but the handler and its branches, and nothing is written.

A branch of a race or a `parallel` that a later run would not call, since its end is recorded, is
called as well, to find what it has registered.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Sequence
from contextlib import AbstractContextManager, nullcontext
from contextvars import Context
from datetime import datetime, timedelta
from typing import Any, NoReturn, TypeVar

from typing_extensions import override

from bluestreak_core.clock import Clock
from bluestreak_core.concurrency import end_all, wait_ended
from bluestreak_core.run.exit import Exit, Release
from bluestreak_core.run.hook import CallKind, Calls, RunHook, WaitKind
from bluestreak_core.run.journal import Journal
from bluestreak_core.run.operations import Operations
from bluestreak_core.store import Store, StoreWrapper

T = TypeVar("T")

STALLED_AFTER = timedelta(minutes=1)
"""A handler that does not use its context for so long is not waited for any more."""

_LOOK_AGAIN = timedelta(seconds=1)

_TURNS = 100
"""Of the event loop: as many are more than a branch over its records takes, however nested."""

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
        self._explorers: list[asyncio.Task[Any]] = []

    async def suspend(self, kind: str, id: str) -> NoReturn:
        """Wait until the handler is cancelled; cancel it if all of it waits like this."""
        task = asyncio.current_task()
        if task not in self._explorers:
            self._note(kind, id)
        self._suspended.add(task)
        try:
            with self._operations.operation(kind, id):
                await self._clock.sleep(timedelta(0))  # let branches that start together begin
                while True:
                    self._stop_if_stuck()
                    await self._clock.sleep(max(self._operations.park_after, _LOOK_AGAIN))
        finally:
            self._suspended.discard(task)

    async def explore(
        self, branches: Sequence[Coroutine[Any, Any, Any]]
    ) -> Sequence[asyncio.Task[Any]]:
        """Run branches as far as their records go; their tasks, of which some may go no further.

        Those are cancelled at the end of the replay, not sooner: nothing that they were to register
        may be missed.
        """
        tasks = [asyncio.create_task(branch) for branch in branches]
        for task in tasks:
            self._explorers.append(task)
            self._operations.add_branch(task)
        turns = 0
        while any(not task.done() and task not in self._suspended for task in tasks):
            if turns >= _TURNS and self._operations.quiet_for() >= self._operations.park_after:
                break
            await self._clock.sleep(timedelta(0) if turns < _TURNS else _LOOK_AGAIN)
            turns += 1
        return tasks

    async def outcome(self, step_id: str, explorer: asyncio.Task[T]) -> T:
        """What a branch returns or raises; if it is suspended, so is the caller."""
        if not explorer.done():
            self._note("branch", step_id)
            task = asyncio.current_task()
            self._suspended.add(task)
            try:
                self._stop_if_stuck()
                await wait_ended(explorer)
            finally:
                self._suspended.discard(task)
        return explorer.result()

    async def close(self) -> None:
        """End the branches that went no further."""
        await end_all(self._explorers)
        for task in self._explorers:
            if not task.cancelled():
                task.exception()  # or asyncio logs that nobody has looked at it

    async def until_stalled(self) -> None:
        """Return when the handler waits for something else than its context, as it seems."""
        while (left := STALLED_AFTER - self._operations.quiet_for()) > timedelta(0):
            await self._clock.sleep(left)

    def _note(self, kind: str, id: str) -> None:
        if self.stopped_at is None:
            self.stopped_at = f"{kind} {id!r}"

    def _stop_if_stuck(self) -> None:
        if self._operations.are_all_of(self._suspended):
            self._exit.decide(Release())


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

    @override
    def waiting(
        self, kind: WaitKind, id: str, until: datetime | None = None
    ) -> AbstractContextManager[object]:
        return nullcontext()
