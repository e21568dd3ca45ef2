"""The first of several branches, which stays the first in each later run."""

from __future__ import annotations

import asyncio
from collections.abc import Collection
from datetime import datetime, timedelta
from typing import Any

import pytest
from typing_extensions import override

from bluestreak_core import (
    Claim,
    Context,
    InvalidArgument,
    NoMessage,
    Status,
    Step,
    Store,
    Winner,
    WorkflowAborted,
)
from bluestreak_core.testing import Environment, RecordingStore, StoreWrapper
from tests.engine.arrange import DAY, Fleet


async def answer_or_expiry(ctx: Context, input: None) -> Any:
    winner = await ctx.race(
        "race",
        answer=lambda: ctx.receive("answer", "answer"),
        expiry=lambda: ctx.sleep("expiry", DAY),
    )
    await ctx.sleep("replay", DAY)
    return list(winner)


@pytest.mark.asyncio
async def test_the_winner_is_recorded_and_alone_runs_again(
    fleet: Fleet, store: RecordingStore
) -> None:
    calls: list[str] = []

    async def handle(ctx: Context, input: None) -> Any:
        async def fast() -> str:
            calls.append("fast")
            return await ctx.step("fast", str, "first")

        async def slow() -> str:
            calls.append("slow")
            await ctx.sleep("slow", DAY)
            return "second"

        name, value = await ctx.race("race", slow=slow, fast=fast)
        await ctx.sleep("replay", DAY)
        return [name, value]

    async with fleet.polling(await fleet.handling(handle)) as bluestreak:
        await bluestreak.start("w", "h")
        await store.until_returned("park")
        fleet.clock.advance(DAY)
        assert await bluestreak.wait("w") == ["fast", "first"]
        step = await bluestreak.find_step("w", "race")
    assert step is not None
    assert step.output == "fast"
    assert calls == ["slow", "fast", "fast"]


def test_a_message_or_the_end_of_a_nap_wins() -> None:
    for delay, result in ((3600, ["answer", 7]), (2 * DAY, ["expiry", None])):
        with Environment() as env:
            env.send_later("workflow", "answer", 7, delay=delay)
            outcome = env.run(answer_or_expiry)
            assert outcome.result == result


def test_a_message_that_comes_after_the_nap_has_won_waits_for_the_next_receive() -> None:
    async def handle(ctx: Context, input: None) -> Any:
        winner = await ctx.race(
            "race",
            answer=lambda: ctx.receive("answer", "answer"),
            expiry=lambda: ctx.sleep("expiry", DAY),
        )
        return [winner.name, await ctx.receive("late answer", "answer")]

    with Environment() as env:
        env.send_later("workflow", "answer", 7, delay=2 * DAY)
        assert env.run(handle).result == ["expiry", 7]


class SlowMailbox(StoreWrapper):
    """Answers some seconds after it has handed out a message."""

    @override
    async def receive(
        self, claim: Claim, step_id: str, names: Collection[str], now: datetime, *, give_up: bool
    ) -> Step | NoMessage:
        received = await super().receive(claim, step_id, names, now, give_up=give_up)
        if isinstance(received, Step):
            await self.clock.sleep(timedelta(seconds=10))
        return received


@pytest.mark.parametrize("in_memory", [5, 200])
def test_a_loser_that_is_taking_its_message_has_won(in_memory: int) -> None:
    async def handle(ctx: Context, input: None) -> Any:
        winner = await ctx.race(
            "race",
            expiry=lambda: ctx.sleep("expiry", 100),
            answer=lambda: ctx.receive("answer", "answer"),
        )
        return list(winner)

    with Environment(worker_store=SlowMailbox, park_after=in_memory) as env:
        env.send_later("workflow", "answer", 7, delay=95)
        outcome = env.run(handle)
    assert outcome.result == ["answer", 7]
    assert outcome.unread == []


def test_a_loser_that_only_waits_costs_no_look_at_the_store() -> None:
    async def handle(ctx: Context, input: None) -> str:
        answer = ctx.race(
            "race",
            answer=lambda: ctx.receive("answer", "answer"),
            expiry=lambda: ctx.sleep("expiry", 3),
        )
        return (await answer).name

    stores: list[RecordingStore] = []

    def recording(store: Store) -> Store:
        stores.append(RecordingStore(store))
        return stores[-1]

    with Environment(worker_store=recording) as env:
        assert env.run(handle).result == "expiry"
    assert stores[-1].begun["find_step"] == 0


def test_the_losers_have_ended_before_the_winner_is_returned() -> None:
    async def handle(ctx: Context, input: None) -> list[str]:
        async def slow() -> None:
            try:
                await asyncio.sleep(60)
            finally:
                await asyncio.sleep(1)
                ended.append("slow")

        winner = await ctx.race("race", slow=slow, fast=lambda: ctx.sleep("nap", 1))
        return [winner.name, *ended]

    ended: list[str] = []
    with Environment() as env:
        assert env.run(handle).result == ["fast", "slow"]


def test_of_branches_that_end_together_the_first_counts() -> None:
    async def handle(ctx: Context, input: None) -> str:
        async def end() -> None: ...

        return (await ctx.race("race", b=end, a=end, c=end)).name

    with Environment() as env:
        assert env.run(handle).result == "b"


def test_a_branch_that_raises_ends_the_race_and_nothing_is_recorded() -> None:
    async def handle(ctx: Context, input: None) -> str:
        async def fail() -> None:
            raise ValueError("no")

        try:
            await ctx.race("race", fail=fail, nap=lambda: ctx.sleep("nap", DAY))
        except ValueError as error:
            return f"raised {error}"
        raise AssertionError

    with Environment() as env:
        outcome = env.run(handle)
    assert outcome.result == "raised no"
    assert outcome.steps == {}


def test_a_branch_that_is_cancelled_from_within_raises() -> None:
    async def handle(ctx: Context, input: None) -> str:
        async def cancelled() -> None:
            future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
            future.cancel()
            await future

        try:
            await ctx.race("race", cancelled=cancelled)
        except RuntimeError as error:
            return str(error)
        raise AssertionError

    with Environment() as env:
        result = env.run(handle).result
    assert result == "branch 'cancelled' of race 'race' was cancelled from within"


def test_a_race_in_a_scope_and_a_race_in_a_race() -> None:
    async def handle(ctx: Context, input: None) -> Any:
        inner = ctx.scope("a")
        winner = await ctx.race(
            "race",
            nap=lambda: ctx.sleep("nap", DAY),
            race=lambda: inner.race("race", b=lambda: inner.step("s", str, "b")),
        )
        return [winner.name, list(winner.value or ())]

    with Environment() as env:
        outcome = env.run(handle)
    assert outcome.result == ["race", ["b", "b"]]
    assert outcome.steps == {"race": "race", "a/race": "b", "a/s": "b"}


@pytest.mark.parametrize(
    ("branches", "match"),
    [
        ({}, "branches of race 'race' {}: a race has branches"),
        ({"a": 3}, "branch 'a' of race 'race' 3: expected a callable"),
        ({"a": lambda: 3}, "branch 'a' of race 'race' 3: expected an async function"),
    ],
)
def test_branches_that_cannot_be_meant_abort_the_workflow(branches: Any, match: str) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.race("race", **branches)

    with Environment() as env:
        outcome = env.run(handle)
        with pytest.raises(WorkflowAborted, match=match):
            env.call(env.bluestreak.wait("workflow"))
    assert (outcome.steps, outcome.workflow.failures) == ({}, 1)
    assert isinstance(outcome.errors[0], InvalidArgument)


@pytest.mark.parametrize("recorded", ["another", {"a": 1}, None])
def test_a_recorded_winner_that_is_no_longer_there_aborts_the_workflow(recorded: Any) -> None:
    async def handle(ctx: Context, input: None) -> None:
        runs.append(None)
        if len(runs) == 1:
            await ctx.step("race", lambda: recorded)
        else:
            await ctx.race("race", a=lambda: ctx.step("s", str))
        await ctx.sleep("replay", DAY)

    runs: list[None] = []
    with Environment() as env:
        outcome = env.run(handle)
    assert outcome.status is Status.ABORTED
    assert f"the recorded winner is {recorded!r}" in str(outcome.errors[0])


def test_a_winner_is_a_pair() -> None:
    assert Winner("a", 1) == ("a", 1)
