"""Workflows that write to each other, while workers and senders are killed at random moments.

    python -m tests.process.correspondence [--workflows N] [--workers N] [--seed N]

Each workflow greets its three neighbours in a ring, answers the greetings that it receives, waits
for the answers to its own, and for one message from a process outside. Workers and that process are
killed by SIGKILL and replaced all the time. In the end each workflow has to have received each
message once, and no mailbox may hold one that nobody has received.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from dataclasses import dataclass
from typing import Any

from pymongo.database import Database

from bluestreak_core import Bluestreak, Client, Context, Message, Send, Start
from bluestreak_mongo import MongoStore
from tests.process.fleet import Fleet, new_database, run_campaign, unfinished

PATIENCE = 120.0  # seconds, and as long again for each thousand workflows
LEASE = 3.0  # seconds
PARK_AFTER = 0.2  # seconds
NEIGHBOURS = (1, 2, 3)

GREETING = Message("greeting", int)
ANSWER = Message("answer", int)
POKE = Message("poke", int)


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What is left when all workflows have ended."""

    workflows: int
    kills: int
    claims: int
    unfinished: int
    wrong: int
    """Workflows that have not received what was sent to them, each message once."""
    unread: int
    seconds: float

    @property
    def is_clean(self) -> bool:
        return not (self.unfinished or self.wrong or self.unread)

    def __str__(self) -> str:
        return (
            f"{self.workflows} workflows with 7 messages each, {self.kills} processes killed in "
            f"{self.seconds:.0f} s, {self.claims} claims; {self.unfinished} unfinished, "
            f"{self.wrong} that have not received each message once, {self.unread} messages unread"
        )


def campaign(url: str, workflows: int, workers: int, seed: int) -> Audit:
    """Let all workflows run, and kill processes meanwhile."""
    rng = random.Random(seed)
    # A worker comes first, since the process outside may have ended by itself.
    roles = [*("work" for _ in range(workers)), "poke"]
    with new_database(url, "correspondence") as database:
        asyncio.run(_start(url, database.name, workflows))
        commands = [_command(role, url, database.name, workflows) for role in roles]
        patience = PATIENCE * (1 + workflows / 1000)
        with Fleet(commands, rng, pauses=(0.2, 2), patience=patience) as fleet:
            fleet.run_until(lambda: fleet.kills > 0 and not unfinished(database))
        return _audit(database, workflows, fleet.kills, fleet.seconds)


def _audit(database: Database[dict[str, Any]], workflows: int, kills: int, seconds: float) -> Audit:
    found = list(database.workflows.find({}, {"result": 1, "workflowId": 1, "claims": 1}))
    return Audit(
        workflows=workflows,
        kills=kills,
        claims=sum(workflow["claims"] for workflow in found),
        unfinished=unfinished(database),
        wrong=sum(
            workflow.get("result") != _meant(int(workflow["workflowId"]), workflows)
            for workflow in found
        ),
        unread=_unread(database),
        seconds=seconds,
    )


def _meant(number: int, workflows: int) -> dict[str, Any]:
    """What a workflow returns that has received everything once."""
    return {
        "greetings": sorted((number - distance) % workflows for distance in NEIGHBOURS),
        "answers": sorted((number + distance) % workflows for distance in NEIGHBOURS),
        "poke": number,
    }


def _unread(database: Database[dict[str, Any]]) -> int:
    """The messages that no step has received, whatever is noted of them."""
    read = {(step["workflowId"], step.get("messageId")) for step in database.steps.find()}
    return sum(
        (message["workflowId"], message["messageId"]) not in read
        for message in database.messages.find()
    )


async def _start(url: str, database: str, workflows: int) -> None:
    async with Client(MongoStore(url, database=database)) as client:
        await client.start_many(
            Start(str(number), "correspondent", workflows) for number in range(workflows)
        )


def _command(role: str, url: str, database: str, workflows: int) -> list[str]:
    command = [sys.executable, "-m", "tests.process.correspondence", f"--{role}"]
    return [*command, url, database, str(workflows)]


async def _work(url: str, name: str) -> None:
    bluestreak = Bluestreak(
        MongoStore(url, database=name),
        timeout_interval=LEASE,
        park_after=PARK_AFTER,
        max_concurrency=50,
        max_crashes=None,
    )

    async def write(to: int, message: Message[int], payload: int, message_id: str) -> None:
        await bluestreak.send(str(to), message, payload, message_id=message_id)

    @bluestreak.handler("correspondent")
    async def correspond(ctx: Context, workflows: int) -> dict[str, Any]:
        own = int(ctx.workflow_id)

        async def send(step_id: str, to: int, message: Message[int]) -> None:
            key = ctx.idempotency_key(step_id)
            await ctx.step(step_id, write, to, message, own, key)

        for distance in NEIGHBOURS:
            await send(f"greet-{distance}", (own + distance) % workflows, GREETING)
        greetings = []
        for count in NEIGHBOURS:
            greetings.append(await ctx.receive(f"greeting-{count}", GREETING))
            await send(f"answer-{count}", greetings[-1], ANSWER)
        answers = [await ctx.receive(f"answered-{count}", ANSWER) for count in NEIGHBOURS]
        poke = await ctx.receive("poke", POKE)
        return {"greetings": sorted(greetings), "answers": sorted(answers), "poke": poke}

    async with bluestreak:
        await bluestreak.poll()


async def _poke(url: str, name: str, workflows: int) -> None:
    async with Client(MongoStore(url, database=name)) as client:
        for first in range(0, workflows, 20):
            part = range(first, min(first + 20, workflows))
            await client.send_many(
                Send(str(number), POKE, number, message_id="poke") for number in part
            )


def main() -> None:
    logging.basicConfig(level=logging.ERROR)
    match sys.argv[1:]:
        case ["--work", url, name, _]:
            asyncio.run(_work(url, name))
            return
        case ["--poke", url, name, workflows]:
            asyncio.run(_poke(url, name, int(workflows)))
            return
    run_campaign(__doc__, campaign, workflows=1000)


if __name__ == "__main__":
    main()
