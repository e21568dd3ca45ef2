"""The pending steps, naps and waits of a run, and whether it may leave memory."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Sequence
from contextvars import ContextVar
from datetime import datetime, timedelta
from typing import Any, Self

from bluestreak_core.clock import Clock
from bluestreak_core.concurrency import cancel_all
from bluestreak_core.run.exit import Park, Release

BRANCHES: ContextVar[tuple[object, ...]] = ContextVar("BRANCHES", default=())
"""The branches of races that the current task belongs to, outermost first."""


class Operation:
    """A step, a nap, a wait for messages or the like, which is pending during its block."""

    wake_up_at: datetime | None = None
    """When it ends at the latest, if it is a nap or a wait; else None."""
    names: tuple[str, ...] = ()
    """The names of the messages that it waits for, if it is a wait."""
    for_child = False
    """Whether it is the end of a child that it waits for."""
    mail: int | None = None
    """The count of messages at which a wait found nothing; None while it looks."""
    branches: tuple[object, ...] = ()
    """The branches of races that it belongs to, if it is a wait."""
    begun_at = 0.0
    """When it began, by the monotonic clock."""
    _helper: asyncio.Task[object] | None = None

    def __init__(
        self, operations: Operations, kind: str, id: str, task: asyncio.Task[object] | None
    ) -> None:
        self.id = id
        self.task = task
        self._kind = kind
        self._operations = operations

    def helped_by_current_task(self) -> None:
        """Note that the current task does a part of it."""
        self._helper = asyncio.current_task()

    def is_done_by(self, task: asyncio.Task[Any]) -> bool:
        """Whether this task does it or a part of it. May be called from any thread."""
        return task in (self.task, self._helper)

    @property
    def may_be_parked(self) -> bool:
        """Whether it can go on in another run as if nothing had happened."""
        return self.wake_up_at is not None and (not self.names or self.mail is not None)

    @property
    def name(self) -> str:
        """Its kind and id, for messages."""
        return f"{self._kind} {self.id!r}"

    def __enter__(self) -> Self:
        self._operations.begun(self)
        return self

    def __exit__(self, *_: object) -> None:
        self._operations.ended(self)


class Operations:
    """The pending operations of one run.

    A run may be parked while all pending operations are naps and waits that last for longer than
    `park_after`. If only the handler's own task uses the context, a nap is parked at once. If the
    handler has branches (`asyncio.gather`, a `TaskGroup`), one of them may be between two steps,
    doing work that is invisible here, and parking would cut it off. So nothing may have begun or
    ended for `park_after` by then. The same holds for a wait, since a message is received much
    sooner in memory, unless it is a child that it waits for, and `is_crowded` says that no slot is
    free, which the child may need. And a run that waits for a message is not parked while a branch
    does anything but naps and waits: the message may be the answer to that.
    """

    def __init__(self, clock: Clock, park_after: timedelta, is_crowded: Callable[[], bool]) -> None:
        self.park_after = park_after
        self.eager = False
        """Whether naps of any length are parked at once, because the worker is stopping."""
        self.has_new = False
        """Whether the handler has asked for something that was not recorded."""
        self._clock = clock
        self._is_crowded = is_crowded
        self._pending: dict[Operation, None] = {}
        """In the order in which they began."""
        self._main: asyncio.Task[object] | None = None
        self._branches: set[asyncio.Task[object]] = set()
        self._quiet_since = clock.monotonic()

    def begin(self) -> None:
        """Note that the current task runs the handler."""
        self._main = asyncio.current_task()

    def operation(self, kind: str, id: str) -> Operation:
        """A context manager for an operation of the current task."""
        task = asyncio.current_task()
        if task is not None and task is not self._main:
            self.add_branch(task)
        return Operation(self, kind, id, task)

    def nap(self, id: str, wake_up_at: datetime, kind: str = "nap") -> Operation:
        """An operation that does nothing but wait for an instant."""
        nap = self.operation(kind, id)
        nap.wake_up_at = wake_up_at
        return nap

    def wait(
        self,
        kind: str,
        id: str,
        names: tuple[str, ...],
        wake_up_at: datetime | None = None,
        *,
        for_child: bool = False,
    ) -> Operation:
        """An operation that waits for messages of these names, perhaps until an instant."""
        wait = self.operation(kind, id)
        wait.names, wait.wake_up_at, wait.for_child = names, wake_up_at, for_child
        wait.branches = BRANCHES.get()
        return wait

    def begun(self, operation: Operation) -> None:
        """Count an operation as pending."""
        self._pending[operation] = None
        self.has_new = True
        self._quiet_since = operation.begun_at = self._clock.monotonic()

    def ended(self, operation: Operation) -> None:
        """Count an operation as done."""
        del self._pending[operation]
        self._quiet_since = self._clock.monotonic()

    def parking(self) -> Park | Release | None:
        """How to end the run if it may leave memory now, else None."""
        wake_ups = [found.wake_up_at for found in self._pending if found.may_be_parked]
        if not wake_ups or len(wake_ups) < len(self._pending):
            return None
        wake_up_at = min(filter(None, wake_ups))
        waits = [found for found in self._pending if found.names]
        if self.eager and waits and self._branches:
            return Release()  # what a branch does besides may be what the message answers to
        if not self.eager and not self._is_at_rest(wake_up_at, waits):
            return None
        names = dict.fromkeys(name for wait in waits for name in wait.names)
        mail = min((wait.mail or 0 for wait in waits), default=0)
        return Park(wake_up_at, tuple(names), mail)

    def are_all_of(self, tasks: Collection[asyncio.Task[Any] | None]) -> bool:
        """Whether only these tasks are left, as far as can be seen here.

        If the handler's own task and all branches that use the context are among them, that is
        certain. Else another one may be between two operations, as in `parking`.
        """
        if any(operation.task not in tasks for operation in self._pending):
            return False
        is_certain = self._main in tasks and all(branch in tasks for branch in self._branches)
        return is_certain or self.quiet_for() >= self.park_after

    def in_flight(self) -> Operation | None:
        """The oldest pending operation that is neither a nap nor a wait; None if there is none."""
        working = (found for found in self._pending if found.wake_up_at is None)
        return next(working, None)

    def waits_for(self, name: str) -> bool:
        """Whether an operation waits for messages of this name."""
        return any(name in operation.names for operation in self._pending)

    def is_pending(self, id: str) -> bool:
        """Whether an operation of this id is pending."""
        return any(operation.id == id for operation in self._pending)

    def looks(self, branch: object) -> list[Operation]:
        """The waits in a branch of a race that look for a message now, and may be taking one."""
        return [
            found
            for found in self._pending
            if found.names and found.mail is None and branch in found.branches
        ]

    def name_at(self, task: asyncio.Task[Any]) -> str | None:
        """The name of a task's innermost operation, or None. May be called from any thread."""
        pending = reversed(list(self._pending))  # a copy: the event loop's thread may change it
        return next((operation.name for operation in pending if operation.is_done_by(task)), None)

    def has(self, task: asyncio.Task[Any]) -> bool:
        """Whether a task runs the handler or a branch of it. May be called from any thread."""
        return task is self._main or task in self._branches

    async def cancel(self) -> None:
        """Cancel the branches that still use the context after the handler has ended."""
        if not self._pending:
            return
        # A dict, not a set: a random order could not be reproduced.
        users = dict.fromkeys(operation.task for operation in self._pending)
        await cancel_all([task for task in users if task is not None and task is not self._main])

    def _is_at_rest(self, wake_up_at: datetime, waits: Sequence[Operation]) -> bool:
        """Whether the run will do nothing for long, as far as can be seen here."""
        if wake_up_at - self._clock.now() <= self.park_after:
            return False
        if waits and not self._branches <= {operation.task for operation in self._pending}:
            return False
        if waits and all(wait.for_child for wait in waits) and self._is_crowded():
            return True
        return self.quiet_for() >= self._grace()

    def add_branch(self, task: asyncio.Task[Any]) -> None:
        """Note that a task uses the context, or is about to."""
        if task is not self._main and task not in self._branches:
            self._branches.add(task)
            task.add_done_callback(self._branches.discard)

    def quiet_for(self) -> timedelta:
        """How long ago an operation has begun or ended."""
        return timedelta(seconds=self._clock.monotonic() - self._quiet_since)

    def _grace(self) -> timedelta:
        may_go_on = self._branches or any(operation.names for operation in self._pending)
        return self.park_after if may_go_on else timedelta(0)
