"""Workflows with children and grandchildren, while workers are killed at random moments.

    python -m tests.process.families [--trees N] [--fans N] [--crowds N] [--workers N] ...

Each tree adds up what its children return, and so does each fan, which has two hundred of them.
Each crowd has a parent that starts a hundred children which last for an hour, and is cancelled in
the middle of that, every other time by a process that dies before it could do more. Workers are
killed by SIGKILL and replaced all the time. In the end each tree and each fan has its sum, and of
the crowds nobody is left.
"""

from __future__ import annotations

import argparse
import asyncio
import logging
import random
import sys
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from pymongo.database import Database

from bluestreak_core import Bluestreak, Client, Context, Start
from bluestreak_core.machine import Transition
from bluestreak_mongo import LocalMongo, MongoStore
from tests.process.fleet import Fleet, new_database

PATIENCE = 120.0  # seconds
LEASE = 3.0  # seconds
PARK_AFTER = 0.2  # seconds
BRANCHES = 3
DEPTH = 2
CROWD = 100
FAN = 200
AT_ONCE = 40
HOUR = 3600

LIVE = {"status": {"$nin": ["finished", "aborted", "cancelled"]}}


@dataclass(frozen=True, slots=True, kw_only=True)
class Audit:
    """What is left in the end."""

    workflows: int
    kills: int
    started: list[int]
    """How many children each crowd had when it was cancelled."""
    left: int
    wrong: int
    """Trees and fans without their sum, and members of a crowd that were not cancelled."""
    unsettled: int
    seconds: float

    @property
    def is_clean(self) -> bool:
        return not (self.left or self.wrong or self.unsettled)

    @property
    def is_in_the_middle(self) -> bool:
        """Whether a crowd was cancelled while it was being started."""
        return any(0 < started < CROWD for started in self.started)

    def __str__(self) -> str:
        return (
            f"{self.workflows} workflows, {self.kills} workers killed in {self.seconds:.0f} s, "
            f"crowds cancelled at {self.started} children; {self.left} have not ended, "
            f"{self.wrong} wrong, {self.unsettled} unsettled"
        )


def campaign(url: str, *, trees: int, fans: int, crowds: int, workers: int, seed: int) -> Audit:
    """Let all of them run, and kill workers meanwhile."""
    rng = random.Random(seed)
    started: list[int] = []
    with new_database(url, "families") as database:
        asyncio.run(_start(url, database.name, trees, fans, crowds))
        commands = [_command(url, database.name)] * workers
        with Fleet(commands, rng, pauses=(0.3, 3), patience=PATIENCE) as fleet:
            for number in range(crowds):
                fleet.run_until(_has_begun(database, f"crowd-{number}", rng.randrange(1, CROWD)))
                asyncio.run(_cancel(url, database.name, f"crowd-{number}", dies=number % 2 == 1))
                fleet.kill_one()
                started.append(database.workflows.count_documents(_children(f"crowd-{number}")))
            fleet.run_until(lambda: not _left(database) and not _unsettled(database))
        return Audit(
            workflows=database.workflows.count_documents({}),
            kills=fleet.kills,
            started=started,
            left=_left(database),
            wrong=_wrong(database, trees) + _wrong_fans(database, fans),
            unsettled=_unsettled(database),
            seconds=fleet.seconds,
        )


def _command(url: str, database: str) -> list[str]:
    return [sys.executable, "-m", "tests.process.families", "--work", url, database]


def _children(workflow_id: str) -> dict[str, Any]:
    return {"parent.workflowId": workflow_id}


def _has_begun(
    database: Database[dict[str, Any]], workflow_id: str, children: int
) -> Callable[[], bool]:
    def has_begun() -> bool:
        return database.workflows.count_documents(_children(workflow_id)) >= children

    return has_begun


def _left(database: Database[dict[str, Any]]) -> int:
    return database.workflows.count_documents(LIVE)


def _unsettled(database: Database[dict[str, Any]]) -> int:
    return database.workflows.count_documents({"unsettled": True})


def _wrong_fans(database: Database[dict[str, Any]], fans: int) -> int:
    wrong = 0
    for number in range(fans):
        fan = database.workflows.find_one({"workflowId": f"fan-{number}"}) or {}
        children = database.workflows.count_documents(_children(f"fan-{number}"))
        wrong += (fan.get("result"), children) != (sum(range(FAN)), FAN)
    return wrong


def _wrong(database: Database[dict[str, Any]], trees: int) -> int:
    leaves = sum(BRANCHES**level for level in range(DEPTH + 1))
    ours = {"workflowId": {"$in": [f"tree-{number}" for number in range(trees)]}}
    right = database.workflows.count_documents(ours | {"result": leaves})
    crowd = {"workflowId": {"$regex": "^crowd-"}}
    cancelled = database.workflows.count_documents(crowd | {"status": "cancelled"})
    return trees - right + database.workflows.count_documents(crowd) - cancelled


async def _start(url: str, database: str, trees: int, fans: int, crowds: int) -> None:
    async with Client(MongoStore(url, database=database)) as client:
        await client.start_many(Start(f"fan-{number}", "fan") for number in range(fans))
        await client.start_many(Start(f"crowd-{number}", "crowd") for number in range(crowds))
        await client.start_many(Start(f"tree-{number}", "tree", DEPTH) for number in range(trees))


async def _cancel(url: str, database: str, workflow_id: str, *, dies: bool) -> None:
    store = MongoStore(url, database=database)
    async with Client(store) as client:
        if dies:  # just after the one call that decides it
            await store.control(workflow_id, Transition.CANCEL, store.clock.now(), "enough")
        else:
            await client.cancel(workflow_id, "enough")


async def _work(url: str, name: str) -> None:
    bluestreak = Bluestreak(
        MongoStore(url, database=name),
        timeout_interval=LEASE,
        poll_interval=LEASE,
        park_after=PARK_AFTER,
        max_concurrency=50,
        max_crashes=None,
    )

    @bluestreak.handler("tree")
    async def tree(ctx: Context, depth: int) -> int:
        if depth == 0:
            return 1
        branches = (ctx.child(f"branch-{n}", tree, depth - 1) for n in range(BRANCHES))
        return 1 + sum(await asyncio.gather(*branches))

    @bluestreak.handler("leaf")
    async def leaf(ctx: Context, number: int) -> int:
        return await ctx.step("number", int, number)

    @bluestreak.handler("fan")
    async def fan(ctx: Context, input: None) -> int:
        return sum(await ctx.map_children("leaf", leaf, range(FAN), limit=AT_ONCE))

    @bluestreak.handler("member")
    async def member(ctx: Context, input: None) -> None:
        await ctx.sleep("for long", HOUR)

    @bluestreak.handler("crowd")
    async def crowd(ctx: Context, input: None) -> None:
        for number in range(CROWD):
            await ctx.start_child(f"member-{number}", member)
        await ctx.sleep("for long", HOUR)

    async with bluestreak:
        await bluestreak.poll()


def main() -> None:
    logging.basicConfig(level=logging.ERROR)
    match sys.argv[1:]:
        case ["--work", url, name]:
            asyncio.run(_work(url, name))
            return
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--trees", type=int, default=50)
    parser.add_argument("--fans", type=int, default=5)
    parser.add_argument("--crowds", type=int, default=10)
    parser.add_argument("--workers", type=int, default=3)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args()
    with LocalMongo() as server:
        audit = campaign(
            server.url,
            trees=options.trees,
            fans=options.fans,
            crowds=options.crowds,
            workers=options.workers,
            seed=options.seed,
        )
    sys.stdout.write(f"{audit}\n")
    sys.exit(0 if audit.is_clean and audit.is_in_the_middle else 1)


if __name__ == "__main__":
    main()
