"""Calling a step's function, wherever it belongs: on the event loop or in a thread."""

from __future__ import annotations

import asyncio
import functools
import inspect
import threading
from collections.abc import Callable, Coroutine, Generator
from concurrent.futures import Executor, Future
from contextvars import Context, copy_context
from types import coroutine
from typing import Any, ParamSpec, TypeVar

from typing_extensions import override

from bluestreak_core.argument import has_real_type, is_async
from bluestreak_core.concurrency import cancellations
from bluestreak_core.errors.group import is_abort
from bluestreak_core.run.failure import error_record

P = ParamSpec("P")
T = TypeVar("T")


async def call(
    step_id: str, function: Callable[..., Any], *args: Any, context: Context | None = None
) -> Any:
    """Call a step's async function on the event loop, any other one in a thread of its own.

    What no `except Exception` would catch is raised as a `RuntimeError`, with the original as its
    cause. That includes a `CancelledError`, unless this call itself is cancelled.

    A thread's function may return an awaitable, as `lambda: send(mail)` does; that is awaited on
    the event loop. A thread cannot be cancelled: when the caller is, its function runs to its end
    and what it returns is dropped.

    The context variables are those of `context`, by default a copy of the caller's. What the
    function sets in them does not reach the caller, whom a replay would not give it.
    """
    before = cancellations()
    if context is None:
        context = copy_context()
    try:
        return await _within(context, _called(step_id, function, args))
    except (Exception, KeyboardInterrupt, GeneratorExit):
        raise
    except BaseException as error:
        is_ours = has_real_type(error, asyncio.CancelledError) and cancellations() > before
        if is_ours or is_abort(error):
            raise
        raise _raisable(step_id, error) from error


async def _called(step_id: str, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    if is_async(function):
        return await function(*args)
    result = await _call_in_thread(step_id, function, args)
    return await result if inspect.isawaitable(result) else result


@coroutine
def _within(context: Context, work: Coroutine[Any, Any, T]) -> Generator[Any, Any, T]:
    """Await work in the current task, but with the variables of another context."""
    try:
        awaited = context.run(work.send, None)
        while True:
            try:
                sent = yield awaited
            except BaseException as error:  # noqa: BLE001 - raised where the work is waiting
                awaited = context.run(work.throw, error)
            else:
                awaited = context.run(work.send, sent)
    except StopIteration as end:
        returned: T = end.value
        return returned


def called_by(awaited: object) -> Coroutine[Any, Any, Any] | None:
    """What a suspended call of a function waits for, so that it can be looked into; else None."""
    if not inspect.isgenerator(awaited) or awaited.gi_code is not _within.__code__:
        return None
    work: Coroutine[Any, Any, Any] = inspect.getgeneratorlocals(awaited)["work"]
    return work


async def _call_in_thread(step_id: str, function: Callable[..., Any], args: tuple[Any, ...]) -> Any:
    # A copy: this context is entered again while the thread runs, if the caller is cancelled.
    work = functools.partial(_outcome, step_id, copy_context(), function, args)
    thread = _ThreadPerCall(f"step {step_id}")
    result, error = await asyncio.get_running_loop().run_in_executor(thread, work)
    if error is not None:
        raise error
    return result


def _outcome(
    step_id: str, context: Context, function: Callable[..., Any], args: tuple[Any, ...]
) -> tuple[Any, BaseException | None]:
    """What a function returns and what it raises. A future would not hold every exception."""
    try:
        return context.run(function, *args), None
    except BaseException as error:  # noqa: BLE001 - raised where the thread is awaited
        is_plain = has_real_type(error, Exception) and not has_real_type(error, StopIteration)
        return None, error if is_plain or is_abort(error) else _raisable(step_id, error)


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
            future.set_result(fn(*args, **kwargs))

        threading.Thread(target=work, name=self._name, daemon=True).start()
        return future


def _raisable(step_id: str, error: BaseException) -> RuntimeError:
    """What stands for an error that would end a task, an iteration or the process."""
    if has_real_type(error, asyncio.CancelledError):
        reason = "was cancelled from within: what it awaits was cancelled by something else"
    else:
        recorded = error_record(error)
        reason = f"raised {recorded.type}: {recorded.message}"
    wrapped = RuntimeError(f"step {step_id!r} {reason}")
    wrapped.__cause__ = error
    return wrapped
