"""Work that must not stop half-way."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, TypeVar

T = TypeVar("T")


def cancellations() -> int:
    """How often the current task was cancelled; what it awaits may be without that."""
    task = asyncio.current_task()
    return 0 if task is None else task.cancelling()


def cancel_once(task: asyncio.Future[Any]) -> None:
    """Cancel it, unless that has been asked for already.

    Before Python 3.12 a task in `asyncio.wait_for` that is cancelled again while it ends leaves
    what it waited for half-done: of PyMongo's, a lock that nobody ever releases.
    """
    if not (isinstance(task, asyncio.Task) and task.cancelling()):
        task.cancel()


async def end_all(tasks: Iterable[asyncio.Future[Any]]) -> None:
    """Cancel each once, and return when all have ended, though the caller is cancelled meanwhile.

    What they raise is dropped.
    """
    cancelled = [task for task in tasks if not task.done()]
    for task in cancelled:
        cancel_once(task)
    # A mere future has ended by that; a task has something to end.
    if pending := [task for task in cancelled if not task.done()]:
        await finish_despite_cancel(asyncio.gather(*pending, return_exceptions=True))


async def wait_ended(task: asyncio.Future[Any]) -> None:
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


async def finish_despite_cancel(
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
            await wait_ended(task)
        except asyncio.CancelledError as error:
            cancelled = error
            if on_cancel is not None:
                on_cancel()
    if cancelled is None:
        return task.result()
    raise cancelled from None if task.cancelled() else task.exception()
