"""The function of a step uses no verb of its own workflow's context."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest

from bluestreak_core import Context, Done, Retry, Status, UsedInStep
from bluestreak_core.testing import Environment

Use = Callable[[Context], Awaitable[Any]]


def nothing(*_: object) -> None: ...


async def nothing_async(*_: object) -> None: ...


def done(_: object) -> Done[None]:
    return Done(None)


VERBS: dict[str, Use] = {
    "callback": lambda ctx: ctx.callback("x", nothing),
    "child": lambda ctx: ctx.child("x", "other"),
    "compensation": lambda ctx: ctx.compensate("x", nothing),
    "map": lambda ctx: ctx.map("x", nothing, [1]),
    "map_children": lambda ctx: ctx.map_children("x", "other", [1]),
    "nap": lambda ctx: ctx.sleep("x", 0),
    "nap until": lambda ctx: ctx.sleep_until("x", datetime(2030, 1, 1, tzinfo=UTC)),
    "parallel": lambda ctx: ctx.parallel("x", {"a": nothing_async}),
    "poll": lambda ctx: ctx.poll("x", done, every=1),
    "publish": lambda ctx: ctx.publish("x", 1),
    "race": lambda ctx: ctx.race("x", a=nothing_async),
    "receive": lambda ctx: ctx.receive("x", "paid"),
    "receive any": lambda ctx: ctx.receive_any("x", ["paid"]),
    "restart": lambda ctx: ctx.restart(1),
    "start_child": lambda ctx: ctx.start_child("x", "other"),
    "step": lambda ctx: ctx.step("x", nothing),
    "step now": lambda ctx: ctx.now("x"),
    "step random": lambda ctx: ctx.random("x"),
    "step uuid": lambda ctx: ctx.uuid("x"),
    "transaction": lambda ctx: ctx.transaction("x", nothing_async),
}


async def in_step(ctx: Context, fn: Callable[..., Any]) -> Any:
    return await ctx.step("s", fn)


async def in_retried_step(ctx: Context, fn: Callable[..., Any]) -> Any:
    return await ctx.step("s", fn, retry=Retry(initial=0), timeout=60)


async def in_map(ctx: Context, fn: Callable[..., Any]) -> Any:
    return await ctx.map("s", fn, [1])


async def in_check(ctx: Context, fn: Callable[..., Any]) -> Any:
    return await ctx.poll("s", fn, every=1)


async def in_branch(ctx: Context, fn: Callable[..., Any]) -> Any:
    return await ctx.race("r", only=lambda: ctx.step("s", fn))


PLACES = [in_step, in_retried_step, in_map, in_check, in_branch]


def _refused(handler: Callable[[Context, None], Awaitable[Any]]) -> str:
    """What refused the verb, in a workflow that has then recorded nothing."""
    with Environment() as env:
        env.register_handler("other", nothing_async)
        env.register_handler("h", handler)
        env.start("w", "h")
        outcome = env.wait("w")
        life = env.call(env.bluestreak.describe("w"))
        assert env.call(env.bluestreak.count("handler_id")) == {"h": 1}
    assert (outcome.status, outcome.workflow.failures) == (Status.ABORTED, 1)
    assert (life.steps, life.naps, life.attempts, outcome.published) == ((), (), (), {})
    assert not outcome.workflow.compensates
    assert outcome.workflow.generation == 0
    assert outcome.workflow.error is not None
    assert UsedInStep.__name__ in outcome.workflow.error.traceback
    return outcome.workflow.error.traceback


@pytest.mark.parametrize("verb", VERBS)
@pytest.mark.parametrize("is_scoped", [False, True])
def test_no_verb_is_used_in_a_step(verb: str, is_scoped: bool) -> None:
    async def handle(ctx: Context, input: None) -> None:
        used = ctx.scope("y") if is_scoped else ctx
        await ctx.step("s", lambda: VERBS[verb](used))

    used_id = "'w'" if verb == "restart" else "'y/x'" if is_scoped else "'x'"
    kind = verb.partition(" ")[0]
    assert f"{kind} {used_id} cannot be used within step 's'" in _refused(handle)


@pytest.mark.parametrize("verb", VERBS)
def test_no_verb_is_used_in_a_task_that_a_step_has_created(verb: str) -> None:
    async def handle(ctx: Context, input: None) -> None:
        async def use() -> None:
            await VERBS[verb](ctx)

        async def careless() -> None:
            await asyncio.gather(use())

        await ctx.step("s", careless)

    assert " cannot be used within step 's'" in _refused(handle)


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("verb", ["map", "nap", "step"])
def test_wherever_the_step_is(place: Any, verb: str) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await place(ctx, lambda *_: VERBS[verb](ctx))

    assert " cannot be used within step 's" in _refused(handle)


def test_nor_in_an_event_loop_of_its_thread() -> None:
    async def handle(ctx: Context, input: None) -> None:
        async def use() -> None:
            await ctx.step("x", nothing_async)

        await ctx.step("s", functools.partial(_in_thread, use))

    assert "step 'x' cannot be used within step 's'" in _refused(handle)


def _in_thread(use: Callable[[], Any]) -> None:
    asyncio.run(use())


def test_a_task_that_a_step_leaves_behind_may_use_the_context_afterwards() -> None:
    async def handle(ctx: Context, input: None) -> Any:
        is_over = asyncio.Event()
        begun: list[asyncio.Task[str]] = []

        async def afterwards() -> str:
            await is_over.wait()
            return await ctx.step("after", str, "noted")

        async def begin() -> None:
            begun.append(asyncio.create_task(afterwards()))

        await ctx.step("s", begin)
        is_over.set()
        return await begun[0]

    with Environment() as env:
        assert env.run(handle).result == "noted"


def test_what_writes_nothing_may_be_used_in_a_step() -> None:
    async def handle(ctx: Context, input: None) -> list[str]:
        async def read() -> list[str]:
            return [ctx.scope("y").idempotency_key("s"), ctx.workflow_id, ctx.info.handler_id]

        return await ctx.step("s", read)

    with Environment() as env:
        env.register_handler("h", handle)
        env.start("w", "h")
        assert env.wait("w").result[1:] == ["w", "h"]
