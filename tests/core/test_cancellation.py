from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest

from bluestreak_core.concurrency import (
    cancel_once,
    end_all,
    finish_despite_cancel,
    first_of,
    wait_ended,
)


@pytest.mark.asyncio
async def test_work_goes_on_when_its_caller_is_cancelled() -> None:
    gate, done = asyncio.Event(), []

    async def work() -> None:
        await gate.wait()
        done.append(True)

    caller = asyncio.create_task(finish_despite_cancel(work()))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.sleep(0)
    assert not caller.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert done == [True]


@pytest.mark.asyncio
async def test_the_callers_cancellation_reaches_the_work() -> None:
    gate = asyncio.Event()
    caller = asyncio.create_task(finish_despite_cancel(gate.wait(), on_cancel=gate.set))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError):
        await caller


@pytest.mark.asyncio
async def test_an_error_of_the_work_is_the_cause_of_the_cancellation() -> None:
    gate = asyncio.Event()

    async def work() -> None:
        await gate.wait()
        raise ValueError("of the work")

    caller = asyncio.create_task(finish_despite_cancel(work(), on_cancel=gate.set))
    await asyncio.sleep(0)
    caller.cancel()
    with pytest.raises(asyncio.CancelledError) as cancelled:
        await caller
    assert isinstance(cancelled.value.__cause__, ValueError)


@pytest.mark.asyncio
async def test_without_a_cancellation_the_outcome_is_the_works() -> None:
    async def work() -> int:
        return 1

    async def failing() -> int:
        raise ValueError("of the work")

    assert await finish_despite_cancel(work()) == 1
    with pytest.raises(ValueError, match="of the work"):
        await finish_despite_cancel(failing())


@pytest.mark.asyncio
async def test_who_waits_for_an_end_may_be_cancelled_without_the_task() -> None:
    gate = asyncio.Event()
    task = asyncio.create_task(gate.wait())
    waiting = asyncio.create_task(wait_ended(task))
    await asyncio.sleep(0)
    waiting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting
    assert not task.done()
    assert not task.cancelling()
    gate.set()
    assert await task


@pytest.mark.asyncio
async def test_an_end_is_an_end_whether_by_an_error_or_by_a_cancellation() -> None:
    async def failing() -> None:
        raise ValueError

    for task in (asyncio.create_task(failing()), asyncio.create_task(asyncio.sleep(3600))):
        waiting = asyncio.create_task(wait_ended(task))
        await asyncio.sleep(0)
        task.cancel()
        await waiting
        assert task.done()
        await wait_ended(task)
        assert task.cancelled() or task.exception() is not None


class Dying:
    """Takes a while to end once it is cancelled, and counts how often it is."""

    def __init__(self) -> None:
        self.begun = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.may_end = asyncio.Event()
        self.cancellations = 0

    async def __call__(self) -> None:
        self.begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            while not self.may_end.is_set():
                try:
                    self.cancellations += 1
                    self.cancelled.set()
                    await self.may_end.wait()
                except asyncio.CancelledError:
                    continue


@pytest.mark.asyncio
async def test_a_task_that_is_cancelled_already_is_not_cancelled_again() -> None:
    dying = Dying()
    task = asyncio.create_task(dying())
    await dying.begun.wait()
    for _ in range(3):
        cancel_once(task)
        await asyncio.sleep(0)
    assert dying.cancellations == 1
    dying.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def _end_all(dying: Dying) -> None:
    task = asyncio.create_task(dying())
    await dying.begun.wait()
    await end_all([task])


async def _first_of(dying: Dying) -> None:
    await first_of(dying(), dying.begun.wait())


@pytest.mark.asyncio
@pytest.mark.parametrize("ending", [_end_all, _first_of])
async def test_what_is_being_ended_is_cancelled_once_however_often_the_caller_is(
    ending: Callable[[Dying], Awaitable[None]],
) -> None:
    dying = Dying()
    caller = asyncio.ensure_future(ending(dying))
    await dying.cancelled.wait()
    for _ in range(3):
        caller.cancel()
        for _ in range(5):
            await asyncio.sleep(0)
    assert not caller.done()
    assert dying.cancellations == 1
    dying.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
