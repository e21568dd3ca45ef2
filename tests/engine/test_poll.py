"""A check that is made again and again until it has a result."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from bluestreak_core import (
    Backoff,
    Context,
    Done,
    InvalidArgument,
    InvalidDuration,
    PollTimeout,
    Retry,
    Status,
    WorkflowAborted,
)
from bluestreak_core.testing import Environment, RecordingStore
from tests.engine.arrange import DAY, Fleet

HOUR = timedelta(hours=1)


class Job:
    """Is done at a certain check."""

    def __init__(self, done_at: int) -> None:
        self.states: list[Any] = []
        self._done_at = done_at

    async def check(self, state: int | None, name: str = "job") -> Done[str] | int:
        self.states.append(state)
        if len(self.states) == self._done_at:
            return Done(f"{name} done")
        return (state or 0) + 10


@pytest.mark.asyncio
async def test_a_poll_is_parked_between_its_checks_and_each_is_recorded(
    fleet: Fleet, store: RecordingStore
) -> None:
    job = Job(done_at=3)

    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.poll("shipped", job.check, "parcel", every=DAY)

    async with fleet.polling(await fleet.parking(handle)) as bluestreak:
        await bluestreak.start("w", "h")
        for number in (1, 2):
            await store.until_returned("park", number)
            fleet.clock.advance(DAY)
        assert await bluestreak.wait("w") == "parcel done"
        step = await bluestreak.find_step("w", "shipped/2")
        done = await bluestreak.find_step("w", "shipped")
    assert step is not None
    assert done is not None
    assert (step.output, done.output) == (20, "parcel done")
    assert job.states == [None, 10, 20]


def test_a_done_poll_returns_its_record_alone() -> None:
    async def handle(ctx: Context, input: None) -> Any:
        value = await ctx.poll("p", job.check, every=60, state=5)
        await ctx.sleep("replay", DAY)
        return value

    job = Job(done_at=2)
    with Environment() as env:
        outcome = env.run(handle)
    assert outcome.result == "job done"
    assert outcome.steps == {"p/1": 15, "p": "job done"}
    assert job.states == [5, 15]


@pytest.mark.parametrize(
    ("every", "seconds"),
    [
        (60, 180),
        (timedelta(minutes=1), 180),
        (Backoff(initial=60, factor=2, jitter=0, max_delay=DAY), 420),
    ],
)
def test_pauses_are_spans_or_grow(every: Any, seconds: int) -> None:
    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.poll("p", job.check, every=every)

    job = Job(done_at=4)
    with Environment() as env:
        start = env.now
        env.run(handle)
        assert (env.now - start).total_seconds() == seconds


def test_a_poll_that_has_no_result_in_time_raises_at_the_end_and_in_each_later_run() -> None:
    async def handle(ctx: Context, input: None) -> list[Any]:
        try:
            await ctx.poll("p", job.check, every=40, timeout=100)
        except PollTimeout as late:
            seen.append((env.now - start).total_seconds())
            await ctx.step("fall back", str)
            await ctx.sleep("replay", DAY)
            return [late.workflow_id, late.step_id, late.attempts, isinstance(late, TimeoutError)]
        raise AssertionError

    job = Job(done_at=99)
    seen: list[float] = []
    with Environment() as env:
        start = env.now
        outcome = env.run(handle)
    assert outcome.result == ["workflow", "p", 3, True]
    assert seen == [100, 100 + DAY.total_seconds()]
    assert job.states == [None, 10, 20]
    assert outcome.calls == ["p/1", "p/2", "p/3", "fall back"]


def test_a_check_at_the_very_end_is_in_time() -> None:
    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.poll("p", job.check, every=50, timeout=100)

    job = Job(done_at=3)
    with Environment() as env:
        assert env.run(handle).result == "job done"


def test_a_timeout_that_nobody_catches_aborts_the_workflow() -> None:
    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.poll("p", Job(done_at=99).check, every=HOUR, timeout=DAY)

    with Environment() as env:
        outcome = env.run(handle)
    assert (outcome.status, outcome.workflow.failures) == (Status.ABORTED, 1)
    assert isinstance(outcome.errors[0], PollTimeout)
    assert str(outcome.errors[0]) == (
        "workflow 'workflow': poll 'p' had no result in time, after 25 checks"
    )


def test_what_a_check_raises_is_raised_or_retried() -> None:
    async def check(state: None) -> Done[int] | None:
        calls.append(None)
        if len(calls) < 3:
            raise ConnectionError("no")
        return Done(len(calls))

    async def bare(ctx: Context, input: None) -> Any:
        try:
            return await ctx.poll("p", check, every=60)
        except ConnectionError as error:
            return str(error)

    async def retried(ctx: Context, input: None) -> Any:
        return await ctx.poll("p", check, every=60, retry=Retry())

    for handler, result in ((bare, "no"), (retried, 3)):
        calls: list[None] = []
        with Environment() as env:
            assert env.run(handler).result == result


def test_a_poll_takes_its_id_as_a_step_and_as_a_nap() -> None:
    async def beside_a_nap(ctx: Context, input: None) -> None:
        await ctx.poll("p", Job(done_at=1).check, every=60)
        await ctx.sleep("p", 1)

    async def beside_a_step(ctx: Context, input: None) -> None:
        await ctx.step("p/1", str)
        await ctx.poll("p", Job(done_at=1).check, every=60)

    with Environment() as env:
        assert "DuplicateNap" in repr(env.run(beside_a_nap, workflow_id="a").errors[0])
        assert "DuplicateStep" in repr(env.run(beside_a_step, workflow_id="b").errors[0])


def test_a_function_that_is_not_async_checks_in_a_thread() -> None:
    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.poll("p", lambda state: Done(7) if state else True, every=60)

    with Environment() as env:
        assert env.run(handle).result == 7


@pytest.mark.parametrize(
    ("options", "error", "match"),
    [
        ({"every": 0}, InvalidDuration, "every of poll 'p' 0"),
        ({"every": -1}, InvalidDuration, "every of poll 'p' -1"),
        ({"every": "1"}, InvalidDuration, "every of poll 'p' '1'"),
        ({"every": Retry()}, InvalidArgument, "every of poll 'p' Retry"),
        ({"every": 1, "timeout": -1}, InvalidDuration, "timeout of poll 'p' -1"),
        ({"every": 1, "retry": 3}, InvalidArgument, "retry of step 'p' 3"),
    ],
)
def test_an_option_that_cannot_be_meant_is_refused(
    options: dict[str, Any], error: type[Exception], match: str
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.poll("p", Job(done_at=1).check, **options)

    with Environment() as env:
        outcome = env.run(handle)
        with pytest.raises(WorkflowAborted, match=match):
            env.call(env.bluestreak.wait("workflow"))
    assert (outcome.calls, outcome.steps, outcome.naps) == ([], {}, {})
    assert isinstance(outcome.errors[0], error)
