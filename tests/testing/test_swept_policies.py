"""What the policies of steps and handlers do, and what is done from outside, wherever a worker
dies meanwhile.
"""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

import pytest
from typing_extensions import override

from bluestreak_core import (
    Abort,
    Backoff,
    Context,
    InvalidArgument,
    Retry,
    Start,
    Status,
    StepFailed,
    TransitionRefused,
    Unsupported,
    WorkflowSummary,
)
from bluestreak_core.clock import Clock
from bluestreak_core.store import ListPosition, Query
from bluestreak_core.testing import (
    CrashUnsafe,
    Environment,
    StoreWrapper,
    Stuck,
    Sweep,
    crash_everywhere,
)
from bluestreak_core.testing.clock import START
from bluestreak_memory import MemorySession, MemoryStore
from tests.run_watch import RunWatch, current_run

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unmeasured")]

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def calls_of(sweep: Sweep) -> set[str]:
    """The store calls at which it has crashed the worker."""
    return {point.call for point in sweep.crashes}


class Gateway:
    """Fails the first `outages` times, and takes `seconds` for an answer."""

    def __init__(self, outages: int = 0, seconds: float = 0) -> None:
        self._outages = outages
        self._seconds = seconds
        self.calls = 0

    def reset(self) -> None:
        self.calls = 0

    async def charge(self) -> str:
        self.calls += 1
        if self.calls <= self._outages:
            if self._seconds:
                await asyncio.sleep(self._seconds)
            raise ConnectionError("no answer")
        return "charged"


# Policies -----------------------------------------------------------------------------------------


def test_a_handler_that_fails_is_tried_again_by_its_backoff() -> None:
    gateway, ended_at = Gateway(outages=3), []

    async def order(ctx: Context, input: None) -> str:
        await ctx.step("reserve", str)
        charged = await ctx.step("charge", gateway.charge)
        ended_at.append(current_run().clock.now())
        return charged

    backoff = Backoff(initial=10, factor=3, max_delay=60, jitter=0)
    sweep = crash_everywhere(
        order,
        policy={"wait_retry_interval": backoff},
        before_each=gateway.reset,
        hooks=[RunWatch()],
    )
    assert sweep.outcome.calls == ["reserve", *["charge"] * 4]
    assert sweep.outcome.workflow.failures == 3
    assert ended_at[0] - START == timedelta(seconds=10 + 30 + 60)
    assert "fail" in calls_of(sweep)


def test_a_time_limit_cuts_attempts_and_the_next_one_is_made() -> None:
    gateway = Gateway(outages=2, seconds=HOUR.total_seconds())

    async def order(ctx: Context, input: None) -> str:
        patiently = Retry(max_attempts=4, initial=60)
        return await ctx.step("charge", gateway.charge, timeout=5, retry=patiently)

    sweep = crash_everywhere(order, before_each=gateway.reset)
    assert sweep.outcome.result == "charged"
    assert sweep.outcome.calls == ["charge"] * 3
    assert sweep.outcome.workflow.finished_at is not None
    assert sweep.outcome.workflow.finished_at - START < HOUR
    assert {"save_attempt", "park"} <= calls_of(sweep)


def test_a_step_that_is_cut_each_time_is_given_up_and_compensated() -> None:
    async def order(ctx: Context, input: None) -> str:
        await ctx.step("reserve", str)
        try:
            await ctx.step("charge", asyncio.sleep, 99, timeout=2, retry=Retry(max_attempts=2))
        except StepFailed as failed:
            return await ctx.step("release", str, f"released: {failed.error_type}")
        return "charged"

    sweep = crash_everywhere(order)
    assert sweep.outcome.result.endswith("StepTimeout")
    assert [step.step_id for step in sweep.outcome.workflow.failed_steps] == ["charge"]
    assert "fail_step" in calls_of(sweep)


def test_a_deadline_fires_whoever_has_the_workflow_then() -> None:
    async def order(ctx: Context, input: None) -> None:
        await ctx.step("reserve", str)
        await ctx.step("wait for the customer", asyncio.sleep, 3600)

    sweep = crash_everywhere(order, policy={"deadline": 60})
    assert sweep.outcome.status is Status.ABORTED
    assert sweep.outcome.workflow.finished_at == START + timedelta(seconds=60)
    assert {"renew", "fail"} <= calls_of(sweep)


def test_a_deadline_fires_in_a_parked_nap_and_between_attempts() -> None:
    async def nap(ctx: Context, input: None) -> None:
        await ctx.sleep("month", 30 * DAY)

    async def attempts(ctx: Context, input: None) -> None:
        patiently = Retry(max_attempts=None, initial=2000, max_delay=2000, jitter=0)
        await ctx.step("charge", Gateway(99).charge, retry=patiently)

    for handler in (nap, attempts):
        sweep = crash_everywhere(handler, policy={"deadline": HOUR})
        assert sweep.outcome.workflow.finished_at == START + HOUR
        assert "park" in calls_of(sweep)


def test_what_had_to_be_done_before_a_deadline_may_be_less_after_a_crash() -> None:
    async def order(ctx: Context, input: None) -> None:
        for number in range(9):
            await ctx.step(f"{number}", asyncio.sleep, 10)

    sweep = crash_everywhere(order, policy={"deadline": 55})
    assert list(sweep.outcome.steps) == ["0", "1", "2", "3", "4"]


def test_what_is_only_just_in_time_is_late_after_a_crash() -> None:
    async def order(ctx: Context, input: None) -> None:
        await ctx.step("s", asyncio.sleep, 55)

    with pytest.raises(CrashUnsafe, match="status: 'aborted', at first 'finished'"):
        crash_everywhere(order, policy={"deadline": 60})


def test_the_instant_of_a_deadline_may_depend_on_a_crash() -> None:
    async def order(ctx: Context, input: None) -> None:
        await ctx.sleep("wait for the customer", DAY)

    def retry(env: Environment) -> None:
        assert env.wait("workflow").status is Status.ABORTED
        env.call(env.bluestreak.retry("workflow"))

    sweep = crash_everywhere(order, policy={"deadline": 60}, meanwhile=retry)
    assert sweep.outcome.workflow.retries == 1
    assert sweep.outcome.workflow.finished_at == START + timedelta(seconds=120)


def test_an_abort_ends_it_at_once() -> None:
    async def order(ctx: Context, input: None) -> None:
        await ctx.step("reserve", str)
        await ctx.step("charge", declined, retry=Retry(max_attempts=5))

    async def declined() -> None:
        raise Abort("card declined")

    sweep = crash_everywhere(order)
    assert sweep.outcome.status is Status.ABORTED
    assert sweep.outcome.calls == ["reserve", "charge"]
    assert sweep.outcome.workflow.failures == 1


def test_a_transaction_that_fails_at_first_is_done_once() -> None:
    done: Counter[str] = Counter()
    outages: list[None] = []
    books: list[int] = []

    def reset() -> None:
        books.append(done["order"])
        done.clear()
        outages[:] = [None, None]

    async def order(ctx: Context, input: None) -> int:
        return await ctx.transaction("book", book)

    async def book(session: MemorySession) -> int:
        session.set(done, "order", done["order"] + 1)
        await asyncio.sleep(1)
        if outages:
            outages.pop()
            raise ConnectionError
        return done["order"]

    sweep = crash_everywhere(order, before_each=reset)
    assert sweep.outcome.calls == ["book"] * 3
    assert set(books[1:]) == {1}
    assert {"transact", "fail"} <= calls_of(sweep)


def test_a_transaction_is_tried_again_after_a_retry_of_the_workflow() -> None:
    done: dict[str, int] = {}
    is_down: list[bool] = []

    def reset() -> None:
        done.clear()
        is_down[:] = [True]

    async def order(ctx: Context, input: None) -> str:
        await ctx.step("reserve", str)
        return await ctx.transaction("book", book)

    async def book(session: MemorySession) -> str:
        session.set(done, "order", done.get("order", 0) + 1)
        if is_down[0]:
            raise Abort("the ledger is closed")
        return f"booked {done['order']}"

    def mend(env: Environment) -> None:
        assert env.wait("workflow").status is Status.ABORTED
        assert done == {}
        is_down[0] = False
        env.call(env.bluestreak.retry("workflow"))

    sweep = crash_everywhere(order, before_each=reset, meanwhile=mend)
    assert sweep.outcome.result == "booked 1"
    assert sweep.outcome.calls == ["reserve", "book", "book"]


# Starting and deleting ----------------------------------------------------------------------------


def test_what_is_started_for_later_begins_then_once() -> None:
    begun: list[datetime] = []

    async def remind(ctx: Context, whom: str | None) -> str:
        if whom is None:
            return "now"
        return await ctx.step("remind", remember)

    def remember() -> str:
        begun.append(current_run().clock.now())
        return "reminded"

    def start_others(env: Environment) -> None:
        env.start("a", "remind", "ada", delay=DAY)
        others = [Start("b", "remind", "bob", at=START + 2 * DAY), Start("a", "remind", "eve")]
        assert env.call(env.bluestreak.start_many(others)) == [True, False]
        assert not env.start("a", "remind", "ada", strict=True)

    sweep = crash_everywhere(remind, meanwhile=start_others, hooks=[RunWatch()])
    assert set(sweep.outcomes) == {"workflow", "a", "b"}
    assert begun[:2] == [START + DAY, START + 2 * DAY]
    assert min(begun) == START + DAY
    assert len([point for point in sweep.crashes if point.call == "claim"]) > 6


def test_what_has_ended_expires_though_workers_die() -> None:
    async def order(ctx: Context, number: int | None) -> None:
        if number is None:
            await ctx.sleep("wait", 300)
        await ctx.step("s", str)

    def expire(env: Environment) -> None:
        env.start("old", "order", 1)
        env.wait("old")
        while env.call(env.bluestreak.find_workflow("old")) is not None:
            env.advance(10)
        assert env.call(env.bluestreak.find_step("old", "s")) is None

    # When a worker looks for what is to expire is a matter of chance.
    sweep = crash_everywhere(
        order, meanwhile=expire, before_each=lambda: random.seed(7), expire_ended_after=20
    )
    assert set(sweep.outcomes) == {"workflow"}
    assert "prune" in calls_of(sweep)


# From outside -------------------------------------------------------------------------------------


async def trip(ctx: Context, input: None) -> None:
    await ctx.step("book flight", str)
    await ctx.compensate("cancel flight", asyncio.sleep, 1)
    await ctx.step("book hotel", str)
    await ctx.compensate("cancel hotel", asyncio.sleep, 1)
    await ctx.step("wait for the visa", asyncio.sleep, 1000)


def cancel_after(seconds: float) -> Any:
    def cancel(env: Environment) -> None:
        env.advance(seconds)
        assert env.call(env.bluestreak.cancel("workflow", "too late"))

    return cancel


def test_a_running_workflow_is_cancelled_and_compensates_in_any_worker() -> None:
    sweep = crash_everywhere(trip, meanwhile=cancel_after(60))
    assert sweep.outcome.status is Status.CANCELLED
    assert sweep.outcome.workflow.reason == "too late"
    assert sweep.outcome.calls[-2:] == ["cancel hotel", "cancel flight"]
    assert list(sweep.outcome.steps)[-2:] == ["cancel hotel", "cancel flight"]
    calls = {"promise", "hand_over", "history", "save_step 'cancel hotel'", "end_compensated"}
    assert calls <= calls_of(sweep)


def test_a_workflow_that_is_paused_and_cancelled_compensates_in_any_worker() -> None:
    def pause_and_cancel(env: Environment) -> None:
        env.advance(60)
        env.call(env.bluestreak.pause("workflow"))
        assert env.call(env.bluestreak.cancel("workflow"))

    sweep = crash_everywhere(trip, meanwhile=pause_and_cancel)
    assert sweep.outcome.status is Status.CANCELLED
    assert sweep.outcome.calls[-2:] == ["cancel hotel", "cancel flight"]
    assert {"hand_over", "end_compensated"} <= calls_of(sweep)


def test_a_workflow_may_be_cancelled_while_nobody_has_taken_it_over() -> None:
    sweep = crash_everywhere(trip, meanwhile=cancel_after(5))
    assert sweep.outcome.calls[-2:] == ["cancel hotel", "cancel flight"]


def test_an_aborted_workflow_compensates_with_a_policy() -> None:
    async def order(ctx: Context, input: None) -> None:
        await ctx.step("charge", str)
        await ctx.compensate("refund", refund, retry=Retry(initial=60, jitter=0))
        await ctx.sleep("wait", 300)
        raise Abort("sold out")

    def refund() -> str:
        calls.append(None)
        if len(calls) == 1:
            raise ConnectionError
        return "refunded"

    calls: list[None] = []
    sweep = crash_everywhere(order, before_each=calls.clear)
    assert sweep.outcome.status is Status.ABORTED
    assert sweep.outcome.steps == {"charge": "", "refund": "refunded"}
    assert {"give_up", "postpone", "save_attempt", "end_compensated"} <= calls_of(sweep)


def test_a_compensation_that_a_replay_does_not_find_is_a_difference() -> None:
    async def forgetful(ctx: Context, input: None) -> None:
        runs.append(None)
        await ctx.step("book", str)
        if len(runs) < 2:
            await ctx.compensate("cancel", str)
        await ctx.step("wait", asyncio.sleep, 1000)

    runs: list[None] = []
    with pytest.raises(CrashUnsafe) as raised:
        crash_everywhere(forgetful, meanwhile=cancel_after(60), before_each=runs.clear)
    lines = {line for account in raised.value.differences.values() for line in account}
    assert "compensation 'cancel' is due and not recorded" in lines


def test_a_compensation_is_due_only_if_the_handler_has_come_to_register_it() -> None:
    async def slow(ctx: Context, input: None) -> None:
        await asyncio.sleep(8)  # each run again
        await ctx.compensate("release", str)
        await ctx.step("wait", asyncio.sleep, 1000)

    sweep = crash_everywhere(slow, meanwhile=cancel_after(18))
    assert sweep.outcome.calls == ["wait", "release"]


def test_another_reason_for_a_cancellation_is_a_difference() -> None:
    runs: list[None] = []

    def cancel(env: Environment) -> None:
        runs.append(None)
        env.advance(60)
        env.call(env.bluestreak.cancel("workflow", f"the {len(runs)}th"))

    with pytest.raises(CrashUnsafe, match="reason: 'the 2th', at first 'the 1th'"):
        crash_everywhere(trip, meanwhile=cancel)


def test_a_workflow_that_gets_elsewhere_before_it_is_cancelled_is_a_difference() -> None:
    async def wanders(ctx: Context, input: None) -> None:
        runs.append(None)
        await ctx.step("always", str)
        if len(runs) > 1:
            await ctx.step("lost", str)
            await ctx.sleep("lost", 60)
        await ctx.step("wait", asyncio.sleep, 1000)

    runs: list[None] = []
    with pytest.raises(CrashUnsafe) as raised:
        crash_everywhere(wanders, meanwhile=cancel_after(60), before_each=runs.clear)
    lines = {line for account in raised.value.differences.values() for line in account}
    assert "recorded steps: {'lost': ''} beyond those at first, {'always': ''}" in lines
    assert "naps: {'lost': None} beyond those at first, {}" in lines


def test_a_workflow_is_cancelled_in_a_parked_nap() -> None:
    async def subscribe(ctx: Context, input: None) -> None:
        await ctx.compensate("refund", str)
        for month in range(9):
            await ctx.step(f"charge {month}", str)
            await ctx.sleep(f"month {month}", 30 * DAY)

    sweep = crash_everywhere(subscribe, meanwhile=cancel_after(45 * 86_400))
    assert sweep.outcome.status is Status.CANCELLED
    assert list(sweep.outcome.steps) == ["charge 0", "charge 1", "refund"]
    assert sweep.outcome.calls == ["charge 0", "charge 1", "refund"]


def test_a_nap_is_cancelled_in_memory_or_parked() -> None:
    async def subscribe(ctx: Context, input: None) -> None:
        await ctx.compensate("refund", str)
        await ctx.sleep("nap", 12)

    sweep = crash_everywhere(subscribe, meanwhile=cancel_after(11))
    assert sweep.outcome.calls == ["refund"]


def test_a_compensation_that_always_raises_is_given_up_after_a_crash_too() -> None:
    async def order(ctx: Context, input: None) -> None:
        await ctx.compensate("refund", Gateway(99).charge, retry=Retry(max_attempts=1))
        await ctx.compensate("release", str)
        await ctx.step("wait", asyncio.sleep, 1000)

    sweep = crash_everywhere(order, meanwhile=cancel_after(60))
    assert sweep.outcome.calls == ["wait", "release", "refund"]
    assert list(sweep.outcome.steps) == ["release"]


def test_a_running_workflow_is_paused_and_resumed() -> None:
    async def order(ctx: Context, input: None) -> str:
        await ctx.compensate("release", str)
        await ctx.step("reserve", asyncio.sleep, 30)
        await ctx.step("charge", asyncio.sleep, 30)
        return await ctx.step("send", asyncio.sleep, 30, "sent")

    def pause(env: Environment) -> None:
        env.advance(45)
        env.call(env.bluestreak.pause("workflow"))
        env.advance(DAY)
        assert env.outcome("workflow").status is Status.PAUSED
        env.call(env.bluestreak.resume("workflow"))

    sweep = crash_everywhere(order, meanwhile=pause)
    assert sweep.outcome.result == "sent"
    assert sweep.outcome.calls == ["reserve", "charge", "charge", "send"]
    assert "release" not in sweep.outcome.steps


def test_a_workflow_that_was_paused_is_cancelled_and_compensates() -> None:
    def pause_and_cancel(env: Environment) -> None:
        env.advance(60)
        env.call(env.bluestreak.pause("workflow"))
        env.advance(60)
        env.call(env.bluestreak.cancel("workflow"))

    sweep = crash_everywhere(trip, meanwhile=pause_and_cancel)
    undone = ["cancel hotel", "cancel flight"]
    assert list(sweep.outcome.steps) == ["book flight", "book hotel", *undone]


def test_an_aborted_workflow_is_retried_over_what_it_has_recorded() -> None:
    is_mended: list[None] = []

    async def order(ctx: Context, input: None) -> str:
        await ctx.step("reserve", str)
        return await ctx.step("charge", charge, retry=Retry(max_attempts=2, initial=60))

    def charge() -> str:
        if not is_mended:
            raise ConnectionError
        return "charged"

    def mend(env: Environment) -> None:
        assert env.wait("workflow").status is Status.ABORTED
        is_mended.append(None)
        env.call(env.bluestreak.retry("workflow"))

    sweep = crash_everywhere(order, meanwhile=mend, before_each=is_mended.clear)
    assert sweep.outcome.result == "charged"
    assert sweep.outcome.calls == ["reserve", "charge", "charge", "charge"]
    assert sweep.outcome.workflow.retries == 1


def test_a_fork_begins_before_a_step_and_ends_as_the_first_time() -> None:
    async def invoice(ctx: Context, cents: int) -> list[Any]:
        net = await ctx.step("net", lambda: cents)
        await ctx.sleep("wait", HOUR)
        return [net, await ctx.step("rate", random.random)]

    def fork(env: Environment) -> None:
        env.wait("workflow")
        assert env.call(env.bluestreak.fork("workflow", "again", before="rate"))

    sweep = crash_everywhere(invoice, 100, meanwhile=fork)
    fork_of = sweep.outcomes["again"]
    assert fork_of.calls == ["rate"]
    assert fork_of.result[0] == 100
    assert fork_of.result != sweep.outcome.result


def test_a_workflow_is_started_and_cancelled_in_transactions() -> None:
    stores: list[MemoryStore] = []

    def store(clock: Clock) -> MemoryStore:
        stores.append(MemoryStore(clock=clock))
        return stores[-1]

    async def start(env: Environment, *, commits: bool) -> None:
        async with stores[-1].transaction() as session:
            await env.bluestreak.start("other", "trip", session=session)
            if not commits:
                session.roll_back()

    async def cancel(env: Environment) -> None:
        for workflow_id in ("other", "workflow"):
            async with stores[-1].transaction() as session:
                await env.bluestreak.cancel(workflow_id, "in a transaction", session=session)

    def meanwhile(env: Environment) -> None:
        with pytest.raises(InvalidArgument, match="its transaction is over"):
            env.call(start(env, commits=False))
        assert env.call(env.bluestreak.find_workflow("other")) is None
        env.call(start(env, commits=True))
        env.advance(60)
        env.call(cancel(env))

    sweep = crash_everywhere(trip, store=store, meanwhile=meanwhile)
    for workflow_id in ("workflow", "other"):
        assert sweep.outcomes[workflow_id].workflow.reason == "in a transaction"
        assert sweep.outcomes[workflow_id].calls[-1] == "cancel flight"


class Bare(StoreWrapper):
    """A store that cannot search."""

    @override
    async def find_page(
        self, query: Query, after: ListPosition | None, limit: int
    ) -> Sequence[WorkflowSummary]:
        raise Unsupported("find_page()", "Bare cannot search")


def test_where_the_store_cannot_search_the_workflow_itself_is_swept() -> None:
    async def handler(ctx: Context, input: None) -> str:
        return await ctx.step("s", str)

    def start_another(env: Environment) -> None:
        env.start("other", "handler")

    sweep = crash_everywhere(
        handler,
        store=lambda clock: Bare(MemoryStore(clock=clock)),
        meanwhile=start_another,
    )
    assert set(sweep.outcomes) == {"workflow"}


def test_what_differs_in_another_workflow_is_reported_with_its_id() -> None:
    async def handler(ctx: Context, input: int | None) -> float:
        return 0 if input is None else random.random()

    with pytest.raises(CrashUnsafe, match=r"workflow 'other': result: 0\."):
        crash_everywhere(handler, meanwhile=lambda env: env.start("other", "handler", 1))


def test_a_workflow_that_is_there_only_at_times_is_a_difference() -> None:
    runs: list[None] = []

    async def handler(ctx: Context, input: None) -> None: ...

    def start_another(env: Environment) -> None:
        runs.append(None)
        env.start(f"other {len(runs)}", "handler")

    account = r"workflows: \['other 2', 'workflow'\], at first \['other 1', 'workflow'\]"
    with pytest.raises(CrashUnsafe, match=account):
        crash_everywhere(handler, meanwhile=start_another)


def test_what_is_refused_only_after_a_crash_is_a_difference() -> None:
    async def handler(ctx: Context, input: None) -> None:
        await ctx.step("s", asyncio.sleep, 20)

    def retry(env: Environment) -> None:
        env.advance(25)
        assert env.outcome("workflow").status is Status.FINISHED

    with pytest.raises(CrashUnsafe, match="meanwhile raised AssertionError"):
        crash_everywhere(handler, meanwhile=retry)


def test_what_meanwhile_waits_for_in_vain_only_after_a_crash_is_a_difference() -> None:
    runs: list[None] = []

    async def handler(ctx: Context, input: None) -> None:
        runs.append(None)
        await ctx.step("s", str)
        if len(runs) > 1:
            await asyncio.Event().wait()

    with pytest.raises(CrashUnsafe, match=r"save_step 's':\n  it is .* has not happened\n"):
        crash_everywhere(
            handler, meanwhile=lambda env: env.wait("workflow"), before_each=runs.clear
        )


def test_what_is_refused_at_first_is_raised() -> None:
    async def handler(ctx: Context, input: None) -> None: ...

    def resume(env: Environment) -> None:
        env.call(env.bluestreak.resume("workflow"))

    with pytest.raises(TransitionRefused):
        crash_everywhere(handler, meanwhile=resume)
    with pytest.raises(Stuck):
        crash_everywhere(
            handler, meanwhile=lambda env: env.call(env.bluestreak.pause("workflow")), turns=1000
        )
    with pytest.raises(InvalidArgument, match="meanwhile 3: expected a callable"):
        crash_everywhere(handler, meanwhile=3)  # type: ignore[arg-type]
