"""What a handler asks for sees the handler's context variables, and changes none of them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from contextvars import ContextVar
from typing import Any

import pytest

from bluestreak_core import Context, Retry
from bluestreak_core.testing import Environment

TENANT: ContextVar[str] = ContextVar("TENANT", default="nobody")


async def _note(seen: list[str], *_: Any) -> None:
    await asyncio.sleep(0)
    seen.append(TENANT.get())
    TENANT.set("changed")


def _note_in_a_thread(seen: list[str]) -> None:
    seen.append(TENANT.get())
    TENANT.set("changed")


async def _step(ctx: Context, seen: list[str]) -> None:
    await ctx.step("s", _note, seen)


async def _thread(ctx: Context, seen: list[str]) -> None:
    await ctx.step("s", _note_in_a_thread, seen)


async def _lambda(ctx: Context, seen: list[str]) -> None:
    await ctx.step("s", lambda: _note(seen))


async def _transaction(ctx: Context, seen: list[str]) -> None:
    async def write(_: object) -> None:
        await _note(seen)

    await ctx.transaction("s", write)


async def _attempts(ctx: Context, seen: list[str]) -> None:
    async def fail() -> None:
        await _note(seen)
        if len(seen) < 3:
            raise LookupError

    await ctx.step("s", fail, retry=Retry(initial=1))


USES = [_step, _thread, _lambda, _transaction, _attempts]


@pytest.mark.parametrize("use", USES)
def test_a_function_sees_the_variables_of_the_line_that_calls_it(
    use: Callable[[Context, list[str]], Awaitable[None]],
) -> None:
    async def handle(ctx: Context, input: None) -> str:
        TENANT.set("ada")
        await use(ctx, seen)
        return TENANT.get()

    seen: list[str] = []
    with Environment() as env:
        assert env.run(handle).result == "ada"
    assert seen == ["ada"] * len(seen) != []


@pytest.mark.parametrize("use", USES)
def test_a_replay_sees_the_variables_that_the_first_run_saw(
    use: Callable[[Context, list[str]], Awaitable[None]],
) -> None:
    async def handle(ctx: Context, input: None) -> None:
        await use(ctx, [])
        after.append(TENANT.get())
        if len(after) == 1:
            raise LookupError

    after: list[str] = []
    with Environment() as env:
        env.run(handle)
    assert after == ["nobody", "nobody"]


def test_a_compensation_sees_the_variables_of_the_line_that_asked_for_it() -> None:
    seen: list[str] = []

    async def handle(ctx: Context, input: None) -> None:
        for tenant in ("ada", "bob"):
            TENANT.set(tenant)
            await ctx.compensate(f"async {tenant}", _note, seen)
            await ctx.compensate(f"thread {tenant}", _note_in_a_thread, seen)
        TENANT.set("eve")
        await ctx.sleep("nap", 3600)

    with Environment() as env:
        env.register_handler("h", handle)
        env.start("w", "h")
        env.advance(1)
        env.call(env.bluestreak.cancel("w"))
        env.advance(60)
    assert seen == ["bob", "bob", "ada", "ada"]


@pytest.mark.parametrize("is_async", [True, False])
def test_the_error_callback_sees_the_variables_that_the_handler_has_left(is_async: bool) -> None:
    seen: list[str] = []

    async def handle(ctx: Context, tenant: str) -> None:
        TENANT.set(tenant)
        raise LookupError

    hear = _note if is_async else _note_in_a_thread
    with Environment(max_failures=1, error_callback=lambda *_: hear(seen)) as env:
        env.register_handler("h", handle)
        for tenant in ("ada", "bob"):
            env.start(tenant, "h", tenant)
        env.advance(60)
    assert sorted(seen) == ["ada", "ada", "bob", "bob"]


def test_what_one_run_sets_does_not_reach_another() -> None:
    async def handle(ctx: Context, input: None) -> str:
        before = TENANT.get()
        TENANT.set("changed")
        return before

    with Environment() as env:
        results = [env.run(handle, workflow_id=name).result for name in ("one", "two")]
    assert results == ["nobody", "nobody"]
