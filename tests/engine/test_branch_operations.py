"""Branches and the rest of a run: stopping, parking, deadlines, transactions, late calls."""

from __future__ import annotations

import asyncio
from collections import Counter
from datetime import datetime, timedelta
from typing import Any

import pytest
from typing_extensions import override

from bluestreak_core import Claim, Context, Done, Status, Store, WorkflowAborted
from bluestreak_core.testing import Environment, RecordingStore, StoreWrapper
from tests.engine.arrange import DAY, Fleet, on_memory, workflow_of

MINUTE = timedelta(minutes=1)


async def slow(item: int) -> int:
    await asyncio.sleep(10)
    return item


async def nap(ctx: Context) -> str:
    await ctx.sleep("nap", MINUTE)
    return "awake"


async def in_map(ctx: Context, fn: Any) -> Any:
    return await ctx.map("use", fn, [1])


async def in_parallel(ctx: Context, fn: Any) -> Any:
    return await ctx.parallel("use", {"1": lambda _: fn(1)})


async def in_race(ctx: Context, fn: Any) -> Any:
    return await ctx.race("use", first=lambda: fn(1))


async def in_poll(ctx: Context, fn: Any) -> Any:
    async def check(_: None) -> Done[None]:
        await fn(1)
        return Done(None)

    return await ctx.poll("use", check, every=60)


USES = [in_map, in_parallel, in_race, in_poll]


# Stopping and parking -----------------------------------------------------------------------------


def test_a_worker_that_stops_lets_calls_end_and_leaves_the_others_to_the_next_one() -> None:
    calls: Counter[int] = Counter()

    async def call(item: int) -> int:
        calls[item] += 1
        return await slow(item)

    async def handle(ctx: Context, input: None) -> list[int]:
        return await ctx.map("m", call, range(6), limit=2)

    for drain_timeout, most in ((60, 1), (0, 2)):
        calls.clear()
        with Environment(drain_timeout=drain_timeout) as env:
            env.register_handler("h", handle)
            env.start("w", "h")
            env.advance(15)
            env.restart()
            assert env.wait("w").result == list(range(6))
            workflow = env.outcome("w").workflow
        assert (workflow.failures, workflow.crashes) == (0, 0)
        assert max(calls.values()) == most


def test_a_worker_that_stops_parks_branches_at_once() -> None:
    async def handle(ctx: Context, input: None) -> Any:
        runs.append(None)
        return await ctx.parallel("p", {"a": nap, "b": nap, "c": lambda c: c.receive("r", "m")})

    runs: list[None] = []
    with Environment(park_after=DAY) as env:
        env.register_handler("h", handle)
        env.start("w", "h")
        env.advance(5)
        env.restart()
        env.send("w", "m", 7)
        assert env.wait("w").result == {"a": "awake", "b": "awake", "c": 7}
    assert len(runs) == 2


def test_branches_are_not_parked_while_one_of_them_works() -> None:
    async def work(ctx: Context) -> str:
        return await ctx.step("work", asyncio.sleep, 3600, "worked")

    async def handle(ctx: Context, input: None) -> Any:
        runs.append(None)
        return await ctx.parallel("p", {"nap": nap, "work": work})

    runs: list[None] = []
    with Environment() as env:
        assert env.run(handle).result == {"nap": "awake", "work": "worked"}
    assert len(runs) == 1


def test_a_deadline_ends_all_branches() -> None:
    ended: list[int] = []

    async def hang(item: int) -> None:
        try:
            await asyncio.sleep(1e6)
        finally:
            ended.append(item)

    async def handle(ctx: Context, input: None) -> None:
        await ctx.map("m", hang, range(9), limit=3, tolerate=1.0)

    with Environment() as env:
        outcome = env.run(handle, policy={"deadline": 60})
    assert outcome.status is Status.ABORTED
    assert "DeadlineExceeded" in str(outcome.workflow.error)
    assert (ended, outcome.steps) == ([0, 1, 2], {})


def test_a_branch_that_swallows_its_cancellation_is_cancelled_at_its_next_call() -> None:
    async def stubborn(ctx: Context) -> None:
        try:
            await asyncio.sleep(1e6)
        except asyncio.CancelledError:
            await ctx.step("after", str)

    async def fail(ctx: Context) -> None:
        await ctx.sleep("wait", 1)
        raise ValueError("no")

    async def handle(ctx: Context, input: None) -> str:
        try:
            await ctx.parallel("p", {"stubborn": stubborn, "fail": fail})
        except ExceptionGroup:
            return "failed"
        raise AssertionError

    with Environment() as env:
        outcome = env.run(handle)
    assert outcome.result == "failed"


# Runs that overlap --------------------------------------------------------------------------------


class Outrun(StoreWrapper):
    """Another run records its own decision just before."""

    decision: Any = None

    @override
    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        if step_id == "use":
            await super().save_step(claim, step_id, self.decision, now)
        return await super().save_step(claim, step_id, output, now)


def outrun_by(decision: Any) -> Any:
    """The store of a worker that another run with this decision is ahead of."""

    def wrap(store: Store) -> Store:
        outrun = Outrun(store)
        outrun.decision = decision
        return outrun

    return wrap


def test_the_winner_that_another_run_has_recorded_wins() -> None:
    async def handle(ctx: Context, input: None) -> Any:
        a, b = (lambda: ctx.step("a", str, "a")), (lambda: ctx.step("b", str, "b"))
        winner = await ctx.race("use", a=a, b=b)
        seen.append(winner.name)
        return list(winner)

    seen: list[str] = []
    with Environment(worker_store=outrun_by("b")) as env:
        outcome = env.run(handle)
    assert (outcome.result, seen) == (["b", "b"], ["b"])
    assert (outcome.workflow.claims, outcome.workflow.failures) == (2, 0)


def test_what_another_run_has_decided_about_branches_holds() -> None:
    async def handle(ctx: Context, input: None) -> Any:
        outcomes = await ctx.map("use", str, range(3), enough=3)
        seen.append(outcomes.ended_by)
        return [found.status for found in outcomes]

    seen: list[str] = []
    decision: Any = {"ended_by": "enough", "failed": [], "skipped": ["1"]}
    with Environment(worker_store=outrun_by(decision)) as env:
        outcome = env.run(handle)
    assert outcome.result == ["succeeded", "skipped", "succeeded"]
    assert (seen, outcome.workflow.claims, outcome.workflow.failures) == (["enough"], 2, 0)


# Mistakes -----------------------------------------------------------------------------------------


@pytest.mark.asyncio
@pytest.mark.parametrize("use", USES)
@on_memory
async def test_none_is_used_in_a_transaction(fleet: Fleet, use: Any) -> None:
    async def handle(ctx: Context, input: None) -> None:
        async def write(session: Any) -> None:
            await use(ctx, slow)

        await ctx.transaction("t", write)

    async with fleet.polling(await fleet.handling(handle)) as bluestreak:
        await bluestreak.start("w", "h")
        with pytest.raises(WorkflowAborted, match="UsedInTransaction"):
            await bluestreak.wait("w")
        assert (await workflow_of(bluestreak)).failures == 1


@pytest.mark.parametrize("use", [in_map, in_poll])
def test_no_call_of_a_step_waits_for_a_message(use: Any) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await use(ctx, lambda _: ctx.receive("get", "paid"))

    with Environment() as env:
        outcome = env.run(handle)
    assert (outcome.status, outcome.workflow.failures) == (Status.ABORTED, 1)
    assert "UsedInStep" in repr(outcome.errors[0])


def test_two_branches_do_not_wait_for_the_same_message() -> None:
    async def receive(ctx: Context) -> Any:
        return await ctx.receive("get", "paid")

    async def handle(ctx: Context, input: None) -> None:
        await ctx.parallel("p", {"a": receive, "b": receive}, tolerate=2)

    with Environment() as env:
        outcome = env.run(handle)
    assert outcome.status is Status.ABORTED
    assert "AlreadyReceiving" in repr(outcome.errors[0])


@pytest.mark.parametrize("use", USES)
def test_what_is_not_awaited_is_noticed(use: Any) -> None:
    async def handle(ctx: Context, input: None) -> None:
        match use.__name__:
            case "in_map":
                ctx.map("use", slow, [1])  # type: ignore[unused-coroutine]
            case "in_parallel":
                ctx.parallel("use", {"a": nap})  # type: ignore[unused-coroutine]
            case "in_race":
                ctx.race("use", a=lambda: nap(ctx))  # type: ignore[unused-coroutine]
            case _:
                ctx.poll("use", lambda _: Done(1), every=60)  # type: ignore[unused-coroutine]

    with Environment() as env:
        outcome = env.run(handle)
    verb = use.__name__.removeprefix("in_")
    assert f"ctx.{verb}('use', ...)" in str(outcome.errors[0])


def test_a_step_that_a_branch_does_not_await_is_noticed() -> None:
    async def forget(ctx: Context) -> None:
        ctx.step("forgotten", str)  # type: ignore[unused-coroutine]

    async def handle(ctx: Context, input: None) -> None:
        await ctx.parallel("p", {"a": forget})

    with Environment() as env:
        assert "NotAwaited" in repr(env.run(handle).errors[0])


def test_an_output_that_cannot_be_stored_aborts_whatever_is_tolerated() -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.map("m", lambda _: object(), range(3), tolerate=1.0)

    with Environment() as env:
        outcome = env.run(handle)
    assert (outcome.status, outcome.workflow.failures) == (Status.ABORTED, 1)
    assert "UnstorableValue" in repr(outcome.errors[0])


@pytest.mark.asyncio
async def test_a_call_that_ends_after_the_map_records_nothing(
    fleet: Fleet, store: RecordingStore
) -> None:
    """A thread cannot be cancelled; its result is dropped."""
    loop = asyncio.get_running_loop()
    begun, go_on, done = asyncio.Event(), asyncio.Event(), asyncio.Event()

    def block(item: int) -> int:
        loop.call_soon_threadsafe(begun.set)
        asyncio.run_coroutine_threadsafe(go_on.wait(), loop).result(30)
        loop.call_soon_threadsafe(done.set)
        return item

    async def fail() -> None:
        await begun.wait()  # a call that waits for its thread could be cancelled
        raise ValueError("no")

    async def call(item: int) -> Any:
        return await fail() if item else await asyncio.to_thread(block, item)

    async def handle(ctx: Context, input: None) -> str:
        try:
            await ctx.map("m", call, range(2))
        except ExceptionGroup:
            return "failed"
        raise AssertionError

    async with fleet.polling(await fleet.handling(handle)) as bluestreak:
        await bluestreak.start("w", "h")
        assert await bluestreak.wait("w") == "failed"
        go_on.set()
        await done.wait()
        assert await bluestreak.find_step("w", "m/0") is None
    assert store.begun["save_step"] == 0
