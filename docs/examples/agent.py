"""An agent: a model chooses what to do next, and a person approves what costs.

    export MONGODB_URL=mongodb://localhost:27017
    python docs/examples/agent.py

It waits for an answer. Stop it with Ctrl-C, then approve, or not:

    python docs/examples/agent.py yes
"""

import asyncio
import os
import signal
import sys
from datetime import timedelta
from typing import TypedDict

from bluestreak_core import (
    Bluestreak,
    Context,
    Message,
    MessageTimeout,
    Retry,
    StepInterrupted,
)
from bluestreak_mongo import MongoStore

ANSWER = Message("answer", str)
PATIENTLY = Retry(max_attempts=5, initial=2)
TURNS = 20


class Move(TypedDict):
    tool: str
    arguments: list[str]


class Services:
    """A stand-in for a language model and its tools."""

    async def think(self, notes: list[str]) -> Move:
        print(f"think about {len(notes)} notes")
        if len(notes) == 1:
            return Move(tool="search", arguments=["kites", "strings"])
        if len(notes) == 3:
            return Move(tool="buy", arguments=["a red kite"])
        return Move(tool="finish", arguments=[notes[-1]])

    async def search(self, words: str) -> str:
        print(f"search for {words}")
        return f"there are red {words}"

    async def ask(self, question: str) -> None:
        print(f"ask the owner: {question}")

    async def buy(self, item: str) -> str:
        print(f"buy {item}")
        return f"bought {item}"


def register(bluestreak: Bluestreak, services: Services) -> None:
    @bluestreak.handler("agent")
    async def agent(ctx: Context, task: str) -> str:
        notes = [task]
        for turn in range(TURNS):
            scope = ctx.scope(f"turn-{turn}")  # so ids may repeat
            move = await scope.step(
                "think", services.think, list(notes), retry=PATIENTLY
            )
            match move["tool"]:
                case "search":
                    notes += await scope.map(
                        "search", services.search, move["arguments"]
                    )
                case "buy":
                    notes.append(await buy(scope, move["arguments"][0]))
                case _:
                    return move["arguments"][0]
        return f"no result after {TURNS} turns"

    async def buy(ctx: Context, item: str) -> str:
        await ctx.step("ask", services.ask, f"may I buy {item}?")
        try:
            answer = await ctx.receive(
                "answer", ANSWER, timeout=timedelta(days=3)
            )
        except MessageTimeout:
            return "nobody has answered"
        if answer != "yes":
            return f"I may not buy {item}"
        try:
            # Rather not at all than twice.
            return await ctx.step("buy", services.buy, item, at_most_once=True)
        except StepInterrupted:
            return f"I may have bought {item}: look it up"


async def main(answer: str | None = None) -> None:
    url = os.environ.get("MONGODB_URL", "mongodb://localhost:27017")
    bluestreak = Bluestreak(
        MongoStore(url, database="example_agent"), max_failures=3
    )
    register(bluestreak, Services())
    for number in (signal.SIGINT, signal.SIGTERM):
        asyncio.get_running_loop().add_signal_handler(number, bluestreak.stop)
    async with bluestreak, asyncio.TaskGroup() as tasks:
        polling = tasks.create_task(bluestreak.poll())
        await bluestreak.start("agent-1", "agent", "find me a kite")
        if answer is None:
            await polling
        else:
            await bluestreak.send("agent-1", ANSWER, answer, message_id="1")
            print(await bluestreak.wait("agent-1"))
            bluestreak.stop()


if __name__ == "__main__":
    asyncio.run(main(*sys.argv[1:]))
