"""A worker process: `python -m tests.process.program URL DATABASE OPTIONS`, with options as JSON.

Each call of a step leaves a document in the collection `effects`. In the step named by the option
`linger_in`, a worker says so and stays there for `linger` seconds; with the option `block` that is
`time.sleep`. With the option `renewal_url`, leases are renewed by it when that blocks the loop.
"""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import sys
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase

from bluestreak_core import Bluestreak, Context, Handler, StepInterrupted
from bluestreak_mongo import MongoStore

STEPS = ("a", "b", "c")


async def work(url: str, database: str, options: dict[str, Any]) -> None:
    linger_in, linger = options.pop("linger_in", None), options.pop("linger", 3600)
    block, renewal_url = options.pop("block", False), options.pop("renewal_url", None)
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(url)
    store = MongoStore.from_database(client[database], renewal_url=renewal_url)
    bluestreak = Bluestreak(store, **options)

    async def effect(workflow_id: str, step_id: str) -> int:
        document = {"workflow": workflow_id, "step": step_id, "pid": os.getpid()}
        await client[database].effects.insert_one(document)
        if step_id == linger_in:
            sys.stdout.write(f"in {step_id}\n")
            sys.stdout.flush()
            if block:
                time.sleep(linger)  # noqa: ASYNC251 - which is what is tested
            await asyncio.sleep(0 if block else linger)
        return os.getpid()

    @bluestreak.handler("steps")
    async def steps(ctx: Context, input: None) -> list[int]:
        return [await ctx.step(name, effect, ctx.workflow_id, name) for name in STEPS]

    @bluestreak.handler("branches")
    async def branches(ctx: Context, input: None) -> list[int]:
        return await ctx.map("map", partial(effect, ctx.workflow_id), STEPS, key=str)

    @bluestreak.handler("once")
    async def once(ctx: Context, input: None) -> list[str]:
        outcomes = await ctx.parallel("all", {name: partial(call_once, name) for name in STEPS})
        return list(outcomes.values())

    async def call_once(name: str, ctx: Context) -> str:
        try:
            await ctx.step("call", effect, ctx.workflow_id, name, at_most_once=True)
        except StepInterrupted:
            return f"{name} interrupted"
        return f"{name} called"

    @bluestreak.handler("deadly")
    async def deadly(ctx: Context, input: None) -> None:
        os.kill(os.getpid(), signal.SIGKILL)

    bluestreak.register_handler("callback", _asking(client[database], effect))
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, bluestreak.stop)
    async with client, bluestreak:
        sys.stdout.write("ready\n")
        sys.stdout.flush()
        await bluestreak.poll()


def _asking(
    database: AsyncDatabase[dict[str, Any]], effect: Callable[[str, str], Awaitable[int]]
) -> Handler:
    """A handler that hands a token over by a document, and waits for the answer."""

    async def hand_over(workflow_id: str, token: str) -> None:
        await database.tokens.insert_one({"token": token})
        await effect(workflow_id, "hand over")

    async def callback(ctx: Context, input: None) -> Any:
        return await ctx.callback("approve", partial(hand_over, ctx.workflow_id))

    return callback


if __name__ == "__main__":
    logging.basicConfig(level=logging.INFO)
    asyncio.run(work(sys.argv[1], sys.argv[2], json.loads(sys.argv[3])))
