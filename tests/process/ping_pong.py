"""Two workflows that send each other a ball, each in the hands of any worker.

    python -m tests.process.ping_pong URL DATABASE    # a worker; the test starts several

A player waits in memory for a moment, and is then parked; some of its returns are so slow that the
other one is. A third workflow works before it looks into its mailbox.
"""

from __future__ import annotations

import asyncio
import sys
from dataclasses import dataclass

from bluestreak_core import Bluestreak, Context, Message
from bluestreak_mongo import MongoStore
from bluestreak_pydantic import PydanticCodec

BALL = Message("ball", int)
PAID = Message("paid", str)
PARK_AFTER = 0.05  # seconds
SLOW = 0.2  # seconds
SLOW_EVERY = 5


@dataclass(frozen=True)
class Game:
    """What a player is started with."""

    opponent: str
    serves: bool
    rallies: int


async def work(url: str, name: str) -> None:
    """Play, until the process is ended."""
    bluestreak = Bluestreak(
        MongoStore(url, database=name), park_after=PARK_AFTER, codec=PydanticCodec()
    )

    async def hit(opponent: str, ball: int, key: str) -> None:
        if ball % SLOW_EVERY == 0:
            await asyncio.sleep(SLOW)
        await bluestreak.send(opponent, BALL, ball, message_id=key)

    @bluestreak.handler("player")
    async def play(ctx: Context, game: Game) -> list[int]:
        async def strike(ball: int) -> None:
            step_id = f"hit-{ball}"
            await ctx.step(step_id, hit, game.opponent, ball, ctx.idempotency_key(step_id))

        seen: list[int] = []
        if game.serves:
            await strike(0)
        while len(seen) < game.rallies:
            ball = await ctx.receive(f"ball-{len(seen)}", BALL)
            seen.append(ball)
            if ball + 1 < 2 * game.rallies:
                await strike(ball + 1)
        return seen

    @bluestreak.handler("order")
    async def order(ctx: Context, input: None) -> str:
        await ctx.step("work", asyncio.sleep, SLOW)
        return await ctx.receive("paid", PAID, timeout=3600)

    async with bluestreak:
        await bluestreak.poll()


if __name__ == "__main__":
    asyncio.run(work(*sys.argv[1:]))
