"""Transfers between accounts by `ctx.transaction`, in workers that are killed at random moments.

    python -m tests.process.exactly_once [--workflows N] [--workers N] [--seed N]

Each transfer is two transactions, each of which changes an account and makes an entry in a ledger.
Workers are killed by SIGKILL and replaced all the time. In the end each transfer has to have two
entries, and each account what its entries add up to.
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

from bluestreak_core import Bluestreak, Context, Start
from bluestreak_mongo import MongoStore
from tests.process.fleet import Fleet, new_database, run_campaign, unfinished

ACCOUNTS = 1000
PATIENCE = 120.0  # seconds, and as long again for each thousand transfers
LEASE = 3.0  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What is left when all transfers have ended."""

    workflows: int
    kills: int
    calls: int
    """Of the transactions' functions, those that were killed or tried again included."""
    unfinished: int
    missing: int
    doubled: int
    unbalanced: int
    seconds: float

    @property
    def is_clean(self) -> bool:
        return not (self.unfinished or self.missing or self.doubled or self.unbalanced)

    def __str__(self) -> str:
        return (
            f"{self.workflows} transfers of 2 transactions, {self.kills} workers killed in "
            f"{self.seconds:.0f} s: {self.calls} calls, {self.calls - 2 * self.workflows} beyond "
            f"the first; {self.unfinished} unfinished, {self.missing} entries missing, "
            f"{self.doubled} doubled, {self.unbalanced} accounts that do not add up"
        )


def campaign(url: str, workflows: int, workers: int, seed: int) -> Audit:
    """Run all transfers, and kill workers meanwhile."""
    rng = random.Random(seed)
    with new_database(url, "exactly-once") as database:
        for name in ("accounts", "ledger", "calls"):
            database.create_collection(name)
        asyncio.run(_start(url, database.name, workflows, seed))
        commands = [_command(url, database.name)] * workers
        patience = PATIENCE * (1 + workflows / 1000)
        with Fleet(commands, rng, pauses=(0.1, 2), patience=patience) as fleet:
            fleet.run_until(lambda: fleet.kills > 0 and not unfinished(database))
        return _audit(database, workflows, fleet.kills, fleet.seconds)


def _audit(database: Database[dict[str, Any]], workflows: int, kills: int, seconds: float) -> Audit:
    entries = Counter((entry["transfer"], entry["step"]) for entry in database.ledger.find())
    sums: Counter[int] = Counter()
    for entry in database.ledger.find():
        sums[entry["account"]] += entry["cents"]
    balances = {account["_id"]: account["cents"] for account in database.accounts.find()}
    return Audit(
        workflows=workflows,
        kills=kills,
        calls=database.calls.count_documents({}),
        unfinished=unfinished(database),
        missing=2 * workflows - len(entries),
        doubled=sum(count - 1 for count in entries.values()),
        unbalanced=sum(
            sums[account] != balances.get(account) for account in sums.keys() | balances
        ),
        seconds=seconds,
    )


async def _start(url: str, database: str, workflows: int, seed: int) -> None:
    rng = random.Random(seed)
    async with Bluestreak(MongoStore(url, database=database)) as bluestreak:
        accounts = [rng.sample(range(ACCOUNTS), 2) for _ in range(workflows)]
        await bluestreak.start_many(
            Start(f"t{number}", "transfer", {"from": payer, "to": payee, "cents": number + 1})
            for number, (payer, payee) in enumerate(accounts)
        )


def _command(url: str, database: str) -> list[str]:
    return [sys.executable, "-m", "tests.process.exactly_once", "--work", url, database]


async def _work(url: str, name: str) -> None:
    client: AsyncMongoClient[dict[str, Any]] = AsyncMongoClient(url)
    database = client[name]

    async def change(session: Any, transfer: str, step: str, account: int, cents: int) -> None:
        await database["calls"].insert_one({"transfer": transfer, "step": step})
        key, change = {"_id": account}, {"$inc": {"cents": cents}}
        await database["accounts"].update_one(key, change, upsert=True, session=session)
        entry = {"transfer": transfer, "step": step, "account": account, "cents": cents}
        await database["ledger"].insert_one(entry, session=session)

    async def transfer(ctx: Context, input: dict[str, int]) -> None:
        cents, name = input["cents"], ctx.workflow_id
        await ctx.transaction("debit", change, name, "debit", input["from"], -cents)
        await ctx.transaction("credit", change, name, "credit", input["to"], cents)

    bluestreak = Bluestreak(
        MongoStore.from_database(database),
        timeout_interval=LEASE,
        max_concurrency=20,
        max_crashes=None,
    )
    bluestreak.register_handler("transfer", transfer)
    async with client, bluestreak:
        await bluestreak.poll()


def main() -> None:
    if sys.argv[1:2] == ["--work"]:
        logging.basicConfig(level=logging.ERROR)
        asyncio.run(_work(*sys.argv[2:]))
        return
    run_campaign(__doc__, campaign, workflows=10_000)


if __name__ == "__main__":
    main()
