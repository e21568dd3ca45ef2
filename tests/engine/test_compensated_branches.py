"""What branches have registered is undone, also if later runs do not call them again."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any

import pytest

from bluestreak_core import Abort, Context, Retry, Status, UsedInStep
from bluestreak_core.testing import Environment
from tests.engine.arrange import DAY

Case = Callable[[Context], Awaitable[Any]]

done: list[str] = []


@pytest.fixture(autouse=True)
def _nothing_done() -> None:
    done.clear()


async def do(what: str) -> str:
    done.append(what)
    return what


async def book(ctx: Context) -> str:
    """Two steps; the first is undone as soon as it is done."""
    await ctx.step("book", do, "book")
    await ctx.compensate("cancel", do, "cancel")
    return await ctx.step("confirm", do, "confirm")


async def book_and_wait(ctx: Context) -> None:
    await book(ctx)
    await ctx.sleep("wait", 2 * DAY)


async def book_and_fail(ctx: Context) -> None:
    await book(ctx)
    raise ValueError("sold out")


async def short(ctx: Context) -> None:
    await ctx.sleep("short", 60)


async def in_parallel(ctx: Context) -> None:
    await ctx.parallel("all", {"flight": book})


async def at_once(ctx: Context) -> None:
    """The handler waits in the branches themselves."""
    await ctx.parallel("all", {"flight": book, "later": book_and_wait})


async def that_failed(ctx: Context) -> None:
    await ctx.parallel("all", {"flight": book_and_fail}, tolerate=1)


async def that_was_skipped(ctx: Context) -> None:
    await ctx.parallel("all", {"flight": book_and_wait, "short": short}, enough=1)


async def that_lost_a_race(ctx: Context) -> None:
    await ctx.race("first", flight=lambda: book_and_wait(ctx), short=lambda: short(ctx))


async def that_won_a_race(ctx: Context) -> None:
    await ctx.race("first", wait=lambda: ctx.sleep("wait", DAY), flight=lambda: book(ctx))


async def in_nested_branches(ctx: Context) -> None:
    async def inner(ctx: Context) -> None:
        await ctx.parallel("inner", {"flight": that_lost_a_race})

    async def outer(ctx: Context) -> None:
        await ctx.parallel("outer", {"inner": inner}, tolerate=0)

    await ctx.scope("trip").race(
        "nested", outer=lambda: outer(ctx.scope("trip")), other=lambda: ctx.sleep("other", DAY)
    )


CASES: dict[str, tuple[Case, int]] = {
    "recorded": (in_parallel, 1),
    "still running": (at_once, 2),
    "failed": (that_failed, 1),
    "skipped": (that_was_skipped, 1),
    "lost": (that_lost_a_race, 1),
    "won": (that_won_a_race, 1),
    "nested": (in_nested_branches, 1),
}


@pytest.mark.parametrize("case", CASES)
def test_what_a_branch_has_done_is_undone(case: str) -> None:
    branches, times = CASES[case]

    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("begin", do, "begin")
        await branches(ctx)
        await ctx.compensate("last", do, "last")
        await ctx.sleep("nap", 10 * DAY)

    with Environment() as env:
        env.register_handler("h", handle)
        env.start("w", "h")
        env.advance(timedelta(minutes=10))
        before = list(done)
        assert env.call(env.bluestreak.cancel("w"))
        assert env.wait("w").status is Status.CANCELLED
    assert before.count("book") == times
    last = ["last"] if case != "still running" else []
    assert done[len(before) :] == last + ["cancel"] * times


@pytest.mark.parametrize("case", CASES)
def test_an_abort_after_branches_undoes_them(case: str) -> None:
    branches, times = CASES[case]

    async def handle(ctx: Context, input: None) -> None:
        await branches(ctx)
        await ctx.sleep("nap", DAY)
        raise Abort("enough")

    with Environment() as env:
        assert env.run(handle).status is Status.ABORTED
    assert done.count("cancel") == done.count("book") == times


def test_a_branch_that_fails_undoes_the_others() -> None:
    """The classic saga: what can be booked at the same time is booked or not, all together."""

    async def hotel(ctx: Context) -> None:
        await ctx.sleep("a moment", 5)
        raise Abort("no room")

    async def handle(ctx: Context, input: None) -> None:
        await ctx.parallel("trip", {"flight": book, "hotel": hotel})

    with Environment() as env:
        assert env.run(handle).status is Status.ABORTED
    assert done == ["book", "confirm", "cancel"]


def test_a_branch_that_has_not_begun_is_not_undone() -> None:
    def asking(name: str) -> Callable[[Context], Awaitable[None]]:
        async def ask(ctx: Context) -> None:
            await ctx.compensate("cancel", do, f"cancel {name}")
            await ctx.step("ask", do, "ask")
            await ctx.sleep("nap", DAY)

        return ask

    async def handle(ctx: Context, input: None) -> None:
        await ctx.parallel("all", {name: asking(name) for name in "abc"}, limit=1)

    with Environment() as env:
        env.register_handler("h", handle)
        env.start("w", "h")
        env.advance(DAY + timedelta(hours=1))
        assert done == ["ask", "ask"]
        env.call(env.bluestreak.cancel("w"))
        env.wait("w")
    assert sorted(done[2:]) == ["cancel a", "cancel b"]


def test_a_compensation_within_a_step_is_refused() -> None:
    """The replay calls no step, and so would not find it."""

    async def handle(ctx: Context, input: None) -> None:
        async def careless(item: int = 0) -> None:
            await ctx.compensate(f"undo {item}", do, "undo")

        await ctx.map("each", careless, [1])

    with Environment() as env:
        outcome = env.run(handle)
    assert outcome.status is Status.ABORTED
    assert outcome.workflow.error is not None
    assert UsedInStep.__name__ in outcome.workflow.error.traceback
    assert not outcome.workflow.compensates


# What `except Exception` does not catch -----------------------------------------------------------


class Unusual(BaseException):
    """An error that `except Exception` does not catch."""


UNUSUAL: list[BaseException] = [
    Unusual("odd"),
    SystemExit(3),
    BaseExceptionGroup("both", [Abort("enough"), KeyboardInterrupt()]),
    asyncio.CancelledError("odd"),
]


@pytest.mark.parametrize("error", UNUSUAL, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize("verb", ["parallel", "tolerant", "race"])
def test_a_branch_may_raise_anything(error: BaseException, verb: str) -> None:
    async def fail(ctx: Context | None = None) -> None:
        raise error

    async def handle(ctx: Context, input: None) -> Any:
        if verb == "race":
            return await ctx.race("first", fail=fail, wait=lambda: ctx.sleep("nap", DAY))
        if verb == "parallel":
            return await ctx.parallel("all", {"fail": fail, "short": short})
        outcomes = await ctx.parallel("all", {"fail": fail, "short": short}, tolerate=1)
        return [found.error and found.error.message for found in outcomes.failed]

    with Environment(max_failures=0) as env:
        outcome = env.run(handle)
    if isinstance(error, BaseExceptionGroup):
        assert (outcome.status, outcome.workflow.failures) == (Status.ABORTED, 1)
    elif verb == "tolerant":
        (message,) = outcome.result
        assert message.startswith("branch 'fail' of parallel 'all' ")
    else:
        assert outcome.workflow.error is not None
        assert "branch 'fail' of " in outcome.workflow.error.traceback


def test_retries_within_branches_are_given_up_before_they_are_undone() -> None:
    async def fail() -> None:
        raise ConnectionError("down")

    async def pay(ctx: Context) -> None:
        await book(ctx)
        await ctx.step("pay", fail, retry=Retry(max_attempts=2, initial=DAY, jitter=0))

    async def handle(ctx: Context, input: None) -> None:
        await ctx.parallel("all", {"pay": pay, "flight": book})

    with Environment() as env:
        assert env.run(handle).status is Status.ABORTED
    assert done == ["book", "confirm"] * 2 + ["cancel"] * 2
