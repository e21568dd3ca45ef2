"""A `CancelledError` that nobody meant for the workflow is an error like any other."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from bluestreak_core import Context, Retry, StepFailed, WorkflowAborted
from bluestreak_core.testing import ManualClock
from tests.arrange import eventually, pass_time
from tests.engine.arrange import Fleet

pytestmark = pytest.mark.asyncio

FROM_WITHIN = "step 's' was cancelled from within"


async def _await_a_cancelled_task(*_: Any) -> None:
    task = asyncio.create_task(asyncio.Event().wait())
    task.cancel()
    await task


def _be_cancelled_in_a_thread() -> None:
    raise asyncio.CancelledError


async def _in_group(ctx: Context, fn: Callable[[], Any]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.step("s", fn))


async def _in_gather(ctx: Context, fn: Callable[[], Any]) -> None:
    await asyncio.gather(ctx.step("s", fn))


async def _in_transaction(ctx: Context, _: Callable[[], Any]) -> None:
    await ctx.transaction("s", _await_a_cancelled_task)


async def _in_a_transaction_of_a_group(ctx: Context, _: Callable[[], Any]) -> None:
    async with asyncio.TaskGroup() as group:
        group.create_task(ctx.transaction("s", _await_a_cancelled_task))


async def _plainly(ctx: Context, fn: Callable[[], Any]) -> None:
    await ctx.step("s", fn)


async def _with_timeout(ctx: Context, fn: Callable[[], Any]) -> None:
    await ctx.step("s", fn, timeout=60)


@pytest.mark.parametrize("fn", [_await_a_cancelled_task, _be_cancelled_in_a_thread])
@pytest.mark.parametrize(
    "use",
    [
        _plainly,
        _with_timeout,
        _in_group,
        _in_gather,
        _in_transaction,
        _in_a_transaction_of_a_group,
    ],
)
async def test_a_step_that_was_cancelled_from_within_fails_its_workflow(
    fleet: Fleet, use: Callable[[Context, Any], Awaitable[None]], fn: Callable[[], Any]
) -> None:
    bluestreak = await fleet.engine(max_failures=0)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await use(ctx, fn)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted) as aborted:
            await bluestreak.wait("w")
    assert FROM_WITHIN in aborted.value.error_traceback
    assert await bluestreak.find_step("w", "s") is None


async def test_a_handler_can_catch_that_a_step_was_cancelled_from_within(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> Any:
        try:
            await ctx.step("s", _await_a_cancelled_task)
        except RuntimeError as error:
            return [str(error), type(error.__cause__).__name__]

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        message, cause = await bluestreak.wait("w")
    assert message.startswith(FROM_WITHIN)
    assert cause == "CancelledError"


@pytest.mark.parametrize(
    "error", [asyncio.CancelledError(), BaseExceptionGroup("all", [asyncio.CancelledError()])]
)
async def test_an_attempt_that_was_cancelled_from_within_has_failed(
    fleet: Fleet, error: BaseException
) -> None:
    bluestreak = await fleet.engine()

    async def fail() -> None:
        raise error

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        try:
            await ctx.step("s", fail, retry=Retry(max_attempts=1))
        except StepFailed as failed:
            return failed.error_type
        return "none"

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == "RuntimeError"


async def test_a_branch_that_the_handler_cancels_has_not_failed(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()

    async def endless() -> None:
        begun.set()
        await asyncio.Event().wait()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        branch = asyncio.create_task(ctx.step("s", endless))
        await begun.wait()
        branch.cancel()
        await asyncio.wait([branch])
        return "cancelled" if branch.cancelled() else "failed"

    begun = asyncio.Event()
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == "cancelled"


async def test_a_handler_that_was_cancelled_from_within_has_failed(fleet: Fleet) -> None:
    heard: list[Any] = []
    bluestreak = await fleet.engine(
        max_failures=0, error_callback=lambda _, error: heard.append(error)
    )

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await _await_a_cancelled_task()

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match="RuntimeError: the handler was cancelled from"):
            await bluestreak.wait("w")
    assert type(heard[0].__cause__) is asyncio.CancelledError


async def test_an_error_callback_that_was_cancelled_from_within_is_logged(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    bluestreak = await fleet.engine(max_failures=0, error_callback=_await_a_cancelled_task)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        raise LookupError

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted):
            await bluestreak.wait("w")
        await eventually(lambda: "error_callback raised" in caplog.text)


async def test_a_compensation_that_was_cancelled_from_within_is_a_failed_attempt(
    fleet: Fleet, clock: ManualClock, caplog: pytest.LogCaptureFixture
) -> None:
    bluestreak, undone = await fleet.engine(timeout_interval=3600), asyncio.Event()

    async def undo() -> None:
        undone.set()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.compensate("undo", undo)
        await ctx.compensate("s", _await_a_cancelled_task, retry=Retry(max_attempts=1))
        await bluestreak.cancel("w")
        await asyncio.Event().wait()

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await pass_time(clock, undone.is_set)
    assert FROM_WITHIN in caplog.text
