"""Subscriptions that restart period after period, in workers that are killed at random moments.

    python -m tests.process.renewal [--workflows N] [--workers N] [--seed N]

Each period receives an order, books it in a ledger by a transaction, checks that what it has
recorded is its own, and restarts. Workers are killed by SIGKILL and replaced all the time. In the
end each order has to be booked once, in its period, and no record of an earlier period may be left.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from pymongo import AsyncMongoClient, MongoClient
from pymongo.database import Database

from bluestreak_core import Abort, Bluestreak, Context, Send, Start
from bluestreak_mongo import LocalMongo, MongoStore

ROOT = Path(__file__).parents[2]
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
    client: MongoClient[dict[str, Any]] = MongoClient(url)
    database = client[f"renewal-{uuid4().hex[:8]}"]
    database.create_collection("ledger")
    rng = random.Random(seed)
    asyncio.run(_start(url, database.name, workflows))
    began, kills = time.monotonic(), 0
    processes = [_spawn(url, database.name) for _ in range(workers)]
    try:
        patience = PATIENCE * (1 + workflows / 1000)
        while _left(database) and time.monotonic() - began < patience:
            time.sleep(rng.uniform(0.5, 3))
            victim = rng.randrange(workers)
            kills += processes[victim].poll() is None
            processes[victim].kill()
            processes[victim].wait()
            processes[victim] = _spawn(url, database.name)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    audit = _audit(database, workflows, kills, time.monotonic() - began)
    client.drop_database(database.name)
    client.close()
    return audit


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
        unfinished=_left(database) + sum(each["result"] != PERIODS for each in ended),
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


def _left(database: Database[dict[str, Any]]) -> int:
    return database.workflows.count_documents({"status": {"$ne": "finished"}})


async def _start(url: str, database: str, workflows: int) -> None:
    names = [f"s{number}" for number in range(workflows)]
    async with Bluestreak(MongoStore(url, database=database)) as bluestreak:
        await bluestreak.start_many(Start(name, "subscribe", 1) for name in names)
        await bluestreak.send_many(
            Send(name, "order", order, message_id=f"order {order}")
            for name in names
            for order in range(1, PERIODS + 1)
        )


def _spawn(url: str, database: str) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "tests.process.renewal", "--work", url, database]
    return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.DEVNULL)


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
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--workflows", type=int, default=1000)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with LocalMongo() as server:
        audit = campaign(server.url, options.workflows, options.workers, options.seed)
    sys.stdout.write(f"{audit}\n")
    sys.exit(0 if audit.is_clean else 1)


if __name__ == "__main__":
    main()
