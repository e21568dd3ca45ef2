"""Processes inside one process: tasks in their contexts can be killed, halted, and resumed."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar, copy_context
from enum import StrEnum
from typing import Any, TypeVar

T = TypeVar("T")

_CANCELLATIONS = 20


class ProcessState(StrEnum):
    """What happens to the callbacks of a process."""

    RUNNING = "running"
    HALTED = "halted"
    DEAD = "dead"


class Process:
    """Stands for a process on a `VirtualLoop`: all tasks that were started in its context.

    `kill` is SIGKILL: not a line of it runs any more, no `except` and no `finally`. `halt` and
    `resume` are SIGSTOP and SIGCONT: time passes meanwhile, and whatever fell due happens late.
    Nothing can stop a thread; its result is lost if the process is dead.
    """

    def __init__(self, name: str, loop: asyncio.AbstractEventLoop) -> None:
        self.name = name
        self._loop = loop
        self.state = ProcessState.RUNNING
        self._held: list[Entry] = []
        # Python closes a forgotten coroutine, which would run its `finally`.
        self._tasks: dict[asyncio.Task[Any], None] = {}

    def __repr__(self) -> str:
        return f"<Process {self.name}, {self.state}>"

    @classmethod
    def of(cls, context: Context | None = None) -> Process | None:
        """The process that a context belongs to, or the current one."""
        return _current.get() if context is None else context.get(_current)

    def spawn(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        """Run a coroutine in this process."""
        context = copy_context()
        context.run(_current.set, self)
        return self._loop.create_task(work, context=context)

    def kill(self) -> None:
        """End it here and now. A caller inside the process runs on to its next await."""
        self.state = ProcessState.DEAD

    def halt(self) -> None:
        """Stop it until `resume`."""
        if self.state is ProcessState.RUNNING:
            self.state = ProcessState.HALTED

    def resume(self) -> None:
        """Continue a halted process."""
        if self.state is ProcessState.HALTED:
            self._go_on()

    async def die(self) -> None:
        """Kill it from inside; the call never returns."""
        self.kill()
        await self._loop.create_future()

    def keep(self, task: asyncio.Task[Any]) -> None:
        """Hold on to a task until it is done."""
        self._tasks[task] = None
        task.add_done_callback(self._tasks.pop)

    def hold(self, entry: Entry) -> None:
        """Keep a callback until the process is resumed."""
        self._held.append(entry)

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks that are not done."""
        return list(self._tasks)

    async def bury(self) -> None:
        """Cancel all its tasks, at the end of a test that must leave none.

        A task that survives many cancellations is forgotten.
        """
        self._go_on()
        for _ in range(_CANCELLATIONS):
            if not self._tasks:
                break
            for task in self.tasks:
                task.cancel()
            await asyncio.sleep(1)
        self.kill()

    def _go_on(self) -> None:
        self.state = ProcessState.RUNNING
        held, self._held = self._held, []
        for entry in held:
            entry.schedule(self._loop)


class Entry:
    """A callback of a process that has not run yet."""

    __slots__ = ("_args", "_callback", "_context", "_process", "handle")

    handle: asyncio.Handle
    """The handle that was returned for it, by which it may be cancelled."""

    def __init__(
        self,
        process: Process,
        callback: Callable[..., object],
        args: tuple[Any, ...],
        context: Context | None,
    ) -> None:
        self._process = process
        self._callback = callback
        self._args = args
        self._context = context or copy_context()

    def run(self) -> None:
        """Call it if the process runs; else hold it."""
        match self._process.state:
            case ProcessState.RUNNING:
                self._callback(*self._args)
            case ProcessState.HALTED | ProcessState.DEAD:
                self._process.hold(self)

    def schedule(self, loop: asyncio.AbstractEventLoop) -> None:
        """Run it soon, unless it was cancelled meanwhile."""
        if not self.handle.cancelled():
            loop.call_soon(self._callback, *self._args, context=self._context)


_current: ContextVar[Process | None] = ContextVar("bluestreak_process", default=None)
