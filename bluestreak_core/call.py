"""Calling a step's function, wherever it belongs: on the event loop or in a thread."""

from __future__ import annotations

import asyncio
import contextvars
import inspect
import threading
from collections.abc import Callable
from typing import Any

from bluestreak_core.argument import is_async


async def call(name: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call an async function on the event loop, any other one in a thread of its own.

    A thread's function may return an awaitable, as `lambda: send(mail)` does; that is awaited on
    the event loop. A thread cannot be cancelled: when the caller is, its function runs to its end
    and what it returns is dropped.
    """
    if is_async(function):
        return await function(*args)
    result = await _call_in_thread(name, function, *args)
    return await result if inspect.isawaitable(result) else result


async def _call_in_thread(name: str, function: Callable[..., Any], *args: Any) -> Any:
    # A thread for each call: a pool would make a hundred runs queue for a few threads, and its
    # threads are joined at exit, where one that never returns would keep the process alive.
    loop = asyncio.get_running_loop()
    future: asyncio.Future[Any] = loop.create_future()
    context = contextvars.copy_context()

    def work() -> None:
        try:
            result = context.run(function, *args)
        except BaseException as error:  # noqa: BLE001 - handed to the awaiting task
            deliver(future.set_exception, _raisable(error))
        else:
            deliver(future.set_result, result)

    def deliver(settle: Callable[[Any], None], outcome: Any) -> None:
        try:
            loop.call_soon_threadsafe(lambda: None if future.done() else settle(outcome))
        except RuntimeError:
            if not loop.is_closed():  # nobody is left to hear of it
                raise

    threading.Thread(target=work, name=name, daemon=True).start()
    return await future


def _raisable(error: BaseException) -> BaseException:
    """A future refuses to hold a StopIteration, and a SystemExit in one would end the process."""
    if isinstance(error, Exception | asyncio.CancelledError) and not isinstance(
        error, StopIteration
    ):
        return error
    wrapped = RuntimeError(f"step raised {type(error).__name__}: {error}")
    wrapped.__cause__ = error
    return wrapped
