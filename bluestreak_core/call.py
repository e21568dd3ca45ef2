"""Calling a step's function, wherever it belongs: on the event loop or in a thread."""

from __future__ import annotations

import asyncio
import contextvars
import functools
import inspect
import threading
from collections.abc import Callable
from concurrent.futures import Executor, Future
from typing import Any, ParamSpec, TypeVar

from typing_extensions import override

from bluestreak_core.argument import is_async
from bluestreak_core.failure import record

P = ParamSpec("P")
T = TypeVar("T")


async def call(step_id: str, function: Callable[..., Any], *args: Any) -> Any:
    """Call a step's async function on the event loop, any other one in a thread of its own.

    What would end the process is raised as a `RuntimeError`, with the original as its cause.

    A thread's function may return an awaitable, as `lambda: send(mail)` does; that is awaited on
    the event loop. A thread cannot be cancelled: when the caller is, its function runs to its end
    and what it returns is dropped.
    """
    try:
        if is_async(function):
            return await function(*args)
        result = await _call_in_thread(step_id, function, *args)
        return await result if inspect.isawaitable(result) else result
    except SystemExit as error:  # in a branch of the handler it would end the event loop
        raise _raisable(error) from error


async def _call_in_thread(step_id: str, function: Callable[..., Any], *args: Any) -> Any:
    context = contextvars.copy_context()
    work = functools.partial(context.run, function, *args)
    return await asyncio.get_running_loop().run_in_executor(_ThreadPerCall(f"step {step_id}"), work)


class _ThreadPerCall(Executor):
    """Starts a thread for each call.

    A pool would make a hundred runs queue for a few threads, and its threads are joined at exit,
    where one that never returns would keep the process alive.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @override
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()

        def work() -> None:
            try:
                result = fn(*args, **kwargs)
            except BaseException as error:  # noqa: BLE001 - handed to the awaiting task
                future.set_exception(_raisable(error))
            else:
                future.set_result(result)

        threading.Thread(target=work, name=self._name, daemon=True).start()
        return future


def _raisable(error: BaseException) -> BaseException:
    """A future refuses to hold a StopIteration, and a SystemExit in one would end the process."""
    if isinstance(error, Exception | asyncio.CancelledError) and not isinstance(
        error, StopIteration
    ):
        return error
    recorded = record(error)
    wrapped = RuntimeError(f"step raised {recorded.type}: {recorded.message}")
    wrapped.__cause__ = error
    return wrapped
