"""The workers of an environment: one at a time, and another one when it was killed or stopped."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from contextvars import Context
from typing import Any, TypeVar

from typing_extensions import Unpack

from bluestreak_core.bluestreak import Bluestreak
from bluestreak_core.concurrency import WakeUp
from bluestreak_core.run import Handler, HandlerPolicy
from bluestreak_core.testing.virtual.process import Process
from bluestreak_core.testing.virtual.time import VirtualLoop

T = TypeVar("T")


class Fleet:
    """Runs the processes of a test: a client, and the workers that `new_worker` makes."""

    def __init__(self, loop: VirtualLoop, new_worker: Callable[[], Bluestreak]) -> None:
        self._loop = loop
        self._new_worker = new_worker
        self._client = Process("client", loop)
        self._workers: list[Process] = []
        self._process: Process | None = None
        self._worker: Bluestreak | None = None
        self._poll: asyncio.Task[None] | None = None
        self._aside: dict[asyncio.Task[Any], None] = {}
        self._changed = WakeUp()

    @property
    def runs(self) -> int:
        """How many workflows the current worker runs."""
        return 0 if self._worker is None else self._worker.health().runs

    @property
    def tasks(self) -> list[asyncio.Task[Any]]:
        """The tasks of the current worker that are not done."""
        return [] if self._process is None else self._process.tasks

    def ensure_worker(self) -> None:
        """Start a worker unless there is one."""
        if self._worker is not None:
            return
        worker = self._new_worker()
        process = Process(f"worker {len(self._workers) + 1}", self._loop)
        self._workers.append(process)
        self._worker, self._process = worker, process
        self._poll = process.spawn(_work(worker))
        self._poll.add_done_callback(lambda _: self._changed.notify())

    def register_handler(
        self, handler_id: str, handler: Handler, **policy: Unpack[HandlerPolicy]
    ) -> None:
        """Register a handler with the current worker; later ones get it when they are made."""
        if self._worker is not None:
            self._worker.register_handler(handler_id, handler, **policy)

    def kill(self) -> None:
        """Kill the current worker. If time is passing, another one starts at once."""
        if self._process is not None:
            self._process.kill()
        self._worker = self._process = None
        if self._loop.is_running():
            self._loop.call_soon_threadsafe(self.ensure_worker, context=Context())

    def stop(self) -> asyncio.Task[None] | None:
        """Stop the current worker; the task that ends when it has stopped."""
        worker, self._worker = self._worker, None
        if worker is None or self._poll is None:
            return None
        worker.stop()
        return self._poll

    async def run_as_client(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine in the client. Raises what `check` raises meanwhile."""
        task = self._spawn_as_client(work)
        while not task.done():
            changed = self._changed.wait()
            self.check()
            await changed
        return task.result()

    def run_aside(self, work: Coroutine[Any, Any, Any]) -> None:
        """Run a coroutine in the client beside its other calls; `check` raises what it raises."""
        self._aside[self._spawn_as_client(work)] = None

    def check(self) -> None:
        """Raise the error of a worker whose `poll` has raised, or of what has run aside."""
        poll = self._poll
        if poll is not None and poll.done() and (error := poll.exception()) is not None:
            self._poll = self._worker = None
            raise error
        for task in [task for task in self._aside if task.done()]:
            del self._aside[task]
            task.result()

    def _spawn_as_client(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
        task = self._client.spawn(work)
        task.add_done_callback(lambda _: self._changed.notify())
        return task

    async def bury(self) -> None:
        """End all processes as they are."""
        for process in [self._client, *self._workers]:
            await process.bury()


async def _work(worker: Bluestreak) -> None:
    await worker.init()
    await worker.poll()
