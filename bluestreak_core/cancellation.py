"""Work that must not stop half-way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


def cancellations() -> int:
    """How often the current task was cancelled; what it awaits may be without that."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


async def ended(task: asyncio.Future[Any]) -> None:
    """Return when it has ended, in whichever way; being cancelled meanwhile is not passed on to it.

    `asyncio.wait` does that for any number of them, and takes five times as long.
    """
    if task.done():
        return
    end = asyncio.get_running_loop().create_future()

    def tell(_: object) -> None:
        if not end.done():
            end.set_result(None)

    task.add_done_callback(tell)
    try:
        await end
    finally:
        task.remove_done_callback(tell)


async def see_through(
    work: Coroutine[Any, Any, T] | asyncio.Future[T], on_cancel: Callable[[], object] | None = None
) -> T:
    """Await work to its end even when the caller is cancelled, and only then let it be cancelled.

    The caller still gets its `CancelledError`, after the work has ended; the work's own outcome is
    lost to it. `on_cancel` is called at each cancellation, to tell the work to hurry.
    """
    task = asyncio.ensure_future(work)
    cancelled: asyncio.CancelledError | None = None
    while not task.done():
        try:
            await ended(task)
        except asyncio.CancelledError as error:
            cancelled = error
            if on_cancel is not None:
                on_cancel()
    if cancelled is None:
        return task.result()
    raise cancelled from None if task.cancelled() else task.exception()
