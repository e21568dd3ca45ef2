"""Workflows that publish and restart, wherever a worker dies meanwhile."""

from __future__ import annotations

import asyncio
import itertools
import random
from datetime import timedelta

import pytest

from bluestreak_core import Context, MessageTimeout, Retry, Status, StepFailed
from bluestreak_core.testing import CrashUnsafe, Environment, Sweep, crash_everywhere
from bluestreak_core.testing.clock import START
from bluestreak_memory import MemorySession

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unmeasured")]

DAY = timedelta(days=1)


def calls_of(sweep: Sweep) -> set[str]:
    return {point.call.split(" ")[0] for point in sweep.crashes}


# Publishing ---------------------------------------------------------------------------------------


def test_the_last_value_is_published_wherever_the_worker_dies() -> None:
    async def handle(ctx: Context, input: None) -> int:
        rows = 0
        for number in range(3):
            rows += await ctx.step(f"chunk {number}", int, 10)
            await ctx.publish("progress", {"rows": rows})
            await ctx.publish("chunk", number)
        await ctx.sleep("rest", DAY)
        await ctx.publish("progress", "done")
        return rows

    sweep = crash_everywhere(handle)
    assert sweep.outcome.published == {"progress": "done", "chunk": 2}
    assert "publish" in calls_of(sweep)


def test_a_value_that_is_another_one_in_each_run_is_found() -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("s", int)
        await ctx.publish("run", next(runs))

    runs = itertools.count()
    with pytest.raises(CrashUnsafe) as raised:
        crash_everywhere(handle)
    lines = {line for account in raised.value.differences.values() for line in account}
    assert any(line.startswith("published values: {'run': ") for line in lines)


# Restarting ---------------------------------------------------------------------------------------


class Bank:
    """Counts what is charged, by step and period."""

    def __init__(self) -> None:
        self.charged: dict[str, int] = {}
        self.counts: list[dict[str, int]] = []

    def reset(self) -> None:
        self.counts.append(dict(self.charged))
        self.charged.clear()

    async def charge(self, session: MemorySession, period: int) -> int:
        session.set(self.charged, f"{period}", self.charged.get(f"{period}", 0) + 1)
        await asyncio.sleep(1)
        return period


def test_each_generation_does_its_work_once() -> None:
    bank = Bank()

    async def subscription(ctx: Context, period: int) -> str:
        await ctx.publish("period", period)
        await ctx.transaction("charge", bank.charge, period)
        await ctx.sleep("month", 30 * DAY)
        await ctx.step("mail", str, period)
        if period < 3:
            await ctx.restart(period + 1)
        return f"ended after {period}"

    sweep = crash_everywhere(subscription, 1, before_each=bank.reset)
    assert sweep.outcome.result == "ended after 3"
    assert sweep.outcome.workflow.generation == 2
    assert sweep.outcome.steps == {"charge": 3, "mail": "3"}
    assert sweep.outcome.published == {"period": 3}
    assert all(counts == {"1": 1, "2": 1, "3": 1} for counts in bank.counts[1:])
    assert "restart" in calls_of(sweep)


def test_what_was_drawn_by_chance_is_compared_by_generation() -> None:
    async def handle(ctx: Context, numbers: list[float]) -> list[float]:
        numbers.append(await ctx.step("draw", random.random))
        if len(numbers) < 3:
            await ctx.restart(numbers)
        return numbers

    sweep = crash_everywhere(handle, [])
    assert len(set(sweep.outcome.result)) == 3


def test_each_payload_is_handled_once_over_all_generations() -> None:
    async def worker(ctx: Context, handled: list[str]) -> list[str]:
        for number in range(2):
            payload = await ctx.receive(f"receive {number}", "job")
            handled.append(await ctx.step(f"handle {number}", str, payload))
        if len(handled) < 6:
            await ctx.restart(handled)
        return handled

    def send(env: Environment) -> None:
        for number, delay in enumerate((0, 0, 5, 60, 61, 86_400, 86_400)):
            env.send_later("workflow", "job", f"{number}", delay=delay, message_id=f"id {number}")

    sweep = crash_everywhere(worker, [], meanwhile=send)
    assert sweep.outcome.result == ["0", "1", "2", "3", "4", "5"]
    assert [message.message_id for message in sweep.outcome.unread] == ["id 6"]
    assert {"restart", "park_until_message"} <= calls_of(sweep)


def test_a_restart_ends_branches_and_forgets_attempts_and_failures() -> None:
    async def fails(period: int) -> None:
        raise ConnectionError(f"in period {period}")

    async def handle(ctx: Context, period: int) -> str:
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(ctx.step("fails", fails, period, retry=Retry(max_attempts=2)))
                group.create_task(ctx.receive("never", "message"))
        except* StepFailed as errors:
            failure = str(errors.exceptions[0])
        if period < 2:
            async with asyncio.TaskGroup() as group:
                group.create_task(ctx.sleep("long", DAY))
                group.create_task(ctx.receive("still never", "message"))
                await ctx.restart(period + 1)
        return failure

    sweep = crash_everywhere(handle, 1)
    assert "in period 2" in sweep.outcome.result
    assert [failed.step_id for failed in sweep.outcome.workflow.failed_steps] == ["fails"]
    assert sweep.outcome.workflow.failures == 0


def test_a_timeout_of_the_last_generation_does_not_reach_the_next_one() -> None:
    async def handle(ctx: Context, period: int) -> str:
        try:
            answer: str = await ctx.receive("wait", "answer", timeout=3600)
        except MessageTimeout:
            await ctx.restart(period + 1)
        return answer

    sweep = crash_everywhere(
        handle, 1, meanwhile=lambda env: env.send_later("workflow", "answer", "yes", delay=9000)
    )
    assert sweep.outcome.result == "yes"
    assert sweep.outcome.workflow.generation == 2
    assert sweep.outcome.workflow.finished_at == START + timedelta(seconds=9000)


def test_a_restarted_workflow_is_controlled_from_outside() -> None:
    async def handle(ctx: Context, period: int) -> int:
        await ctx.step("s", int, period)
        await ctx.sleep("rest", DAY)
        if period < 3:
            await ctx.restart(period + 1)
        return period

    def meanwhile(env: Environment) -> None:
        env.advance(1.5 * DAY)
        env.call(env.bluestreak.pause("workflow"))
        env.advance(DAY)
        env.call(env.bluestreak.fork("workflow", "forked"))
        env.call(env.bluestreak.resume("workflow"))
        env.call(env.bluestreak.cancel("workflow"))
        env.call(env.bluestreak.retry("workflow"))

    sweep = crash_everywhere(handle, 1, meanwhile=meanwhile)
    assert sweep.outcome.result == 3
    assert sweep.outcomes["forked"].result == 3
    assert sweep.outcome.workflow.generation == 2
    assert sweep.outcomes["forked"].workflow.generation == 1


def test_a_deadline_counts_anew() -> None:
    async def handle(ctx: Context, period: int) -> None:
        await ctx.sleep("rest", DAY)
        if period < 3:
            await ctx.restart(period + 1)
        await ctx.sleep("too long", DAY)

    sweep = crash_everywhere(handle, 1, policy={"deadline": 1.5 * DAY})
    assert sweep.outcome.status is Status.ABORTED
    assert sweep.outcome.workflow.generation == 2
    assert sweep.outcome.workflow.error is not None
    assert sweep.outcome.workflow.error.type.endswith("DeadlineExceeded")


# What is unsafe -----------------------------------------------------------------------------------


def test_a_restart_that_depends_on_the_run_is_found() -> None:
    async def handle(ctx: Context, period: int) -> int:
        await ctx.step("s", int, period)
        if period < 2 and next(runs) < 3:
            await ctx.restart(period + 1)
        return period

    runs = itertools.count()
    with pytest.raises(CrashUnsafe) as raised:
        crash_everywhere(handle, 1)
    lines = {line for account in raised.value.differences.values() for line in account}
    assert "restarts: 0, at first 1" in lines
