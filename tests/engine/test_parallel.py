"""Named branches at the same time, and scopes for their ids."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from bluestreak_core import (
    Context,
    InvalidArgument,
    InvalidId,
    Retry,
    Status,
    StepFailed,
    WorkflowAborted,
)
from bluestreak_core.testing import Environment, RecordingStore
from tests.engine.arrange import DAY, Fleet
from tests.engine.bad_input import BAD_IDS


async def ship(ctx: Context) -> str:
    """Three verbs under ids of one scope."""
    await ctx.step("pack", str)
    await ctx.sleep("wait", 3600)
    return await ctx.step("send", str.upper, "sent")


# Scopes -------------------------------------------------------------------------------------------


def test_ids_in_a_scope_have_its_prefix_and_scopes_nest() -> None:
    async def handle(ctx: Context, input: None) -> str:
        first, second = ctx.scope("a"), ctx.scope("b").scope("c")
        assert first.workflow_id == ctx.workflow_id
        await ship(first)
        await ship(second)
        await first.transaction("book", _write)
        assert first.idempotency_key("pack") == ctx.idempotency_key("a/pack")
        return await ship(ctx)

    async def _write(session: Any) -> None: ...

    with Environment() as env:
        outcome = env.run(handle)
    assert outcome.result == "SENT"
    ids = {f"{prefix}{step}" for prefix in ("", "a/", "b/c/") for step in ("pack", "send")}
    assert set(outcome.steps) == ids | {"a/book"}
    assert set(outcome.naps) == {"wait", "a/wait", "b/c/wait"}


def test_a_scope_receives_messages_under_its_ids() -> None:
    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.scope("a").receive("get", "paid", timeout=DAY)

    with Environment() as env:
        env.send_later("workflow", "paid", 7, delay=60)
        outcome = env.run(handle)
    assert outcome.result == 7
    assert set(outcome.receipts) == {"a/get"}


@pytest.mark.parametrize("bad_id", BAD_IDS.values(), ids=BAD_IDS)
def test_a_bad_id_of_a_scope_is_refused(bad_id: Any) -> None:
    async def handle(ctx: Context, input: None) -> None:
        ctx.scope(bad_id)

    with Environment() as env:
        outcome = env.run(handle)
    assert (outcome.status, outcome.workflow.failures) == (Status.ABORTED, 1)
    assert isinstance(outcome.errors[0], InvalidId)


def test_ids_get_too_long_in_many_scopes() -> None:
    async def handle(ctx: Context, input: None) -> None:
        for _ in range(3):
            ctx = ctx.scope("x" * 200)

    with Environment() as env:
        assert "InvalidId('scope id'" in repr(env.run(handle).errors[0])


# Branches -----------------------------------------------------------------------------------------


@pytest.mark.asyncio
async def test_branches_run_at_the_same_time_and_are_recorded(
    fleet: Fleet, store: RecordingStore
) -> None:
    calls: list[str] = []

    async def ask(ctx: Context) -> str:
        calls.append("acme")
        return await ctx.step("ask", str.upper, "acme")

    async def handle(ctx: Context, input: None) -> dict[str, str]:
        asked = {"acme": ask, "globex": lambda ctx: ctx.step("ask", str.upper, "globex")}
        quotes = await ctx.parallel("quotes", asked)
        await ctx.sleep("replay", DAY)
        return quotes

    async with fleet.polling(await fleet.parking(handle)) as bluestreak:
        await bluestreak.start("w", "h")
        await store.until_returned("park")
        step = await bluestreak.find_step("w", "quotes/acme/ask")
        branch = await bluestreak.find_step("w", "quotes/acme")
        assert step is not None
        assert branch is not None
        assert step.output == branch.output == "ACME"
        fleet.clock.advance(DAY)
        assert await bluestreak.wait("w") == {"acme": "ACME", "globex": "GLOBEX"}
    assert calls == ["acme"]


def test_branches_that_wait_are_parked_together() -> None:
    async def handle(ctx: Context, input: None) -> Any:
        runs.append(None)
        branches = {"a": ship, "b": ship, "c": lambda c: c.receive("r", "m")}
        return await ctx.parallel("ship", branches)

    runs: list[None] = []
    with Environment() as env:
        env.register_handler("h", handle)
        env.start("w", "h")
        env.advance(600)
        assert (env.outcome("w").status, env.runs) == (Status.IDLE, 0)
        env.send("w", "m", 7)
        assert env.wait("w").result == {"a": "SENT", "b": "SENT", "c": 7}
    assert len(runs) == 3


def test_a_limit_holds_for_branches() -> None:
    async def branch(ctx: Context) -> None:
        under_way.append(None)
        most.append(len(under_way))
        await ctx.step("s", asyncio.sleep, 1)
        under_way.pop()

    async def handle(ctx: Context, limit: int | None) -> None:
        await ctx.parallel("p", {str(n): branch for n in range(5)}, limit=limit)

    for limit, at_once in ((1, 1), (2, 2), (None, 5)):
        under_way: list[None] = []
        most: list[int] = []
        with Environment() as env:
            env.run(handle, limit)
        assert max(most) == at_once


def test_the_first_failure_ends_the_other_branches() -> None:
    async def fail(ctx: Context) -> None:
        await ctx.step("wait", asyncio.sleep, 1)
        raise ValueError("no")

    async def hang(ctx: Context) -> None:
        try:
            await asyncio.sleep(1e9)
        finally:
            ended.append("hang")

    async def handle(ctx: Context, input: None) -> str:
        try:
            await ctx.parallel("p", {"fail": fail, "hang": hang})
        except ExceptionGroup as group:
            return f"{group.message}, {group.exceptions!r}, {ended}"
        raise AssertionError

    ended: list[str] = []
    with Environment() as env:
        outcome = env.run(handle)
    assert outcome.result == "1 failure in parallel 'p', (ValueError('no'),), ['hang']"


def test_a_failure_that_is_tolerated_is_recorded_and_not_repeated() -> None:
    async def fail(ctx: Context) -> None:
        calls.append("fail")
        await ctx.step("give up", _raise, retry=Retry(max_attempts=1))

    async def work(ctx: Context) -> int:
        calls.append("work")
        await ctx.sleep("nap", DAY)
        return 7

    async def handle(ctx: Context, input: None) -> Any:
        outcomes = await ctx.parallel("p", {"fail": fail, "work": work}, tolerate=1)
        (failed,) = outcomes.exceptions.values()
        assert isinstance(failed, StepFailed)
        await ctx.sleep("replay", DAY)
        return [[found.value for found in outcomes], failed.step_id, failed.error_type]

    def _raise() -> None:
        raise ValueError("no")

    calls: list[str] = []
    with Environment() as env:
        outcome = env.run(handle)
    assert outcome.result == [[None, 7], "p/fail", "bluestreak_core.errors.StepFailed"]
    assert calls == ["fail", "work", "work"]


def test_a_branch_that_is_cancelled_from_within_has_failed() -> None:
    async def cancelled(ctx: Context) -> None:
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    async def handle(ctx: Context, input: None) -> list[str]:
        outcomes = await ctx.parallel("p", {"a": cancelled}, tolerate=1)
        return [error.message for error in outcomes.errors.values()]

    with Environment() as env:
        result = env.run(handle).result
    assert result == ["branch 'a' of parallel 'p' was cancelled from within"]


def test_no_branches_end_at_once() -> None:
    async def handle(ctx: Context, input: None) -> dict[str, None]:
        return await ctx.parallel("p", {})

    with Environment() as env:
        assert env.run(handle).result == {}


def test_parallels_may_be_nested() -> None:
    async def leaf(ctx: Context) -> str:
        return await ctx.step("s", str, "leaf")

    async def branch(ctx: Context) -> dict[str, str]:
        return await ctx.parallel("inner", {"x": leaf, "y": leaf})

    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.parallel("outer", {"a": branch, "b": branch})

    with Environment() as env:
        outcome = env.run(handle)
    assert outcome.result == {key: {"x": "leaf", "y": "leaf"} for key in "ab"}
    assert "outer/b/inner/y/s" in outcome.steps


@pytest.mark.parametrize(
    ("branches", "options", "match"),
    [
        ([ship], {}, "branches of parallel 'p'"),
        (None, {}, "branches of parallel 'p'"),
        ({"a": 3}, {}, "branch 'a' of 'p' 3: expected a function"),
        ({"a": ship}, {"limit": 0}, "limit of parallel 'p' 0"),
        ({"a": ship}, {"tolerate": -1}, "tolerate of parallel 'p' -1"),
        ({"": ship}, {}, "step id ''"),
        ({3: ship}, {}, "step id 3"),
    ],
)
def test_branches_that_cannot_be_meant_are_refused(
    branches: Any, options: dict[str, Any], match: str
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await ctx.parallel("p", branches, **options)

    with Environment() as env:
        outcome = env.run(handle)
        with pytest.raises(WorkflowAborted, match=match):
            env.call(env.bluestreak.wait("workflow"))
    assert (outcome.calls, outcome.steps, outcome.workflow.failures) == ([], {}, 1)
    assert isinstance(outcome.errors[0], InvalidArgument)


def test_a_branch_that_is_not_async_aborts_the_workflow_even_if_failures_are_tolerated() -> None:
    async def handle(ctx: Context, tolerate: int | None) -> None:
        branches: dict[str, Any] = {"a": lambda _: 3}
        await ctx.parallel("p", branches, tolerate=tolerate)

    for tolerate in (None, 1):
        with Environment() as env:
            outcome = env.run(handle, tolerate)
        assert (outcome.status, outcome.workflow.failures) == (Status.ABORTED, 1)
        (group,) = outcome.errors
        assert isinstance(group, ExceptionGroup)
        expected = "branch 'a' of parallel 'p' 3: expected an async function"
        assert str(group.exceptions[0]) == expected
