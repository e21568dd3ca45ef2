"""Calling a step's function, on the event loop or in a thread."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Awaitable, Callable, Coroutine, Generator
from concurrent.futures import Executor, Future
from contextvars import Context, copy_context
from types import CoroutineType, coroutine
from typing import Any, ParamSpec, TypeVar

from typing_extensions import override

from bluestreak_core.argument import has_real_type, is_async
from bluestreak_core.concurrency import cancellations
from bluestreak_core.errors.group import is_abort
from bluestreak_core.run.failure import error_record
from bluestreak_core.run.within import WITHIN, Within

P = ParamSpec("P")
T = TypeVar("T")


async def call(
    within: Within, function: Callable[..., Any], *args: Any, context: Context | None = None
) -> Any:
    """Call an async function on the event loop, any other one in its own thread.

    An error that `except Exception` would not catch is raised as a `RuntimeError`, with the
    original as its cause. That includes a `CancelledError`, unless this call itself is cancelled.

    A function in a thread may return an awaitable, as `lambda: send(mail)` does; it is awaited on
    the event loop. A thread cannot be cancelled: if the caller is, the function runs to its end and
    its result is dropped.

    The function runs in `context`, by default a copy of the caller's, where `within` marks what it
    calls. Context variables that it sets do not reach the caller, since they would be missing in a
    replay.
    """
    before = cancellations()
    if context is None:
        context = copy_context()
    context.run(WITHIN.set, within)
    step_id = within[2]
    try:
        work = _work(context, step_id, function, args)
        try:
            awaited = context.run(work.send, None)
        except StopIteration as end:  # it has ended without waiting for anything
            return end.value
        return await _resumed(context, work, awaited)
    except (Exception, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        is_ours = has_real_type(error, asyncio.CancelledError) and cancellations() > before
        if is_ours or is_abort(error):
            raise
        raise _raisable(step_id, error) from error


def _work(
    context: Context, step_id: str, function: Callable[..., Any], args: tuple[Any, ...]
) -> Coroutine[Any, Any, Any]:
    if not is_async(function):
        return _threaded(step_id, function, args)
    work = context.run(function, *args)
    return work if isinstance(work, CoroutineType) else _awaited(work)


async def _threaded(step_id: str, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    result = await _call_in_thread(step_id, function, args)
    return await result if inspect.isawaitable(result) else result


async def _awaited(work: Awaitable[T]) -> T:
    return await work


@coroutine
def _resumed(
    context: Context, work: Coroutine[Any, Any, T], awaited: Any
) -> Generator[Any, Any, T]:
    """Await suspended work in the current task, in another context."""
    try:
        while True:
            try:
                sent = yield awaited
            except BaseException as error:  # noqa: BLE001 - thrown into the work
                awaited = context.run(work.throw, error)
            else:
                awaited = context.run(work.send, sent)
    except StopIteration as end:
        returned: T = end.value
        return returned


def called_by(awaited: object) -> Coroutine[Any, Any, Any] | None:
    """The coroutine behind a suspended `call`, for tools that show where a task waits, or None."""
    if not inspect.isgenerator(awaited) or awaited.gi_code is not _resumed.__code__:
        return None
    work: Coroutine[Any, Any, Any] = inspect.getgeneratorlocals(awaited)["work"]
    return work


async def _call_in_thread(step_id: str, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    # A copy, since a cancelled caller enters its context again while the thread is running.
    work = functools.partial(_outcome, step_id, copy_context(), function, args)
    thread = _ThreadPerCall(f"step {step_id}")
    result, error = await asyncio.get_running_loop().run_in_executor(thread, work)
    if error is not None:
        raise error
    return result


def _outcome(
    step_id: str, context: Context, function: Callable[..., Any], args: tuple[Any, ...]
) -> tuple[Any, BaseException | None]:
    """The result and the error of a function. A future cannot hold every kind of exception."""
    try:
        return context.run(function, *args), None
    except BaseException as error:  # noqa: BLE001 - raised in `_call_in_thread`
        is_plain = has_real_type(error, Exception) and not has_real_type(error, StopIteration)
        return None, error if is_plain or is_abort(error) else _raisable(step_id, error)


class _ThreadPerCall(Executor):
    """Starts a thread for each call.

    In a pool, a hundred runs would queue for a few threads. Python also joins the threads of a pool
    at exit, so a function that never returns would keep the process alive.
    """

    def __init__(self, name: str) -> None:
        self._name = name

    @override
    def submit(self, fn: Callable[P, T], /, *args: P.args, **kwargs: P.kwargs) -> Future[T]:
        future: Future[T] = Future()
        future.set_running_or_notify_cancel()

        def work() -> None:
            future.set_result(fn(*args, **kwargs))

        threading.Thread(target=work, name=self._name, daemon=True).start()
        return future


def _raisable(step_id: str, error: BaseException) -> RuntimeError:
    """A stand-in for an error that would end a task, an iteration or the process."""
    if has_real_type(error, asyncio.CancelledError):
        reason = "was cancelled from within: something else cancelled what it awaits"
    else:
        recorded = error_record(error)
        reason = f"raised {recorded.type}: {recorded.message}"
    wrapped = RuntimeError(f"step {step_id!r} {reason}")
    wrapped.__cause__ = error
    return wrapped
