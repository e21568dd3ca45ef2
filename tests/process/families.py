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
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from uuid import uuid4

from pymongo import MongoClient
from pymongo.database import Database

from bluestreak_core import Bluestreak, Client, Context, Start
from bluestreak_core.machine import Transition
from bluestreak_mongo import LocalMongo, MongoStore

ROOT = Path(__file__).parents[2]
PATIENCE = 120.0  # seconds, and as long again for each thousand workflows
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
    client: MongoClient[dict[str, Any]] = MongoClient(url)
    database = client[f"families-{uuid4().hex[:8]}"]
    asyncio.run(_start(url, database.name, trees, fans, crowds))
    rng = random.Random(seed)
    began, started = time.monotonic(), []
    with _workers(url, database.name, workers, rng) as fleet:
        for number in range(crowds):
            fleet.run_until(_has_begun(database, f"crowd-{number}", rng.randrange(1, CROWD)))
            asyncio.run(_cancel(url, database.name, f"crowd-{number}", dies=number % 2 == 1))
            fleet.kill_one()
            started.append(database.workflows.count_documents(_children(f"crowd-{number}")))
        fleet.run_until(lambda: not _left(database) and not _unsettled(database))
    audit = Audit(
        workflows=database.workflows.count_documents({}),
        kills=fleet.kills,
        started=started,
        left=_left(database),
        wrong=_wrong(database, trees) + _wrong_fans(database, fans),
        unsettled=_unsettled(database),
        seconds=time.monotonic() - began,
    )
    client.drop_database(database.name)
    client.close()
    return audit


class _Fleet:
    """Worker processes; each is killed after a while, and replaced."""

    def __init__(self, url: str, database: str, workers: int, rng: random.Random) -> None:
        self.kills = 0
        self._command = [sys.executable, "-m", "tests.process.families", "--work", url, database]
        self._rng = rng
        self._deadline = time.monotonic() + PATIENCE
        self._processes = [self._spawn() for _ in range(workers)]

    def run_until(self, is_over: Callable[[], bool]) -> None:
        """Kill one after the other until something holds, or patience has run out."""
        while time.monotonic() < self._deadline:
            next_kill = time.monotonic() + self._rng.uniform(0.3, 3)
            while time.monotonic() < next_kill:
                if is_over():
                    return
                time.sleep(0.02)
            self.kill_one()

    def kill_one(self) -> None:
        """Kill any of them, and replace it."""
        victim = self._rng.randrange(len(self._processes))
        self._kill(victim)
        self.kills += 1
        self._processes[victim] = self._spawn()

    def end(self) -> None:
        for number in range(len(self._processes)):
            self._kill(number)

    def _spawn(self) -> subprocess.Popen[bytes]:
        return subprocess.Popen(self._command, cwd=ROOT, stdout=subprocess.DEVNULL)

    def _kill(self, number: int) -> None:
        self._processes[number].kill()
        self._processes[number].wait()


@contextmanager
def _workers(url: str, database: str, workers: int, rng: random.Random) -> Iterator[_Fleet]:
    fleet = _Fleet(url, database, workers, rng)
    try:
        yield fleet
    finally:
        fleet.end()


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
