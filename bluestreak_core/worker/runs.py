"""The runs of a worker."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Callable
from typing import Any

from bluestreak_core.concurrency import WakeUp
from bluestreak_core.model import RunEnd
from bluestreak_core.run import Run, SharedHistories


class Runs:
    """The current runs of a worker, each in its own task.

    `on_error` is called with what a run raises: an error of the store or of Bluestreak, never one
    of the handler. `all` and `location_of` may be called from any thread.
    """

    def __init__(self, on_error: Callable[[BaseException], None]) -> None:
        self.are_full = False
        """Whether no slot is free, and none has become free for a while."""
        self.ended = WakeUp()
        """Notified when a run has ended, which frees a slot."""
        self.ends: Counter[RunEnd] = Counter()
        """How many runs have ended in which way."""
        self._on_error = on_error
        self._by_task: dict[asyncio.Task[None], Run] = {}
        self._began = WakeUp()
        self._last_ended = WakeUp()

    def __len__(self) -> int:
        return len(self._by_task)

    def all(self) -> list[Run]:
        """The current runs, in a new list."""
        return list(self._by_task.values())

    def begin(self, run: Run, histories: SharedHistories) -> asyncio.Task[None]:
        """Execute a run in a task, which is done when the claim has ended."""
        task = asyncio.create_task(run.execute(histories), name=f"workflow {run.workflow_id}")
        self._by_task[task] = run
        task.add_done_callback(self._on_end)
        self._began.notify()
        return task

    async def until_some(self) -> None:
        """Return when at least one run is under way."""
        while not self._by_task:
            await self._began.wait()

    async def until_none(self) -> None:
        """Return when no run is under way."""
        while self._by_task:
            await self._last_ended.wait()

    def location_of(self, task: asyncio.Task[Any]) -> str | None:
        """The part of a workflow that a task is in; None if the task belongs to no run."""
        return next(filter(None, (run.location_of(task) for run in self.all())), None)

    def _on_end(self, task: asyncio.Task[None]) -> None:
        run = self._by_task.pop(task)
        if run.end is not None:
            self.ends[run.end] += 1
        if not task.cancelled() and (error := task.exception()) is not None:
            self._on_error(error)
        self.ended.notify()
        if not self._by_task:
            self._last_ended.notify()
