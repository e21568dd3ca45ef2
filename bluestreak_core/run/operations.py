"""The steps and naps that a run is waiting for, and whether it may leave memory meanwhile."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any, Self

from bluestreak_core.clock import Clock
from bluestreak_core.concurrency import finish_despite_cancel


class _Operation:
    """Is pending for as long as its block lasts."""

    __slots__ = ("_helper", "_id", "_kind", "_operations", "task", "wake_up_at")

    def __init__(
        self,
        operations: Operations,
        kind: str,
        id: str,
        task: asyncio.Task[object] | None,
        wake_up_at: datetime | None,
    ) -> None:
        self._kind = kind
        self._id = id
        self.task = task
        self.wake_up_at = wake_up_at
        """When a nap ends; None for everything else."""
        self._operations = operations
        self._helper: asyncio.Task[object] | None = None

    def helped_by_current_task(self) -> None:
        """The current task does a part of it."""
        self._helper = asyncio.current_task()

    def is_done_by(self, task: asyncio.Task[Any]) -> bool:
        """Whether this task does it, or a part of it. May be asked from any thread."""
        return task in (self.task, self._helper)

    @property
    def name(self) -> str:
        """What a run that is in it is in."""
        return f"{self._kind} {self._id!r}"

    def __enter__(self) -> Self:
        self._operations.begun(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._operations.ended(self)


class Operations:
    """The pending operations of one run.

    A run may be parked when all it waits for is naps longer than `park_after`. Where the handler
    itself is in the nap, that is at once. Where it has branched out (`asyncio.gather`, a
    `TaskGroup`), one of the branches may be between two steps just now, doing something that
    nobody here can see; so the naps must have been all there is for `park_after`.
    """

    def __init__(self, clock: Clock, park_after: timedelta) -> None:
        self.park_after = park_after
        self.eager = False
        """Whether naps of any length leave memory at once, because the worker is stopping."""
        self._clock = clock
        self._pending: dict[_Operation, None] = {}
        """In the order of their beginnings."""
        self._main: asyncio.Task[object] | None = None
        self._branches: set[asyncio.Task[object]] = set()
        self._quiet_since = clock.monotonic()

    def begin(self) -> None:
        """Take the current task for the one that runs the handler."""
        self._main = asyncio.current_task()

    def operation(self, kind: str, id: str, wake_up_at: datetime | None = None) -> _Operation:
        """A block that counts as a pending operation; `wake_up_at` makes it a nap."""
        return _Operation(self, kind, id, self._here(), wake_up_at)

    def begun(self, operation: _Operation) -> None:
        """CountBy an operation as pending."""
        self._pending[operation] = None
        self._quiet_since = self._clock.monotonic()

    def ended(self, operation: _Operation) -> None:
        """CountBy it no more."""
        del self._pending[operation]
        self._quiet_since = self._clock.monotonic()

    def park_until(self) -> datetime | None:
        """When to wake the run if it may be parked now, else None."""
        naps = [op.wake_up_at for op in self._pending if op.wake_up_at is not None]
        if not naps or len(naps) < len(self._pending):
            return None
        wake_up_at = min(naps)
        if self.eager:
            return wake_up_at
        if wake_up_at - self._clock.now() <= self.park_after:
            return None
        return wake_up_at if self._quiet_for() >= self._grace() else None

    def name_at(self, task: asyncio.Task[Any]) -> str | None:
        """The innermost operation that a task is in. May be asked from any thread."""
        pending = reversed(list(self._pending))  # a copy, which no other thread can change
        return next((one.name for one in pending if one.is_done_by(task)), None)

    def has(self, task: asyncio.Task[Any]) -> bool:
        """Whether a task runs the handler or a branch of it. May be asked from any thread."""
        return task is self._main or task in self._branches

    async def cancel(self) -> None:
        """Cancel the branches that still use the context though the handler has ended."""
        tasks = {op.task for op in self._pending if op.task is not None} - {self._main}

        def cancel() -> None:
            for task in tasks:
                task.cancel()

        cancel()
        if tasks:  # which may swallow that, and are cancelled again whenever the handler is
            await finish_despite_cancel(asyncio.wait(tasks), on_cancel=cancel)

    def _here(self) -> asyncio.Task[object] | None:
        task = asyncio.current_task()
        if task is not None and task is not self._main:
            self._branches.add(task)
            task.add_done_callback(self._branches.discard)
        return task

    def _quiet_for(self) -> timedelta:
        return timedelta(seconds=self._clock.monotonic() - self._quiet_since)

    def _grace(self) -> timedelta:
        return self.park_after if self._branches else timedelta(0)
