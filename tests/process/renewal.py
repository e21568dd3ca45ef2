"""Subscriptions that restart period after period, in workers that are killed at random moments.

    python -m tests.process.renewal [--workflows N] [--workers N] [--seed N]

Each period receives an order, books it in a ledger by a transaction, checks that what it has
recorded is its own, and restarts. Workers are killed by SIGKILL and replaced all the time. In the
end each order has to be booked once, in its period, and no record of an earlier period may be left.
"""

from __future__ import annotations

import asyncio
import logging
import random
import sys
from collections import Counter
from dataclasses import dataclass
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.database import Database

from bluestreak_core import Abort, Bluestreak, Context, Send, Start
from bluestreak_mongo import MongoStore
from tests.process.fleet import Fleet, new_database, run_campaign, unfinished

PERIODS = 4
PATIENCE = 120.0  # seconds, and as long again for each thousand workflows
LEASE = 2.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What is left when all subscriptions have ended."""

    workflows: int
    kills: int
    crashes: int
    """Claims that took over from a killed worker, as far as the claim logs go."""
    unfinished: int
    missing: int
    doubled: int
    misplaced: int
    """Orders that were booked in another period than their place in the mailbox says."""
    unread: int
    leaked: int
    """Records of earlier periods, besides what a killed worker's last call has left."""
    seconds: float

    @property
    def is_clean(self) -> bool:
        faults = (self.unfinished, self.missing, self.doubled, self.misplaced, self.unread)
        return not any(faults) and not self.leaked

    def __str__(self) -> str:
        return (
            f"{self.workflows} subscriptions of {PERIODS} periods, {self.kills} workers killed in "
            f"{self.seconds:.0f} s, {self.crashes} take-overs: {self.unfinished} unfinished, "
            f"{self.missing} orders missing, {self.doubled} doubled, {self.misplaced} misplaced, "
            f"{self.unread} unread, {self.leaked} records of earlier periods left"
        )


def campaign(url: str, workflows: int, workers: int, seed: int) -> Audit:
    """Run all subscriptions, and kill workers meanwhile."""
    rng = random.Random(seed)
    with new_database(url, "renewal") as database:
        database.create_collection("ledger")
        asyncio.run(_start(url, database.name, workflows))
        commands = [_command(url, database.name)] * workers
        patience = PATIENCE * (1 + workflows / 1000)
        with Fleet(commands, rng, pauses=(0.5, 3), patience=patience) as fleet:
            fleet.run_until(lambda: fleet.kills > 0 and not unfinished(database))
        return _audit(database, workflows, fleet.kills, fleet.seconds)


def _audit(database: Database[dict[str, Any]], workflows: int, kills: int, seconds: float) -> Audit:
    entries = list(database.ledger.find())
    booked = Counter((entry["workflow"], entry["order"]) for entry in entries)
    ended = list(database.workflows.find({"status": "finished"}))
    begun = {each["workflowId"]: each.get("restartedAt") for each in ended}
    claims = [entry for each in ended for entry in each["claimLog"]]
    return Audit(
        workflows=workflows,
        kills=kills,
        crashes=sum(entry["afterCrash"] for entry in claims),
        unfinished=unfinished(database) + sum(each["result"] != PERIODS for each in ended),
        missing=workflows * PERIODS - len(booked),
        doubled=sum(count - 1 for count in booked.values()),
        misplaced=sum(entry["order"] != entry["period"] for entry in entries),
        unread=_unread(database),
        leaked=sum(
            database.steps.count_documents(
                {
                    "workflowId": workflow_id,
                    "workflowCreatedAt": {"$ne": int(restarted_at.timestamp() * 1000)},
                }
            )
            for workflow_id, restarted_at in begun.items()
            if restarted_at is not None
        ),
        seconds=seconds,
    )


def _unread(database: Database[dict[str, Any]]) -> int:
    """The messages that no period has received. The last one may not have noted what it has."""
    read = {(step["workflowId"], step.get("messageId")) for step in database.steps.find()}
    unread = database.messages.find({"unread": True})
    return sum((message["workflowId"], message["messageId"]) not in read for message in unread)


async def _start(url: str, database: str, workflows: int) -> None:
    names = [f"s{number}" for number in range(workflows)]
    async with Bluestreak(MongoStore(url, database=database)) as bluestreak:
        await bluestreak.start_many(Start(name, "subscribe", 1) for name in names)
        await bluestreak.send_many(
            Send(name, "order", order, message_id=f"order {order}")
            for name in names
            for order in range(1, PERIODS + 1)
        )


def _command(url: str, database: str) -> list[str]:
    return [sys.executable, "-m", "tests.process.renewal", "--work", url, database]


async def _work(url: str, name: str) -> None:
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(url)
    ledger = client[name]["ledger"]

    async def book(session: Any, workflow: str, order: int, period: int) -> int:
        entry = {"workflow": workflow, "order": order, "period": period}
        await ledger.insert_one(entry, session=session)
        return period

    async def note(period: int) -> int:
        await asyncio.sleep(0.05)
        return period

    async def subscribe(ctx: Context, period: int) -> int:
        order = await ctx.receive("order", "order")
        booked = await ctx.transaction("book", book, ctx.workflow_id, order, period)
        noted = await ctx.step("note", note, period)
        await ctx.publish("period", period)
        await ctx.sleep("pause", 0.05)
        if booked != period or noted != period:
            raise Abort(f"period {period} has got a record of {booked} or {noted}")
        if period < PERIODS:
            await ctx.restart(period + 1)
        return period

    bluestreak = Bluestreak(
        MongoStore.from_database(client[name]),
        timeout_interval=LEASE,
        max_concurrency=20,
        max_crashes=None,
    )
    bluestreak.register_handler("subscribe", subscribe)
    async with client, bluestreak:
        await bluestreak.poll()


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        logging.basicConfig(level=logging.ERROR)
        asyncio.run(_work(*sys.argv[2:]))
        return
    run_campaign(__doc__, campaign, workflows=1000)


if __name__ == "__main__":
    main()
