from __future__ import annotations

import asyncio
import contextvars
import functools
import sys
import threading
from concurrent.futures import CancelledError as FutureCancelled
from concurrent.futures import Future
from typing import Any

import pytest

from bluestreak_core.run.call import call
from bluestreak_core.run.within import WITHIN, Within

S: Within = (None, "step", "s")

VARIABLE: contextvars.ContextVar[str] = contextvars.ContextVar("VARIABLE")


async def _where(*args: Any) -> tuple[threading.Thread, tuple[Any, ...]]:
    return threading.current_thread(), args


def _where_sync(*args: Any) -> tuple[threading.Thread, tuple[Any, ...]]:
    return threading.current_thread(), args


async def _get_async() -> str:
    await asyncio.sleep(0)
    return VARIABLE.get()


async def _get_within() -> Within | None:
    await asyncio.sleep(0)
    return WITHIN.get()


class AsyncCallable:
    async def __call__(self, *args: Any) -> tuple[threading.Thread, tuple[Any, ...]]:
        return await _where(*args)


@pytest.mark.asyncio
@pytest.mark.parametrize(
    "function", [_where, functools.partial(_where), AsyncCallable()], ids=["def", "partial", "call"]
)
async def test_an_async_function_is_called_on_the_event_loop(function: Any) -> None:
    assert await call(S, function, 1, 2) == (threading.current_thread(), (1, 2))


@pytest.mark.asyncio
async def test_a_sync_function_is_called_in_a_thread_of_its_own() -> None:
    (first, args), (second, _) = await asyncio.gather(
        call((None, "step", "a"), _where_sync, 1, 2), call((None, "step", "b"), _where_sync)
    )
    assert args == (1, 2)
    assert len({first, second, threading.current_thread()}) == 3
    assert first.name == "step a"


@pytest.mark.asyncio
async def test_what_a_lambda_returns_is_awaited_on_the_event_loop() -> None:
    assert await call(S, lambda: _where(1)) == (threading.current_thread(), (1,))


@pytest.mark.asyncio
async def test_a_thread_sees_the_context_variables_of_its_caller() -> None:
    VARIABLE.set("caller's")
    assert await call(S, VARIABLE.get) == "caller's"


@pytest.mark.asyncio
@pytest.mark.parametrize("function", [WITHIN.get, _get_within])
async def test_a_function_can_be_recognised_as_called(function: Any) -> None:
    assert await call(S, function) == S
    assert WITHIN.get() is None


@pytest.mark.asyncio
async def test_what_a_thread_raises_is_raised_to_the_caller() -> None:
    def fail() -> None:
        raise LookupError("in a thread")

    with pytest.raises(LookupError, match="in a thread"):
        await call(S, fail)


@pytest.mark.asyncio
async def test_a_stop_iteration_is_raised_as_a_runtime_error() -> None:
    with pytest.raises(RuntimeError, match="StopIteration") as raised:
        await call(S, functools.partial(next, iter([])))
    assert isinstance(raised.value.__cause__, StopIteration)


@pytest.mark.asyncio
async def test_an_exit_is_raised_as_a_runtime_error_wherever_it_was_asked_for() -> None:
    async def leave() -> None:
        raise SystemExit(3)

    for function in (leave, sys.exit, lambda: leave()):  # noqa: PLW0108 - a thread calls it
        with pytest.raises(RuntimeError, match="SystemExit") as raised:
            await call(S, function)
        assert isinstance(raised.value.__cause__, SystemExit)


@pytest.mark.asyncio
async def test_what_is_raised_in_a_thread_and_cannot_be_printed_is_raised_all_the_same() -> None:
    class Unprintable(BaseException):
        def __str__(self) -> str:
            raise LookupError("no text")

    def fail() -> None:
        raise Unprintable

    with pytest.raises(RuntimeError, match=r"step 's' raised .*Unprintable: \(cannot") as raised:
        await call(S, fail)
    assert isinstance(raised.value.__cause__, Unprintable)


@pytest.mark.asyncio
async def test_a_thread_that_asks_for_a_cancelled_future_raises_what_that_raises() -> None:
    def ask() -> None:
        future: Future[None] = Future()
        future.cancel()
        future.result()

    with pytest.raises(FutureCancelled):
        await call(S, ask)


@pytest.mark.asyncio
async def test_what_a_function_sets_in_a_context_variable_stays_there() -> None:
    VARIABLE.set("caller's")

    async def change() -> str:
        VARIABLE.set("function's")
        await asyncio.sleep(0)
        return VARIABLE.get()

    assert await call(S, change) == "function's"
    assert await call(S, VARIABLE.set, "thread's")
    assert VARIABLE.get() == "caller's"


@pytest.mark.asyncio
@pytest.mark.parametrize("function", [VARIABLE.get, _get_async], ids=["thread", "event loop"])
async def test_a_function_can_be_called_in_another_context(function: Any) -> None:
    VARIABLE.set("earlier")
    context = contextvars.copy_context()
    VARIABLE.set("later")
    assert await call(S, function, context=context) == "earlier"


@pytest.mark.asyncio
async def test_a_context_that_is_empty_is_a_context() -> None:
    VARIABLE.set("caller's")
    with pytest.raises(LookupError):
        await call(S, VARIABLE.get, context=contextvars.Context())


@pytest.mark.asyncio
async def test_a_function_sees_its_own_cancellation_and_may_go_on() -> None:
    async def swallow() -> str:
        begun.set()
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            await asyncio.sleep(0)
        return "went on"

    begun = asyncio.Event()
    caller = asyncio.create_task(call(S, swallow))
    await begun.wait()
    caller.cancel()
    assert await caller == "went on"


@pytest.mark.asyncio
async def test_what_a_thread_returns_to_a_cancelled_caller_is_dropped() -> None:
    begun, go_on, ended = threading.Event(), threading.Event(), threading.Event()

    def work() -> None:
        begun.set()
        go_on.wait()
        ended.set()

    caller = asyncio.create_task(call(S, work))
    await asyncio.to_thread(begun.wait)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller
    go_on.set()
    await asyncio.to_thread(ended.wait)


def test_a_thread_that_outlives_its_event_loop_ends_quietly() -> None:
    begun, go_on = threading.Event(), threading.Event()
    threads: list[threading.Thread] = []

    def work() -> None:
        threads.append(threading.current_thread())
        begun.set()
        go_on.wait()

    async def main() -> None:
        caller = asyncio.create_task(call(S, work))
        await asyncio.to_thread(begun.wait)
        caller.cancel()

    asyncio.run(main())
    go_on.set()
    threads[0].join()
