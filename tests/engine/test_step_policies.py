"""Steps that are tried again by themselves, that have a time limit, and that are given up."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest

from bluestreak_core import (
    Abort,
    Attempt,
    Backoff,
    Bluestreak,
    Context,
    Duration,
    ErrorRecord,
    InvalidArgument,
    Retry,
    Status,
    StepFailed,
    StepTimeout,
    WorkflowAborted,
)
from bluestreak_core.machine import Transition
from bluestreak_core.model import ClaimRequest
from bluestreak_core.testing import (
    CrashUnsafe,
    Environment,
    ManualClock,
    RecordingStore,
    crash_everywhere,
)
from tests.arrange import eventually
from tests.engine.arrange import Fleet

MILLISECOND = timedelta(milliseconds=1)
SECOND = timedelta(seconds=1)
DAY = timedelta(days=1)
STEADY = Retry(max_attempts=3, initial=1, factor=2, jitter=0)


class Flaky:
    """A function that fails so often before it succeeds."""

    def __init__(self, failures: float, error: type[Exception] = ConnectionError) -> None:
        self.calls = 0
        self._failures = failures
        self._error = error

    def __call__(self) -> str:
        self.calls += 1
        if self.calls <= self._failures:
            raise self._error(f"call {self.calls}")
        return "paid"


# Backoff -----------------------------------------------------------------------------------------


def test_pauses_grow_up_to_a_limit() -> None:
    backoff = Backoff(initial=1, factor=3, max_delay=timedelta(seconds=20), jitter=0)
    delays = [backoff.delay(number).total_seconds() for number in (1, 2, 3, 4, 10_000)]
    assert delays == [1, 3, 9, 20, 20]
    assert Backoff(initial=0, jitter=0).delay(10_000) == timedelta(0)
    assert Backoff(initial=7, jitter=0).delay(10_000) == timedelta(minutes=1)
    assert Backoff(initial=3600, jitter=0).delay(10_000) == timedelta(hours=1)


@pytest.mark.parametrize("number", [1, 2, 100])
def test_jitter_shortens_a_pause_by_up_to_its_part_also_the_longest(number: int) -> None:
    backoff = Backoff(initial=10, max_delay=10, jitter=0.5)
    delays = [backoff.delay(number).total_seconds() for _ in range(200)]
    assert 5 <= min(delays) < 6
    assert 9 < max(delays) <= 10


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"initial": -1}, "initial"),
        ({"initial": "1"}, "initial"),
        ({"initial": 2, "max_delay": 1}, "max_delay"),
        ({"max_delay": math.nan}, "max_delay"),
        ({"factor": 0.5}, "factor"),
        ({"factor": math.inf}, "factor"),
        ({"factor": True}, "factor"),
        ({"jitter": 1.1}, "jitter"),
        ({"jitter": None}, "jitter"),
        ({"max_attempts": 0}, "max_attempts"),
        ({"max_attempts": 1.5}, "max_attempts"),
        ({"retry_on": "ValueError"}, "retry_on"),
        ({"retry_on": [ValueError]}, "retry_on"),
        ({"retry_on": BaseException}, "retry_on"),
        ({"give_up_on": (ValueError, KeyboardInterrupt)}, "give_up_on"),
        ({"give_up_on": ValueError()}, "give_up_on"),
    ],
)
def test_a_policy_that_cannot_be_meant_is_refused_by_name(
    options: dict[str, Any], named: str
) -> None:
    with pytest.raises(InvalidArgument) as refused:
        Retry(**options)
    assert refused.value.name == named


# Attempts ----------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_a_step_is_tried_again_without_failing_its_workflow(
    fleet: Fleet, clock: ManualClock, store: RecordingStore
) -> None:
    pay = Flaky(2)
    bluestreak = await fleet.engine()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        return await ctx.step("pay", pay, retry=STEADY)

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        for pause in (1, 2):
            await clock.until_sleeping(pause * SECOND)
            clock.advance(pause * SECOND)
        assert await bluestreak.wait("w") == "paid"
    workflow = await bluestreak.find_workflow("w")
    assert workflow is not None
    assert (workflow.failures, workflow.failed_steps, pay.calls) == (0, (), 3)
    assert store.begun["save_attempt"] == 2
    assert store.begun["park"] == 0


@pytest.mark.asyncio
async def test_a_pause_longer_than_park_after_leaves_memory(
    fleet: Fleet, clock: ManualClock, store: RecordingStore
) -> None:
    pay = Flaky(1)
    runs: list[None] = []
    bluestreak = await fleet.engine()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        runs.append(None)
        return await ctx.step("pay", pay, retry=Retry(initial=DAY, max_delay=DAY, jitter=0))

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        await store.until_returned("park")
        parked = await bluestreak.find_workflow("w")
        assert parked is not None
        assert (parked.status, parked.timeout_at) == (Status.IDLE, clock.now() + DAY)
        assert pay.calls == 1
        clock.advance(DAY)
        assert await bluestreak.wait("w") == "paid"
    assert (len(runs), pay.calls) == (2, 2)


@pytest.mark.asyncio
async def test_attempts_that_are_used_up_abort_the_workflow_without_another_try(
    fleet: Fleet, clock: ManualClock
) -> None:
    pay = Flaky(math.inf)
    bluestreak = await fleet.engine(max_failures=None)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        return await ctx.step("pay", pay, retry=Retry(max_attempts=2, initial=0))

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match=r"StepFailed: .*'pay' failed after 2 attempts"):
            await bluestreak.wait("w")
    workflow = await bluestreak.find_workflow("w")
    assert workflow is not None
    (failed,) = workflow.failed_steps
    assert (failed.step_id, failed.attempts, failed.error.message) == ("pay", 2, "call 2")
    assert (pay.calls, workflow.failures) == (2, 1)
    assert await bluestreak.find_step("w", "pay") is None


@pytest.mark.asyncio
async def test_a_replay_takes_the_branch_of_a_step_that_was_given_up(fleet: Fleet) -> None:
    pay = Flaky(math.inf)
    seen: list[StepFailed] = []
    bluestreak = await fleet.engine(wait_retry_interval=0)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        try:
            await ctx.step("pay", pay, retry=Retry(max_attempts=1))
        except StepFailed as failed:
            seen.append(failed)
            await ctx.step("give back", lambda: "given back")
        if len(seen) < 3:
            raise RuntimeError("later")
        return "compensated"

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == "compensated"
    assert pay.calls == 1
    first, *others = seen
    assert (first.workflow_id, first.step_id, first.attempts) == ("w", "pay", 1)
    assert (first.error_type, first.error_message) == ("ConnectionError", "call 1")
    assert "ConnectionError: call 1" in first.error_traceback
    assert [other.args for other in others] == [first.args] * 2


@pytest.mark.asyncio
@pytest.mark.parametrize(
    ("policy", "calls"),
    [
        (Retry(retry_on=OSError, initial=0), 3),
        (Retry(retry_on=(KeyError, ValueError), initial=0), 1),
        (Retry(give_up_on=ConnectionError, initial=0), 1),
        (Retry(retry_on=ConnectionError, give_up_on=(OSError,), initial=0), 1),
        (Retry(give_up_on=ValueError, initial=0), 3),
    ],
)
async def test_what_is_raised_decides_whether_it_is_tried_again(
    fleet: Fleet, policy: Retry, calls: int
) -> None:
    pay = Flaky(math.inf)
    bluestreak = await fleet.engine()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> int:
        try:
            await ctx.step("pay", pay, retry=policy)
        except StepFailed as failed:
            return failed.attempts
        raise AssertionError

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == calls
    assert pay.calls == calls


@pytest.mark.asyncio
async def test_a_step_that_was_cancelled_from_within_has_failed_like_any_other(
    fleet: Fleet,
) -> None:
    calls: list[None] = []
    bluestreak = await fleet.engine()

    async def await_what_is_cancelled() -> str:
        calls.append(None)
        future: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        if len(calls) < 3:
            future.cancel()
        else:
            future.set_result("answered")
        return await future

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        return await ctx.step("ask", await_what_is_cancelled, retry=Retry(initial=0))

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == "answered"
        workflow = await bluestreak.find_workflow("w")
    assert workflow is not None
    assert workflow.failures == 0


@pytest.mark.asyncio
async def test_a_policy_that_has_come_to_allow_fewer_attempts_makes_no_further_one(
    fleet: Fleet, clock: ManualClock, store: RecordingStore
) -> None:
    pay, allowed = Flaky(math.inf), 5
    bluestreak = await fleet.engine()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> int:
        try:
            policy = Retry(max_attempts=allowed, initial=60, factor=1, jitter=0)
            await ctx.step("pay", pay, retry=policy)
        except StepFailed as failed:
            return failed.attempts
        raise AssertionError

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        for number in (1, 2):
            await store.until_returned("park", number)
            if number == 2:
                allowed = 2
            clock.advance(60 * SECOND)
        assert await bluestreak.wait("w") == 2
    assert pay.calls == 2


@pytest.mark.asyncio
async def test_a_step_without_a_limit_is_tried_until_it_succeeds(fleet: Fleet) -> None:
    pay = Flaky(20)
    bluestreak = await fleet.engine()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        return await ctx.step("pay", pay, retry=Retry(max_attempts=None, initial=0))

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == "paid"
    assert pay.calls == 21


@pytest.mark.asyncio
async def test_branches_are_tried_again_side_by_side(fleet: Fleet, clock: ManualClock) -> None:
    payments = Flaky(2), Flaky(2)
    bluestreak = await fleet.engine()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> list[str]:
        steps = [ctx.step(f"pay {n}", pay, retry=STEADY) for n, pay in enumerate(payments)]
        return list(await asyncio.gather(*steps))

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        for pause in (1, 2):
            await clock.until_sleeping(pause * SECOND, count=2)
            clock.advance(pause * SECOND)
        assert await bluestreak.wait("w") == ["paid", "paid"]


@pytest.mark.asyncio
async def test_a_step_given_up_in_a_group_of_errors_aborts_the_workflow_at_once(
    fleet: Fleet,
) -> None:
    bluestreak = await fleet.engine(max_failures=3, wait_retry_interval=0)

    async def fail_as_it_is_cancelled() -> None:
        try:
            await _for_ever()
        except asyncio.CancelledError:
            raise LookupError from None

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        async with asyncio.TaskGroup() as group:
            group.create_task(fail_as_it_is_cancelled())
            group.create_task(ctx.step("pay", Flaky(9), retry=Retry(max_attempts=1)))

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match=r"ExceptionGroup: .*2 sub-exceptions"):
            await bluestreak.wait("w")
    workflow = await bluestreak.find_workflow("w")
    assert workflow is not None
    assert workflow.failures == 1


@pytest.mark.asyncio
async def test_a_step_of_another_workflow_that_was_given_up_is_an_error_like_any_other(
    fleet: Fleet,
) -> None:
    bluestreak = await fleet.engine(wait_retry_interval=0)
    runs: list[None] = []

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        runs.append(None)
        if len(runs) < 3:
            raise StepFailed("other", "s", 1, "E", "m", "")
        return "done"

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == "done"


@pytest.mark.asyncio
async def test_a_value_that_cannot_be_stored_is_no_failed_attempt(fleet: Fleet) -> None:
    calls: list[None] = []
    bluestreak = await fleet.engine()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        def make() -> object:
            calls.append(None)
            return object()

        await ctx.step("make", make, retry=Retry(initial=0))

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match="UnstorableValue"):
            await bluestreak.wait("w")
    assert len(calls) == 1


@pytest.mark.asyncio
async def test_a_stopping_worker_leaves_while_a_step_waits_for_its_next_attempt(
    fleet: Fleet, clock: ManualClock
) -> None:
    pay = Flaky(1)
    bluestreak = await fleet.engine()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        return await ctx.step("pay", pay, retry=Retry(initial=4, jitter=0))

    poll = asyncio.create_task(bluestreak.poll())
    await bluestreak.start("w", "h")
    await clock.until_sleeping(4 * SECOND)
    bluestreak.stop()
    await poll
    parked = await bluestreak.find_workflow("w")
    assert parked is not None
    assert (parked.status, parked.timeout_at) == (Status.IDLE, clock.now() + 4 * SECOND)
    clock.advance(4 * SECOND)
    async with fleet.polling(bluestreak):
        assert await bluestreak.wait("w") == "paid"


@pytest.mark.asyncio
async def test_a_retried_workflow_tries_a_step_afresh_that_was_given_up(
    fleet: Fleet, store: RecordingStore, clock: ManualClock
) -> None:
    pay, pack = Flaky(3), Flaky(0)
    bluestreak = await fleet.engine()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        await ctx.step("pack", pack)
        return await ctx.step("pay", pay, retry=Retry(max_attempts=2, initial=0))

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted):
            await bluestreak.wait("w")
        await store.control("w", Transition.RETRY, clock.now())
        assert await bluestreak.wait("w") == "paid"
    assert (pay.calls, pack.calls) == (4, 1)


def test_a_retried_workflow_records_its_attempts_in_another_round() -> None:
    async def handle(ctx: Context, input: None) -> str:
        return await ctx.step("pay", pay, retry=policy)

    policy, pay = Retry(max_attempts=2, initial=60, jitter=0), Flaky(3)
    with Environment() as env:
        began = env.now
        assert env.run(handle, workflow_id="w").status is Status.ABORTED
        env.call(env.bluestreak.retry("w"))
        retried = env.now
        assert env.wait("w").result == "paid"
        assert env.now == retried + 60 * SECOND
        attempts = env.call(env.bluestreak.describe("w")).attempts
    assert [(attempt.round, attempt.number, attempt.retry_at) for attempt in attempts] == [
        (0, 1, began + 60 * SECOND),
        (0, 2, None),
        (1, 1, retried + 60 * SECOND),
    ]


@pytest.mark.asyncio
async def test_an_attempt_that_a_stale_run_has_recorded_first_is_what_counts(
    fleet: Fleet, store: RecordingStore, clock: ManualClock
) -> None:
    calls: list[None] = []
    bluestreak = await fleet.engine()

    async def pay() -> str:
        calls.append(None)
        if len(calls) == 1:
            await store.save_attempt(stale, theirs)
            raise ConnectionError
        return "paid"

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        return await ctx.step("pay", pay, retry=Retry(initial=0))

    await bluestreak.start("w", "h")
    (stale,) = await store.claim(
        ClaimRequest(worker="stale", now=clock.now(), lease=SECOND, limit=1)
    )
    clock.advance(2 * SECOND)
    theirs = Attempt(
        workflow_id="w",
        step_id="pay",
        round=0,
        number=1,
        error=ErrorRecord(type="TimeoutError", message="theirs", traceback=""),
        retry_at=clock.now() + DAY,
        saved_at=clock.now(),
    )
    async with fleet.polling(bluestreak):
        await eventually(lambda: store.returned["park"] == 1 or len(calls) > 1)
        parked = await bluestreak.find_workflow("w")
        assert parked is not None
        assert (parked.timeout_at, len(calls)) == (theirs.retry_at, 1)
        clock.advance(DAY)
        assert await bluestreak.wait("w") == "paid"
    assert (await bluestreak.describe("w")).attempts == (theirs,)


def test_an_attempt_is_due_at_a_whole_millisecond() -> None:
    async def handle(ctx: Context, input: None) -> str:
        return await ctx.step("pay", pay, retry=Retry(initial=0.0015, jitter=0))

    pay = Flaky(1)
    with Environment() as env:
        assert env.run(handle, workflow_id="w").result == "paid"
        (attempt,) = env.call(env.bluestreak.describe("w")).attempts
    assert attempt.retry_at is not None
    assert attempt.retry_at - attempt.saved_at in (MILLISECOND, 2 * MILLISECOND)


@pytest.mark.asyncio
async def test_what_the_owner_gave_up_outweighs_what_a_stale_run_records_late(
    fleet: Fleet, store: RecordingStore, clock: ManualClock
) -> None:
    bluestreak = await fleet.engine()
    pay = Flaky(math.inf)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        try:
            return await ctx.step("pay", pay, retry=Retry(max_attempts=1))
        except StepFailed:
            await ctx.sleep("night", DAY)
            return "compensated"

    await bluestreak.start("w", "h")
    (stale,) = await store.claim(
        ClaimRequest(worker="stale", now=clock.now(), lease=SECOND, limit=1)
    )
    clock.advance(2 * SECOND)
    async with fleet.polling(bluestreak):
        await store.until_returned("park")
        assert await store.save_step(stale, "pay", "paid after all", clock.now()) == (
            "paid after all"
        )
        clock.advance(DAY)
        assert await bluestreak.wait("w") == "compensated"


# Time limits -------------------------------------------------------------------------------------


async def _for_ever() -> None:
    await asyncio.Event().wait()


def _result(
    fn: Callable[..., Any], *args: Any, timeout: Duration, retry: Retry | None = None
) -> tuple[Any, int]:
    """What becomes of a step, and how often it is called."""

    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.step("s", fn, *args, timeout=timeout, retry=retry)

    with Environment(max_failures=0) as env:
        outcome = env.run(handle)
        return outcome.result, len(outcome.calls)


def test_a_step_in_time_is_recorded() -> None:
    assert _result(asyncio.sleep, 9, "slept", timeout=10) == ("slept", 1)


def test_a_step_that_takes_longer_is_cancelled_and_fails_its_workflow() -> None:
    with pytest.raises(
        WorkflowAborted, match=r"StepTimeout: workflow .* step 's' took longer than 10.0 seconds"
    ):
        _result(_for_ever, timeout=10)


def test_a_time_limit_holds_for_each_attempt() -> None:
    spans = iter([timedelta(minutes=5), timedelta(minutes=5), timedelta(seconds=1)])

    async def slow() -> str:
        await asyncio.sleep(next(spans).total_seconds())
        return "done"

    assert _result(slow, timeout=60, retry=STEADY) == ("done", 3)


def test_what_is_cancelled_already_is_not_cancelled_again_by_its_time_limit() -> None:
    cancellations: list[float] = []

    async def clean_up_slowly() -> None:
        loop = asyncio.get_running_loop()
        for _ in range(2):
            try:
                await asyncio.sleep(100)
            except asyncio.CancelledError:
                cancellations.append(loop.time())

    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("s", clean_up_slowly, timeout=10)

    with Environment() as env:
        env.register_handler("h", handle)
        env.start("w", "h")
        env.advance(5)
        env.call(env.bluestreak.cancel("w"))
        env.advance(1000)
    assert len(cancellations) == 1


def test_a_time_limit_is_caught_and_retried_as_a_timeout_error() -> None:
    policy = Retry(max_attempts=3, initial=0, retry_on=(ConnectionError, TimeoutError))

    async def handle(ctx: Context, input: None) -> int:
        with suppress(TimeoutError):
            await ctx.step("hang", asyncio.sleep, 60, timeout=1)
        try:
            await ctx.step("hang again", asyncio.sleep, 60, timeout=1, retry=policy)
        except StepFailed as failed:
            return failed.attempts
        raise AssertionError

    with Environment() as env:
        assert env.run(handle).result == 3


def test_a_functions_own_time_out_is_not_taken_for_the_steps() -> None:
    async def impatient() -> None:
        async with asyncio.timeout(1):
            await _for_ever()

    with pytest.raises(WorkflowAborted) as raised:
        _result(impatient, timeout=10)
    assert raised.value.error_type == "TimeoutError"


@pytest.mark.asyncio
async def test_the_thread_of_a_step_without_async_goes_on_and_its_output_is_dropped() -> None:
    release, ended = threading.Event(), threading.Event()

    def block() -> str:
        release.wait(30)
        ended.set()
        return "too late"

    async def handle(ctx: Context, input: None) -> str:
        try:
            return await ctx.step("s", block, timeout=0.01)
        except StepTimeout:
            release.set()
            return await ctx.step("wait", lambda: str(ended.wait(30)))

    from bluestreak_memory import MemoryStore  # noqa: PLC0415

    async with Bluestreak(MemoryStore()) as bluestreak:
        bluestreak.register_handler("h", handle)
        await bluestreak.start("w", "h")
        poll = asyncio.create_task(bluestreak.poll())
        assert await bluestreak.wait("w") == "True"
        assert await bluestreak.find_step("w", "s") is None
        bluestreak.stop()
        await poll


# Abort -------------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("place", ["handler", "step", "step with retries", "group"])
async def test_an_abort_ends_the_workflow_at_once(fleet: Fleet, place: str) -> None:
    calls: list[str] = []
    bluestreak = await fleet.engine(max_failures=None)

    def give_up() -> None:
        calls.append("called")
        raise Abort("no such customer")

    async def in_group(call: Callable[[], None]) -> None:
        try:
            call()
        except Abort as abort:
            raise ExceptionGroup(
                "of a TaskGroup", [KeyError(), ExceptionGroup("", [abort])]
            ) from None

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        match place:
            case "handler":
                give_up()
            case "step":
                await ctx.step("s", give_up)
            case "step with retries":
                await ctx.step("s", give_up, retry=Retry(initial=0))
            case "group":
                async with asyncio.TaskGroup() as group:
                    group.create_task(ctx.step("s", give_up))

    async with fleet.polling(bluestreak):
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted) as raised:
            await bluestreak.wait("w")
    assert calls == ["called"]
    if place != "group":
        assert raised.value.error_type.endswith("Abort")
        assert raised.value.error_message == "no such customer"


def test_an_abort_within_a_group_that_a_step_raises_is_not_tried_again() -> None:
    def give_up() -> None:
        inner = ExceptionGroup("of a branch", [Abort("no such customer")])
        raise ExceptionGroup("of all", [KeyError("k"), inner])

    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("s", give_up, retry=Retry(initial=0))

    with Environment() as env:
        outcome = env.run(handle)
        assert (outcome.status, outcome.calls) == (Status.ABORTED, ["s"])


@pytest.mark.parametrize("retry", [None, Retry(initial=0)])
@pytest.mark.parametrize("is_async", [True, False])
def test_an_abort_beside_a_cancellation_is_not_tried_again(
    retry: Retry | None, is_async: bool
) -> None:
    def give_up() -> None:
        raise BaseExceptionGroup("of all", [asyncio.CancelledError(), Abort("no such customer")])

    async def give_up_async() -> None:
        give_up()

    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("s", give_up_async if is_async else give_up, retry=retry)

    with Environment() as env:
        outcome = env.run(handle)
        assert (outcome.status, outcome.calls) == (Status.ABORTED, ["s"])


LOST, DECLINED = ConnectionError("lost"), LookupError("declined")


@pytest.mark.parametrize(
    ("errors", "rules", "attempts"),
    [
        ([LOST, LOST], {"retry_on": ConnectionError}, 3),
        ([LOST, ExceptionGroup("", [LOST])], {"retry_on": ConnectionError}, 3),
        ([LOST, DECLINED], {"retry_on": ConnectionError}, 1),
        ([LOST, DECLINED], {"retry_on": ExceptionGroup}, 3),
        ([LOST, DECLINED], {"retry_on": (ConnectionError, LookupError)}, 3),
        ([LOST, ExceptionGroup("", [DECLINED])], {"give_up_on": LookupError}, 1),
        ([LOST, DECLINED], {"give_up_on": ValueError}, 3),
    ],
)
def test_of_an_exception_group_each_error_counts(
    errors: list[Exception], rules: dict[str, Any], attempts: int
) -> None:
    def fail() -> None:
        raise ExceptionGroup("of a TaskGroup", errors)

    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("s", fail, retry=Retry(initial=0, max_attempts=3, **rules))

    with Environment() as env:
        outcome = env.run(handle)
        assert (outcome.status, outcome.calls) == (Status.ABORTED, ["s"] * attempts)


# Keys --------------------------------------------------------------------------------------------


def test_an_idempotency_key_is_the_same_in_every_run_and_another_for_each_step() -> None:
    keys: list[tuple[str, str]] = []

    async def handle(ctx: Context, input: None) -> None:
        keys.append((ctx.idempotency_key("a"), ctx.idempotency_key("b")))
        if len(keys) < 2:
            raise ValueError

    with Environment() as env:
        env.run(handle, workflow_id="w")
        first, again = keys
        assert first == again
        assert first[0] != first[1]
        env.run(handle, workflow_id="other")
        assert set(keys[-1]).isdisjoint(first)
    assert first[0] == "c8d1563bcc77d2f3366cfc19978279dbd7ed6f5e1eae00d97022c809b6fdf850"


# Crashes -----------------------------------------------------------------------------------------


def test_attempts_survive_a_crash() -> None:
    calls: list[None] = []

    def pay() -> str:
        calls.append(None)
        if len(calls) == 2:
            env.crash()
        if len(calls) < 4:
            raise ConnectionError
        return "paid"

    async def handle(ctx: Context, input: None) -> str:
        return await ctx.step("pay", pay, retry=Retry(max_attempts=3, initial=timedelta(hours=1)))

    with Environment() as env:
        outcome = env.run(handle)
    # The second call was lost with its worker, before its failure was recorded.
    assert outcome.result == "paid"
    assert len(calls) == 4


def test_steps_with_policies_are_safe_wherever_they_crash() -> None:
    async def handle(ctx: Context, input: None) -> list[str]:
        told = []
        try:
            await ctx.step("charge", Flaky(math.inf), retry=Retry(max_attempts=2, initial=60))
        except StepFailed as failed:
            told.append(f"{failed.attempts} {failed.error_type}")
        told.append(await ctx.step("send", asyncio.sleep, 1, "sent", timeout=5, retry=STEADY))
        return told

    sweep = crash_everywhere(handle)
    assert sweep.outcome.result == ["2 ConnectionError", "sent"]
    named = {point.call.split(" ")[0] for point in sweep.crashes}
    assert named >= {"save_attempt", "fail_step", "park"}


def test_a_sweep_explains_a_compensation_that_is_no_step() -> None:
    refunds: list[None] = []

    async def handle(ctx: Context, input: None) -> int:
        try:
            await ctx.step("charge", Flaky(9), retry=Retry(max_attempts=1))
        except StepFailed:
            refunds.append(None)
        return len(refunds)

    with pytest.raises(CrashUnsafe):
        crash_everywhere(handle)
