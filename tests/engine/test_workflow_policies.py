"""Rules of a handler's own, backoff between its tries, and deadlines."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import Any

import pytest

from bluestreak_core import (
    Backoff,
    Bluestreak,
    Context,
    DeadlineExceeded,
    InvalidArgument,
    Retry,
    Status,
    Workflow,
    WorkflowAborted,
)
from bluestreak_core.model import ClaimRequest
from bluestreak_core.testing import Environment, ManualClock, RecordingStore, crash_everywhere
from bluestreak_memory import MemoryStore
from tests.arrange import eventually
from tests.engine.arrange import Fleet

SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)


async def _found(bluestreak: Bluestreak, workflow_id: str) -> Workflow:
    workflow = await bluestreak.find_workflow(workflow_id)
    assert workflow is not None
    return workflow


async def _fail(ctx: Context, input: None) -> None:
    raise ValueError("no such card")


# Overrides ---------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_handlers_own_retries_hold_for_its_workflows_only(fleet: Fleet) -> None:
    bluestreak = await fleet.engine(max_failures=0, wait_retry_interval=0)
    bluestreak.register_handler("often", _fail, max_failures=3)
    bluestreak.register_handler("once", _fail)
    async with fleet.polling(bluestreak):
        for name in ("often", "once"):
            await bluestreak.start(name, name)
            with pytest.raises(WorkflowAborted):
                await bluestreak.wait(name)
    assert (await _found(bluestreak, "often")).failures == 4
    assert (await _found(bluestreak, "once")).failures == 1


@pytest.mark.asyncio
async def test_none_is_unlimited_where_the_engine_has_a_limit(fleet: Fleet) -> None:
    bluestreak = await fleet.engine(max_failures=0, wait_retry_interval=0)
    runs: list[None] = []

    @bluestreak.handler("h", max_failures=None)
    async def handle(ctx: Context, input: None) -> str:
        runs.append(None)
        if len(runs) < 20:
            raise ValueError
        return "done"

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == "done"


@pytest.mark.asyncio
@pytest.mark.parametrize("own", [True, False])
async def test_a_backoff_grows_with_the_failures(
    fleet: Fleet, clock: ManualClock, store: RecordingStore, *, own: bool
) -> None:
    backoff = Backoff(initial=2, factor=3, max_delay=10, jitter=0)
    given: dict[str, Any] = {"wait_retry_interval": backoff}
    none: dict[str, Any] = {}
    bluestreak = await fleet.engine(**(none if own else given))
    bluestreak.register_handler("h", _fail, **(given if own else none))
    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        for number, pause in enumerate((2, 6, 10, 10), start=1):
            await store.until_returned("fail", number)
            workflow = await _found(bluestreak, "w")
            assert workflow.timeout_at == clock.now() + pause * SECOND
            clock.advance(pause * SECOND)


@pytest.mark.asyncio
async def test_a_handlers_own_limit_of_crashes_holds(fleet: Fleet, clock: ManualClock) -> None:
    bluestreak = await fleet.engine()
    bluestreak.register_handler("h", _fail, max_crashes=0)
    await bluestreak.start("w", "h")
    await fleet.store.claim(ClaimRequest(worker="dead", now=clock.now(), lease=SECOND, limit=1))
    clock.advance(SECOND)
    async with fleet.polling(bluestreak):
        with pytest.raises(WorkflowAborted, match="max_crashes is 0"):
            await bluestreak.wait("w")


@pytest.mark.asyncio
async def test_each_workflow_has_the_lease_of_its_handler(
    fleet: Fleet, clock: ManualClock, store: RecordingStore
) -> None:
    go_on = asyncio.Event()
    bluestreak = await fleet.engine(timeout_interval=9)

    async def handle(ctx: Context, input: None) -> None:
        await go_on.wait()

    bluestreak.register_handler("short", handle, timeout_interval=3)
    bluestreak.register_handler("usual", handle)
    bluestreak.register_handler("long", handle, timeout_interval=60)
    async with fleet.polling(bluestreak):
        for name in ("short", "usual", "long"):
            await bluestreak.start(name, name)
        await eventually(lambda: bluestreak.health().runs == 3)
        for name in ("short", "usual", "long"):
            assert (await _found(bluestreak, name)).timeout_at == clock.now() + 3 * SECOND
        await clock.until_sleeping(SECOND)
        clock.advance(SECOND)
        await store.until_returned("renew", 3)
        leases = {"short": 3, "usual": 9, "long": 60}
        renewed_at = clock.now()
        for name, seconds in leases.items():
            assert (await _found(bluestreak, name)).timeout_at == renewed_at + seconds * SECOND
        for tick in range(1, 4):
            await clock.until_sleeping(SECOND)
            clock.advance(SECOND)
            await store.until_returned("renew", 3 + tick)
        assert (await _found(bluestreak, "long")).timeout_at == renewed_at + 60 * SECOND
        assert (await _found(bluestreak, "usual")).timeout_at > renewed_at + 9 * SECOND
        assert bluestreak.health().runs == 3
        go_on.set()
        await eventually(lambda: bluestreak.health().runs == 0)
    for name in leases:
        assert (await _found(bluestreak, name)).claims == 1


@pytest.mark.parametrize(
    ("policy", "named"),
    [
        ({"max_failures": -1}, "max_failures"),
        ({"max_failures": "3"}, "max_failures"),
        ({"max_crashes": 1.5}, "max_crashes"),
        ({"wait_retry_interval": None}, "wait_retry_interval"),
        ({"wait_retry_interval": Backoff}, "wait_retry_interval"),
        ({"wait_retry_interval": Retry(max_attempts=2)}, "wait_retry_interval"),
        ({"timeout_interval": 0}, "timeout_interval"),
        ({"timeout_interval": None}, "timeout_interval"),
        ({"deadline": 0}, "deadline"),
        ({"deadline": "1 day"}, "deadline"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused_by_name(
    policy: dict[str, Any], named: str
) -> None:
    bluestreak = Bluestreak(MemoryStore())
    with pytest.raises(InvalidArgument) as refused:
        bluestreak.register_handler("h", _fail, **policy)
    assert refused.value.name == named
    assert dict(bluestreak.handlers) == {}


# Deadlines ---------------------------------------------------------------------------------------


def test_a_handler_that_is_still_running_at_its_deadline_is_cancelled_and_aborted() -> None:
    told: list[str] = []

    async def handle(ctx: Context, input: None) -> None:
        try:
            await ctx.step("wait", asyncio.sleep, 1000)
        finally:
            told.append("cancelled")

    with Environment() as env:
        env.register_handler("h", handle, deadline=60)
        begin = env.now
        env.start("w", "h")
        outcome = env.wait("w")
        assert outcome.status is Status.ABORTED
        assert env.now == begin + 60 * SECOND
        assert told == ["cancelled"]
        (error,) = outcome.errors
        assert isinstance(error, DeadlineExceeded)
        assert (error.workflow_id, error.deadline_at) == ("w", begin + 60 * SECOND)


@pytest.mark.parametrize("waiting", ["nap", "retry", "failure"])
def test_a_workflow_that_waits_is_aborted_at_its_deadline(waiting: str) -> None:
    calls: list[None] = []

    def fail() -> None:
        calls.append(None)
        raise ConnectionError

    async def handle(ctx: Context, input: None) -> None:
        match waiting:
            case "nap":
                calls.append(None)
                await ctx.sleep("n", 365 * DAY)
            case "retry":
                await ctx.step("s", fail, retry=Retry(initial=365 * DAY, max_delay=365 * DAY))
            case "failure":
                fail()

    with Environment() as env:
        env.register_handler("h", handle, deadline=DAY, wait_retry_interval=365 * DAY)
        begin = env.now
        env.start("w", "h")
        with pytest.raises(WorkflowAborted, match="DeadlineExceeded"):
            env.wait("w").result  # noqa: B018 - it raises
        assert env.now == begin + DAY
    assert len(calls) == 1


def test_a_deadline_counts_from_when_the_workflow_was_to_start() -> None:
    async def handle(ctx: Context, input: None) -> str:
        await ctx.sleep("n", DAY)
        return "in time"

    with Environment() as env:
        env.register_handler("h", handle, deadline=2 * DAY)
        env.start("w", "h", delay=30 * DAY)
        assert env.wait("w").result == "in time"
        env.start("v", "h")
        env.advance(3600)
        env.call(env.bluestreak.pause("v"))
        env.advance(30 * DAY)
        env.call(env.bluestreak.resume("v"))
        assert env.wait("v").status is Status.ABORTED
        env.call(env.bluestreak.retry("v"))
        assert env.wait("v").result == "in time"


def test_a_workflow_in_time_knows_nothing_of_its_deadline() -> None:
    async def handle(ctx: Context, input: None) -> str:
        await ctx.step("s", asyncio.sleep, 5)
        return "done"

    with Environment() as env:
        env.register_handler("h", handle, deadline=60)
        env.start("w", "h")
        assert env.wait("w").result == "done"
        env.advance(DAY)
        assert env.outcome("w").status is Status.FINISHED


def test_settings_of_a_sweep_are_those_of_the_engine() -> None:
    async def handle(ctx: Context, input: None) -> str:
        return await ctx.step("s", lambda: "done")

    assert crash_everywhere(handle, wait_retry_interval=Backoff()).outcome.result == "done"
