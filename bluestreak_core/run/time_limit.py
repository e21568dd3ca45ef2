"""The time limit of a step."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import TypeVar

from bluestreak_core.errors import StepTimeout

T = TypeVar("T")


async def in_time(limit: timedelta, workflow_id: str, step_id: str, call: Awaitable[T]) -> T:
    """Await the call of a step's function; raise `StepTimeout` if it takes longer than `limit`.

    A function that is cancelled already when the time is over is not cancelled again, as
    `asyncio.timeout` would do; see `concurrency.cancel_once`. When a worker goes on that was
    halted, its leases have expired and the time of its steps is over, both at one moment.
    """
    seconds = limit.total_seconds()
    task = asyncio.current_task()
    if task is None:
        raise AssertionError("a coroutine runs in a task")
    before = task.cancelling()
    is_over = False

    def end() -> None:
        nonlocal is_over
        is_over = task.cancelling() == before
        if is_over:
            task.cancel()

    timer = asyncio.get_running_loop().call_later(seconds, end)
    try:
        return await call
    except asyncio.CancelledError:
        if is_over and task.cancelling() == before + 1:
            raise StepTimeout(workflow_id, step_id, seconds) from None
        raise
    finally:
        timer.cancel()
        if is_over:
            task.uncancel()
