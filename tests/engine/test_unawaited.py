"""A call of the context that is not awaited fails its workflow, and Python warns of nothing."""

from __future__ import annotations

import asyncio
import gc
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bluestreak_core import Context, NotAwaited, Status
from bluestreak_core.testing import Environment

Handler = Callable[[Context, None], Awaitable[Any]]


async def _charge(*_: Any) -> None: ...


async def _step(ctx: Context, input: None) -> None:
    ctx.step("charge", _charge)  # type: ignore[unused-coroutine]


async def _transaction(ctx: Context, input: None) -> None:
    ctx.transaction("charge", _charge)  # type: ignore[unused-coroutine]


async def _sleep(ctx: Context, input: None) -> None:
    ctx.sleep("charge", 1)  # type: ignore[unused-coroutine]


async def _among_others(ctx: Context, input: None) -> None:
    for number in range(200):
        await ctx.step(f"before {number}", _charge)
    ctx.step("charge", _charge)  # type: ignore[unused-coroutine]
    async with asyncio.TaskGroup() as group:
        for number in range(200):
            group.create_task(ctx.step(f"after {number}", _charge))


async def _after_a_nap(ctx: Context, input: None) -> None:
    ctx.step("charge", _charge)  # type: ignore[unused-coroutine]
    await ctx.sleep("nap", 3600)


@pytest.mark.parametrize("handler", [_step, _transaction, _sleep, _among_others, _after_a_nap])
def test_what_is_not_awaited_aborts_the_workflow_by_name(handler: Handler) -> None:
    with Environment() as env:
        outcome = env.run(handler)
    verb = handler.__name__[1:] if handler in (_transaction, _sleep) else "step"
    [error] = outcome.errors
    assert isinstance(error, NotAwaited)
    assert error.calls == (f"ctx.{verb}('charge', ...)",)
    assert outcome.status is Status.ABORTED
    assert "charge" not in outcome.calls
    gc.collect()


def test_the_error_of_the_handler_comes_first() -> None:
    async def handle(ctx: Context, input: None) -> None:
        ctx.step("charge", _charge)  # type: ignore[unused-coroutine]
        raise LookupError

    with Environment(max_failures=0) as env:
        outcome = env.run(handle)
        assert [type(error) for error in outcome.errors] == [LookupError]
    gc.collect()


async def _leave_a_task(ctx: Context) -> object:
    return asyncio.create_task(ctx.step("late", _charge))


async def _cancel_a_task_at_once(ctx: Context) -> object:
    task = asyncio.create_task(ctx.step("late", _charge))
    task.cancel()
    return task


async def _close(ctx: Context) -> object:
    ctx.step("late", _charge).close()
    return None


async def _break_off_a_group(ctx: Context) -> object:
    try:
        async with asyncio.TaskGroup() as group:
            group.create_task(ctx.step("late", _charge))
            raise LookupError
    except* LookupError:
        pass
    return None


@pytest.mark.parametrize("use", [_leave_a_task, _cancel_a_task_at_once, _close, _break_off_a_group])
def test_what_was_given_up_on_purpose_is_no_mistake(
    use: Callable[[Context], Awaitable[object]],
) -> None:
    async def handle(ctx: Context, input: None) -> str:
        kept.append(await use(ctx))
        return "fine"

    kept: list[object] = []
    with Environment() as env:
        outcome = env.run(handle)
        assert (outcome.result, outcome.calls) == ("fine", [])
        env.advance(1)
    gc.collect()


LATE: dict[str, Callable[[Context], Any]] = {
    "step": lambda ctx: ctx.step("late", _charge),
    "transaction": lambda ctx: ctx.transaction("late", _charge),
    "nap": lambda ctx: ctx.sleep("late", 1),
    "compensation": lambda ctx: ctx.compensate("late", _charge),
}


@pytest.mark.parametrize("kind", LATE)
def test_a_task_that_outlives_its_handler_is_cancelled_and_named_once(
    kind: str, caplog: pytest.LogCaptureFixture
) -> None:
    async def go_on(ctx: Context) -> None:
        await asyncio.sleep(1)
        for scope in (ctx, ctx, ctx.scope("a"), ctx.scope("b")):
            try:
                await LATE[kind](scope)
            except asyncio.CancelledError:
                ended.append(kind)

    async def handle(ctx: Context, input: None) -> str:
        left_behind.append(asyncio.create_task(go_on(ctx)))
        return "done"

    left_behind: list[asyncio.Task[None]] = []
    ended: list[str] = []
    with Environment() as env:
        assert env.run(handle).result == "done"
        env.advance(5)
        assert env.outcome("workflow").steps == {}
    assert ended == [kind] * 4
    warning = f"workflow 'workflow': {kind} 'late' was called after its handler had ended"
    assert caplog.text.count(warning) == caplog.text.count("late") == 1


def test_a_task_that_outlives_a_run_which_leaves_memory_is_cancelled_without_a_warning(
    caplog: pytest.LogCaptureFixture,
) -> None:
    async def go_on(ctx: Context) -> None:
        try:
            await asyncio.Event().wait()
        finally:
            await ctx.step("late", _charge)

    async def handle(ctx: Context, input: None) -> str:
        async with asyncio.TaskGroup() as group:
            task = group.create_task(go_on(ctx))
            await ctx.sleep("nap", 3600)
            task.cancel()
        return "done"

    with Environment() as env:
        env.register_handler("h", handle)
        env.start("w", "h")
        env.advance(60)
    assert caplog.text == ""
