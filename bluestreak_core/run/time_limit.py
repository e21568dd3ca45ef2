"""The time limit of a step."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from datetime import timedelta
from typing import TypeVar

from bluestreak_core.errors import StepTimeout

T = TypeVar("T")


async def in_time(limit: timedelta, workflow_id: str, step_id: str, call: Awaitable[T]) -> T:
    """Await the call of a step's function; raise `StepTimeout` if it takes longer than `limit`."""
    seconds = limit.total_seconds()
    try:
        async with asyncio.timeout(seconds) as timer:
            return await call
    except TimeoutError:
        if timer.expired():
            raise StepTimeout(workflow_id, step_id, seconds) from None
        raise  # the function raised it
