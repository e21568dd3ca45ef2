"""What branches do, wherever a worker dies meanwhile; and what is unsafe about them is found."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import timedelta
from typing import Any

import pytest

from bluestreak_core import (
    Context,
    Done,
    PollTimeout,
    Retry,
    Status,
    StepInterrupted,
)
from bluestreak_core.testing import CrashUnsafe, Environment, Sweep, crash_everywhere
from bluestreak_core.testing.clock import START
from bluestreak_memory import MemorySession

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("unmeasured")]

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)


def calls_of(sweep: Sweep) -> set[str]:
    """The store calls at which it has crashed the worker."""
    return {point.call for point in sweep.crashes}


async def double(item: int) -> int:
    await asyncio.sleep(item)
    if item == 3:
        raise ValueError("no three")
    return 2 * item


# Map and parallel ---------------------------------------------------------------------------------


def test_a_map_has_the_same_results() -> None:
    async def handle(ctx: Context, input: None) -> list[int]:
        doubled = await ctx.map("double", double, [2, 0, 1, 4], limit=2, key=str)
        await ctx.sleep("nap", DAY)
        return doubled

    sweep = crash_everywhere(handle)
    assert sweep.outcome.result == [4, 0, 2, 8]
    assert {"save_step 'double/2'", "save_step 'double/4'"} <= calls_of(sweep)


def test_a_map_whose_items_fail_takes_the_same_path() -> None:
    async def handle(ctx: Context, input: None) -> Any:
        policy = Retry(max_attempts=2, initial=HOUR, jitter=0)
        outcomes = await ctx.map("double", double, [0, 1, 3, 5], retry=policy, tolerate=0.25)
        await ctx.sleep("nap", DAY)
        failed = [(found.key, found.error and found.error.message) for found in outcomes.failed]
        return [outcomes.ended_by, [found.value for found in outcomes.succeeded], failed]

    sweep = crash_everywhere(handle)
    assert sweep.outcome.result == ["all", [0, 2, 10], [["2", "no three"]]]
    assert sweep.outcome.workflow.failed_steps == ()
    assert {"save_attempt", "save_step 'double'"} <= calls_of(sweep)


def test_enough_stays_enough() -> None:
    """What is in flight at a crash may end before the others do, so it waits for nothing."""

    async def handle(ctx: Context, input: None) -> Any:
        outcomes = await ctx.map("ask", str, range(6), enough=3, limit=1)
        await ctx.step("report", str, [found.key for found in outcomes.skipped])
        return [outcomes.ended_by, outcomes.results()]

    sweep = crash_everywhere(handle)
    assert sweep.outcome.result == ["enough", ["0", "1", "2"]]


def test_branches_with_verbs_of_their_own_go_on_where_they_were() -> None:
    booked: dict[str, int] = {}

    async def book(session: MemorySession, name: str) -> None:
        session.set(booked, name, booked.get(name, 0) + 1)

    async def ship(ctx: Context) -> Any:
        await ctx.sleep("wait", HOUR)
        await ctx.transaction("book", book, "ship")
        return await ctx.receive("signature", "signed")

    async def bill(ctx: Context) -> str:
        await ctx.transaction("book", book, "bill")
        return await ctx.step("send", str, "sent")

    async def handle(ctx: Context, input: None) -> Any:
        return dict(await ctx.parallel("order", {"ship": ship, "bill": bill}))

    def sign(env: Environment) -> None:
        env.send_later("workflow", "signed", "ada", delay=DAY)

    sweep = crash_everywhere(handle, meanwhile=sign, before_each=booked.clear)
    assert sweep.outcome.result == {"ship": "ada", "bill": "sent"}
    assert booked == {"ship": 1, "bill": 1}


# Race ---------------------------------------------------------------------------------------------


async def answered_or_expired(ctx: Context, input: None) -> Any:
    winner = await ctx.race(
        "race",
        answer=lambda: ctx.receive("answer", "answer"),
        expiry=lambda: ctx.sleep("expiry", DAY),
    )
    await ctx.step(f"act on {winner.name}", str)
    return [winner.name, winner.value]


def answer(env: Environment) -> None:
    env.send_later("workflow", "answer", 7, delay=HOUR)


def answer_never(env: Environment) -> None: ...


@pytest.mark.parametrize(
    ("meanwhile", "result"), [(answer, ["answer", 7]), (answer_never, ["expiry", None])]
)
def test_a_race_has_the_same_winner(meanwhile: Any, result: Any) -> None:
    sweep = crash_everywhere(answered_or_expired, meanwhile=meanwhile)
    assert sweep.outcome.result == result
    assert "save_step 'race'" in calls_of(sweep)


def test_the_first_completed_task_is_a_decision_that_nobody_records() -> None:
    """After a nap of a day, both tasks are done at once, and the other one comes first."""

    async def handle(ctx: Context, input: None) -> str:
        slow = asyncio.create_task(ctx.step("slow", asyncio.sleep, 20, "slow"))
        fast = asyncio.create_task(ctx.step("fast", asyncio.sleep, 10, "fast"))
        done, _ = await asyncio.wait([slow, fast], return_when=asyncio.FIRST_COMPLETED)
        first = next(task for task in (slow, fast) if task in done).result()
        await asyncio.wait([slow, fast])
        return await ctx.step(f"act on {first}", str, first)

    with pytest.raises(CrashUnsafe) as raised:
        crash_everywhere(handle)
    found = {str(point): account for point, account in raised.value.differences.items()}
    assert any("result: 'slow', at first 'fast'" in account for account in found.values())


def test_as_completed_is_such_a_decision_too() -> None:
    async def handle(ctx: Context, input: None) -> list[str]:
        steps = [ctx.step(name, asyncio.sleep, wait, name) for name, wait in (("b", 9), ("a", 1))]
        order = [await step for step in asyncio.as_completed(steps)]
        await ctx.step("report", str, order)
        await ctx.sleep("nap", 1)
        return [str(item) for item in order]

    with pytest.raises(CrashUnsafe):
        crash_everywhere(handle)


def test_the_same_as_a_race_is_safe() -> None:
    async def handle(ctx: Context, input: None) -> str:
        winner = await ctx.race(
            "race",
            slow=lambda: ctx.step("slow", asyncio.sleep, 60, "slow"),
            fast=lambda: ctx.step("fast", asyncio.sleep, 10, "fast"),
        )
        return await ctx.step(f"act on {winner.name}", str, winner.value)

    assert crash_everywhere(handle).outcome.result == "fast"


# Poll ---------------------------------------------------------------------------------------------


def test_a_poll_goes_on_with_its_state() -> None:
    async def check(state: int | None) -> Done[str] | int:
        return Done("there") if state == 3 else (state or 0) + 1

    async def handle(ctx: Context, input: None) -> str:
        found: str = await ctx.poll("look", check, every=HOUR)
        return await ctx.step("use", str, found)

    sweep = crash_everywhere(handle)
    assert sweep.outcome.result == "there"
    assert {"save_step 'look/3'", "save_nap 'look/3'", "save_step 'look'"} <= calls_of(sweep)


def test_a_poll_without_a_result_ends_at_the_same_time() -> None:
    async def handle(ctx: Context, input: None) -> int:
        try:
            await ctx.poll("look", lambda _: None, every=HOUR, timeout=2.5 * HOUR)
        except PollTimeout as late:
            await ctx.step("give up", str)
            await ctx.sleep("nap", DAY)
            return late.attempts
        raise AssertionError

    sweep = crash_everywhere(handle)
    assert sweep.outcome.result == 3
    assert sweep.outcome.workflow.finished_at == START + 2.5 * HOUR + DAY


# At most once -------------------------------------------------------------------------------------


def test_a_step_that_is_called_at_most_once_never_is_called_twice() -> None:
    calls: Counter[str] = Counter()
    counted: list[int] = []

    def reset() -> None:
        counted.append(calls["fire"])
        calls.clear()

    async def fire() -> str:
        calls["fire"] += 1
        await asyncio.sleep(5)
        return "fired"

    async def handle(ctx: Context, input: None) -> str:
        try:
            return await ctx.step("fire", fire, at_most_once=True)
        except StepInterrupted:
            return await ctx.step("ask", str, "interrupted")

    with pytest.raises(CrashUnsafe) as raised:
        crash_everywhere(handle, before_each=reset)
    found = {str(point): account for point, account in raised.value.differences.items()}
    assert "just after store call 2, save_attempt" in found
    assert "just before store call 2, save_attempt" not in found
    assert all("result: 'interrupted', at first 'fired'" in account for account in found.values())
    assert max(counted) == 1


def test_with_a_retry_an_interruption_is_made_up_for() -> None:
    async def handle(ctx: Context, input: None) -> str:
        policy = Retry(max_attempts=3, initial=HOUR, jitter=0)
        return await ctx.step("fire", asyncio.sleep, 5, "fired", at_most_once=True, retry=policy)

    sweep = crash_everywhere(handle)
    assert (sweep.outcome.result, sweep.outcome.status) == ("fired", Status.FINISHED)
    assert "save_attempt" in calls_of(sweep)
