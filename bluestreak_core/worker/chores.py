"""Background tasks of a worker."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine, Iterable
from contextlib import asynccontextmanager
from typing import Any

from bluestreak_core.concurrency import end_all


@asynccontextmanager
async def with_chores(
    chores: Iterable[Coroutine[Any, Any, None]], on_error: Callable[[BaseException], None]
) -> AsyncIterator[None]:
    """Run each chore in its own task during the block, and cancel them at its end.

    `on_error` is called with an error that a chore raises.
    """

    def report(task: asyncio.Task[None]) -> None:
        if not task.cancelled() and (error := task.exception()) is not None:
            on_error(error)

    tasks = [asyncio.create_task(chore) for chore in chores]
    for task in tasks:
        task.add_done_callback(report)
    try:
        yield
    finally:
        await end_all(tasks)
