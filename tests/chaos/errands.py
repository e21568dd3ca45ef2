"""What a client of the workers has begun and follows."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any


class Errands:
    """The tasks of a client; `complaints` gets the errors that they end with."""

    def __init__(self, client: str, complaints: list[str]) -> None:
        self._client = client
        self._complaints = complaints
        self._tasks: set[asyncio.Task[None]] = set()

    def begin(self, errand: Coroutine[Any, Any, None]) -> None:
        """Begin one more."""
        task = asyncio.create_task(errand)
        self._tasks.add(task)
        task.add_done_callback(self._ended)

    async def end(self, patience: float) -> None:
        """Return when all that was begun is over, or is broken off so many seconds later."""
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=patience)
        for task in self._tasks:
            task.cancel()
        if self._tasks:
            await asyncio.wait(self._tasks)

    def _ended(self, task: asyncio.Task[None]) -> None:
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self._complaints.append(f"the {self._client}: {error!r}")
