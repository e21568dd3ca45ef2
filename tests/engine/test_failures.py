"""Retries, aborts, crashes, and the error callback."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from bluestreak_core import (
    Bluestreak,
    Context,
    InvalidArgument,
    Status,
    WaitTimeout,
    WorkflowAborted,
    WorkflowCrashed,
    WorkflowNotFound,
)
from bluestreak_core.model import ClaimRequest
from bluestreak_core.testing import ManualClock, RecordingStore
from tests.arrange import eventually
from tests.engine.arrange import Fleet

pytestmark = pytest.mark.asyncio

SECOND = timedelta(seconds=1)


async def _failing(fleet: Fleet, calls: list[int], **options: Any) -> Bluestreak:
    bluestreak = await fleet.engine(**options)

    @bluestreak.handler("fail")
    async def fail(ctx: Context, input: None) -> None:
        calls.append(len(calls))
        raise LookupError(f"call {len(calls)}")

    return bluestreak


async def test_three_retries_are_four_calls(fleet: Fleet) -> None:
    calls: list[int] = []
    bluestreak = await _failing(fleet, calls, max_failures=3, wait_retry_interval=0)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "fail")
        with pytest.raises(WorkflowAborted, match="LookupError: call 4") as aborted:
            await bluestreak.wait("w")
    workflow = await bluestreak.find_workflow("w")
    assert len(calls) == 4
    assert workflow is not None
    assert workflow.error is not None
    assert (workflow.status, workflow.failures) == (Status.ABORTED, 4)
    assert workflow.error.message == aborted.value.error_message == "call 4"


async def test_without_a_limit_a_workflow_is_tried_for_ever(fleet: Fleet) -> None:
    calls: list[int] = []
    async with fleet.polling(await _failing(fleet, calls, wait_retry_interval=0)) as bluestreak:
        await bluestreak.start("w", "fail")
        await fleet.store.until_returned("fail", 30)
    workflow = await bluestreak.find_workflow("w")
    assert workflow is not None
    assert workflow.failures >= 30
    assert not workflow.status.ended


async def test_a_retry_waits_for_its_instant(
    fleet: Fleet, clock: ManualClock, store: RecordingStore
) -> None:
    calls: list[int] = []
    async with fleet.polling(await _failing(fleet, calls, wait_retry_interval=3)) as bluestreak:
        await bluestreak.start("w", "fail")
        await store.until_returned("fail")
        workflow = await bluestreak.find_workflow("w")
        assert workflow is not None
        assert (workflow.status, workflow.timeout_at) == (Status.FAILED, clock.now() + 3 * SECOND)
        await clock.until_sleeping(3 * SECOND)
        clock.advance(3 * SECOND)
        await store.until_returned("fail", 2)
    assert len(calls) == 2


async def test_a_workflow_that_recovers_finishes(fleet: Fleet) -> None:
    bluestreak = await fleet.engine(max_failures=1, wait_retry_interval=0)
    calls: list[int] = []

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> int:
        calls.append(1)
        if len(calls) == 1:
            raise ValueError
        return len(calls)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == 2


async def test_a_sync_error_callback_hears_of_each_failure(fleet: Fleet) -> None:
    heard: list[tuple[str, str]] = []
    bluestreak = await _failing(
        fleet,
        [],
        max_failures=1,
        wait_retry_interval=0,
        error_callback=lambda workflow_id, error: heard.append((workflow_id, str(error))),
    )
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "fail")
        with pytest.raises(WorkflowAborted):
            await bluestreak.wait("w")
    assert heard == [("w", "call 1"), ("w", "call 2")]


async def test_an_async_error_callback_is_awaited_after_the_record(fleet: Fleet) -> None:
    heard: list[Any] = []

    async def hear(workflow_id: str, error: BaseException) -> None:
        heard.append((await bluestreak.find_workflow(workflow_id), error))

    bluestreak = await _failing(fleet, [], max_failures=0, error_callback=hear)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "fail")
        with pytest.raises(WorkflowAborted):
            await bluestreak.wait("w")
        await eventually(lambda: len(heard) == 1)  # stopping would cancel the callback
    ((workflow, error),) = heard
    assert workflow.status is Status.ABORTED
    assert isinstance(error, LookupError)


async def _raise(workflow_id: str, error: BaseException) -> None:
    raise RuntimeError("async callback")


def _raise_sync(workflow_id: str, error: BaseException) -> None:
    raise RuntimeError("sync callback")


@pytest.mark.parametrize("callback", [_raise, _raise_sync])
async def test_a_failing_error_callback_changes_nothing(
    fleet: Fleet, callback: Any, caplog: pytest.LogCaptureFixture
) -> None:
    calls: list[int] = []
    bluestreak = await _failing(
        fleet, calls, max_failures=2, wait_retry_interval=0, error_callback=callback
    )
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "fail")
        with pytest.raises(WorkflowAborted, match="call 3"):
            await bluestreak.wait("w")
    assert caplog.text.count("error_callback raised") == 3


async def test_a_handler_that_cancels_itself_has_failed(fleet: Fleet) -> None:
    bluestreak = await fleet.engine(max_failures=0)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        raise asyncio.CancelledError

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match="cancelled from within"):
            await bluestreak.wait("w")


async def test_a_handler_may_raise_what_is_no_exception(fleet: Fleet) -> None:
    class Odd(BaseException):
        pass

    bluestreak = await fleet.engine(max_failures=0)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        raise Odd("odd")

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match="Odd: odd"):
            await bluestreak.wait("w")


async def test_an_error_callback_that_hangs_does_not_keep_a_worker(
    fleet: Fleet, store: RecordingStore
) -> None:
    async def hang(workflow_id: str, error: BaseException) -> None:
        await asyncio.Event().wait()

    bluestreak = await _failing(fleet, [], max_failures=0, error_callback=hang)
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "fail")
        await store.until_returned("fail")
    workflow = await bluestreak.find_workflow("w")
    assert workflow is not None
    assert workflow.status is Status.ABORTED


async def _crash(fleet: Fleet, clock: ManualClock, times: int) -> None:
    """Claim as a worker that dies would, some times in a row."""
    for _ in range(times):
        (claim,) = await fleet.store.claim(
            ClaimRequest(worker="mortal", now=clock.now(), lease=SECOND, limit=1)
        )
        assert claim.workflow_id == "w"
        clock.advance(SECOND)


async def test_a_crash_loop_ends(fleet: Fleet, clock: ManualClock) -> None:
    heard: list[BaseException] = []
    calls: list[int] = []
    bluestreak = await _failing(
        fleet, calls, max_crashes=2, error_callback=lambda _, error: heard.append(error)
    )
    await bluestreak.start("w", "fail")
    await _crash(fleet, clock, times=3)
    async with fleet.polling(bluestreak):
        with pytest.raises(WorkflowAborted, match="3 leases in a row expired"):
            await bluestreak.wait("w")
    assert calls == []
    assert isinstance(heard[0], WorkflowCrashed)
    assert (heard[0].crashes, heard[0].max_crashes) == (3, 2)


@pytest.mark.parametrize("max_crashes", [3, None])
async def test_a_workflow_may_crash_up_to_the_limit(
    fleet: Fleet, clock: ManualClock, max_crashes: int | None
) -> None:
    bluestreak = await fleet.engine(max_crashes=max_crashes)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        return "alive"

    await bluestreak.start("w", "h")
    await _crash(fleet, clock, times=3)
    async with fleet.polling(bluestreak):
        assert await bluestreak.wait("w") == "alive"


async def test_waiting_for_what_does_not_exist_says_so(fleet: Fleet) -> None:
    bluestreak = await fleet.engine()
    with pytest.raises(WorkflowNotFound, match="workflow 'w' does not exist"):
        await bluestreak.wait("w")


async def test_waiting_ends_after_its_retries(
    fleet: Fleet, clock: ManualClock, store: RecordingStore
) -> None:
    bluestreak = await fleet.engine()
    await bluestreak.start("w", "h")
    waiting = asyncio.create_task(bluestreak.wait("w", retries=3, pause_interval=2))
    for _ in range(2):
        await clock.until_sleeping(2 * SECOND)
        clock.advance(2 * SECOND)
    with pytest.raises(WaitTimeout, match="workflow 'w' was still 'idle' after 3 checks"):
        await waiting
    assert store.begun["find_standing"] >= 3  # hints may add some


async def test_waiting_ends_after_its_timeout(fleet: Fleet, clock: ManualClock) -> None:
    bluestreak = await fleet.engine()
    await bluestreak.start("w", "h")
    waiting = asyncio.create_task(bluestreak.wait("w", timeout=2))
    await clock.until_sleeping(2 * SECOND)
    clock.advance(2 * SECOND)
    with pytest.raises(WaitTimeout, match="workflow 'w' was still 'idle' after 2 s") as raised:
        await waiting
    error = raised.value
    assert (error.timeout, error.retries) == (2 * SECOND, None)


async def test_waiting_without_patience_is_one_look(fleet: Fleet, store: RecordingStore) -> None:
    bluestreak = await fleet.engine()
    await bluestreak.start("w", "h")
    with pytest.raises(WaitTimeout, match="workflow 'w' was still 'idle' after 0 s"):
        await bluestreak.wait("w", timeout=0)
    with pytest.raises(WaitTimeout, match=r"workflow 'w' was still 'idle' after 1 check$"):
        await bluestreak.wait("w", retries=1)
    assert store.begun["find_standing"] == 2


@pytest.mark.parametrize("other", ["retries", "pause_interval"])
async def test_a_timeout_and_the_older_way_to_wait_exclude_each_other(
    fleet: Fleet, store: RecordingStore, other: str
) -> None:
    bluestreak = await fleet.engine()
    with pytest.raises(InvalidArgument, match=f"^timeout 1: expected either this or {other}"):
        await bluestreak.wait("w", timeout=1, **{other: 1})
    assert store.begun["find_standing"] == 0


async def test_waiting_notices_an_abort_at_once(fleet: Fleet, clock: ManualClock) -> None:
    start = clock.now()
    async with fleet.polling(await _failing(fleet, [], max_failures=0)) as bluestreak:
        await bluestreak.start("w", "fail")
        with pytest.raises(WorkflowAborted):
            await bluestreak.wait("w", retries=2, pause_interval=3600)
    assert clock.now() == start


class _Unshowable(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no")

    __repr__ = __str__


@pytest.mark.asyncio
async def test_a_failure_is_logged_in_one_line_whatever_it_is(
    fleet: Fleet, caplog: pytest.LogCaptureFixture
) -> None:
    bluestreak = await fleet.engine(max_failures=0)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: bool) -> None:
        raise _Unshowable if input else ValueError("no\nworkflow 'x' failed, aborted: forged")

    async with fleet.polling(bluestreak):
        for workflow_id, unshowable in {"w1": True, "w2": False}.items():
            await bluestreak.start(workflow_id, "h", unshowable)
            with pytest.raises(WorkflowAborted):
                await bluestreak.wait(workflow_id)
    shown, forger = caplog.messages
    name = "tests.engine.test_failures._Unshowable"
    assert shown == f"workflow 'w1' failed, aborted: {name}: (cannot be shown: RuntimeError)"
    assert forger.splitlines() == [forger]
