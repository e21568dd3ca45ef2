"""Waiting in tests: for a condition, never for a while."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import timedelta

from bluestreak_core.testing import ManualClock


async def eventually(condition: Callable[[], bool]) -> None:
    """Let the event loop turn until a condition holds; the suite's timeout bounds it."""
    while not condition():  # noqa: ASYNC110 - what it waits for has no event
        await asyncio.sleep(0)


async def pass_time(clock: ManualClock, condition: Callable[[], bool]) -> None:
    """Let the clock tick, a hundredth of a second with each turn of the loop."""
    while not condition():
        clock.advance(timedelta(milliseconds=10))
        await asyncio.sleep(0)
