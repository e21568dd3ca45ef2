from __future__ import annotations

import asyncio

import pytest

from bluestreak_core.cancellation import ended, see_through


@pytest.mark.asyncio
async def test_work_goes_on_when_its_caller_is_cancelled() -> None:
    gate, done = asyncio.Event(), []

    async def work() -> None:
        await gate.wait()
        done.append(True)

    caller = asyncio.create_task(see_through(work()))
    await asyncio.sleep(0)
    caller.cancel()
    await asyncio.sleep(0)
    assert not caller.done()
    gate.set()
    with pytest.raises(asyncio.CancelledError):
        await caller
    assert done == [True]


@pytest.mark.asyncio
async def test_the_callers_cancellation_is_told_to_the_work() -> None:
    gate = asyncio.Event()
    caller = asyncio.create_task(see_through(gate.wait(), on_cancel=gate.set))
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

    caller = asyncio.create_task(see_through(work(), on_cancel=gate.set))
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

    assert await see_through(work()) == 1
    with pytest.raises(ValueError, match="of the work"):
        await see_through(failing())


@pytest.mark.asyncio
async def test_who_waits_for_an_end_may_be_cancelled_without_the_task() -> None:
    gate = asyncio.Event()
    task = asyncio.create_task(gate.wait())
    waiting = asyncio.create_task(ended(task))
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
        waiting = asyncio.create_task(ended(task))
        await asyncio.sleep(0)
        task.cancel()
        await waiting
        assert task.done()
        await ended(task)
        assert task.cancelled() or task.exception() is not None
