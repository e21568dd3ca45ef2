"""A message that a branch takes just when another one wins is not lost, however deep it is."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta
from typing import Any, TypeVar

import pytest
from typing_extensions import override

from bluestreak_core import Context
from bluestreak_core.store import StoreWrapper
from bluestreak_core.testing import Environment

T = TypeVar("T")


class SlowToAnswer(StoreWrapper):
    """A store whose answer to `receive` is on its way for two seconds."""

    @override
    async def around(self, name: str, call: Callable[[], Awaitable[T]]) -> T:
        answer = await call()
        if name == "receive":
            await self.clock.sleep(timedelta(seconds=2))
        return answer


async def get(ctx: Context) -> Any:
    return await ctx.receive("get", "paid")


BRANCHES: dict[str, tuple[Callable[[Context], Awaitable[Any]], Any]] = {
    "directly": (get, 7),
    "in a task": (lambda ctx: asyncio.wait_for(asyncio.create_task(get(ctx)), None), 7),
    "in a race": (
        lambda ctx: ctx.race("inner", get=lambda: get(ctx), nap=lambda: ctx.sleep("nap", 9999)),
        ["get", 7],
    ),
    "in parallel": (lambda ctx: ctx.parallel("inner", {"get": get}), {"get": 7}),
}


@pytest.mark.parametrize("kind", BRANCHES)
def test_a_loser_that_has_taken_a_message_has_won(kind: str) -> None:
    branch, value = BRANCHES[kind]

    async def handle(ctx: Context, input: None) -> Any:
        return await ctx.race("r", paid=lambda: branch(ctx), expired=lambda: ctx.sleep("end", 10))

    with Environment(worker_store=SlowToAnswer) as env:
        env.register_handler("h", handle)
        env.start("w", "h")
        env.send_later("w", "paid", 7, delay=9.5)
        assert env.wait("w").result == ["paid", value]
