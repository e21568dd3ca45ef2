"""The pending steps and naps of a run, and whether it may leave memory."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import Any, Self

from bluestreak_core.clock import Clock
from bluestreak_core.concurrency import finish_despite_cancel


class _Operation:
    """A step, a nap or the like that is pending during its block."""

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
        """When it ends, if it is a nap; else None."""
        self._operations = operations
        self._helper: asyncio.Task[object] | None = None

    def helped_by_current_task(self) -> None:
        """Note that the current task does a part of it."""
        self._helper = asyncio.current_task()

    def is_done_by(self, task: asyncio.Task[Any]) -> bool:
        """Whether this task does it or a part of it. May be called from any thread."""
        return task in (self.task, self._helper)

    @property
    def name(self) -> str:
        """Its kind and id, for messages."""
        return f"{self._kind} {self._id!r}"

    def __enter__(self) -> Self:
        self._operations.begun(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._operations.ended(self)


class Operations:
    """The pending operations of one run.

    A run may be parked while all pending operations are naps longer than `park_after`. If only the
    handler's own task uses the context, it is parked at once. If the handler has branches
    (`asyncio.gather`, a `TaskGroup`), one of them may be between two steps, doing work that is
    invisible here, and parking would cut it off. So nothing may have begun or ended for
    `park_after` by then.
    """

    def __init__(self, clock: Clock, park_after: timedelta) -> None:
        self.park_after = park_after
        self.eager = False
        """Whether naps of any length are parked at once, because the worker is stopping."""
        self._clock = clock
        self._pending: dict[_Operation, None] = {}
        """In the order in which they began."""
        self._main: asyncio.Task[object] | None = None
        self._branches: set[asyncio.Task[object]] = set()
        self._quiet_since = clock.monotonic()

    def begin(self) -> None:
        """Note that the current task runs the handler."""
        self._main = asyncio.current_task()

    def operation(self, kind: str, id: str, wake_up_at: datetime | None = None) -> _Operation:
        """A context manager for an operation of the current task; `wake_up_at` makes it a nap."""
        return _Operation(self, kind, id, self._current_task(), wake_up_at)

    def begun(self, operation: _Operation) -> None:
        """Count an operation as pending."""
        self._pending[operation] = None
        self._quiet_since = self._clock.monotonic()

    def ended(self, operation: _Operation) -> None:
        """Count an operation as done."""
        del self._pending[operation]
        self._quiet_since = self._clock.monotonic()

    def park_until(self) -> datetime | None:
        """When to wake the run if it may be parked now, else None."""
        wake_ups = [nap.wake_up_at for nap in self._pending if nap.wake_up_at is not None]
        if not wake_ups or len(wake_ups) < len(self._pending):
            return None
        wake_up_at = min(wake_ups)
        if self.eager:
            return wake_up_at
        if wake_up_at - self._clock.now() <= self.park_after:
            return None
        return wake_up_at if self._quiet_for() >= self._grace() else None

    def name_at(self, task: asyncio.Task[Any]) -> str | None:
        """The name of a task's innermost operation, or None. May be called from any thread."""
        pending = reversed(list(self._pending))  # a copy: the event loop's thread may change it
        return next((operation.name for operation in pending if operation.is_done_by(task)), None)

    def has(self, task: asyncio.Task[Any]) -> bool:
        """Whether a task runs the handler or a branch of it. May be called from any thread."""
        return task is self._main or task in self._branches

    async def cancel(self) -> None:
        """Cancel the branches that still use the context after the handler has ended."""
        users = {operation.task for operation in self._pending if operation.task is not None}
        tasks = users - {self._main}

        def cancel() -> None:
            for task in tasks:
                task.cancel()

        cancel()
        if tasks:  # one that swallows this is cancelled again whenever the handler's task is
            await finish_despite_cancel(asyncio.wait(tasks), on_cancel=cancel)

    def _current_task(self) -> asyncio.Task[object] | None:
        task = asyncio.current_task()
        if task is not None and task is not self._main:
            self._branches.add(task)
            task.add_done_callback(self._branches.discard)
        return task

    def _quiet_for(self) -> timedelta:
        return timedelta(seconds=self._clock.monotonic() - self._quiet_since)

    def _grace(self) -> timedelta:
        return self.park_after if self._branches else timedelta(0)
