"""Waiting for the first of several waits."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any

from bluestreak_core.concurrency.cancellation import end_all


async def first_of(*waits: Coroutine[Any, Any, object] | asyncio.Future[Any]) -> None:
    """Return when the first of the waits has ended; cancel the others, and let them end.

    Raises what the first one raised. Cancelling this cancels all of them.
    """
    futures = [asyncio.ensure_future(wait) for wait in waits]
    try:
        done, _ = await asyncio.wait(futures, return_when=asyncio.FIRST_COMPLETED)
    finally:
        await end_all(futures)
    for future in done:
        future.result()
