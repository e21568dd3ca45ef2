"""Children: how many a second their parents start, and hear of.

Workers and parents are in one process: parents wait in memory, and a child takes a slot of the
same worker.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add

from benchmarks.database import new_database
from benchmarks.report import NONE, Bound, Integrity, Table, Target
from benchmarks.rounds import Spread, interleaved
from benchmarks.workload import polling
from bluestreak_core import Bluestreak, Context, Start
from bluestreak_mongo import LocalMongo, MongoStore
from bluestreak_mongo.schema import WORKFLOWS
from bluestreak_mongo.schema import workflow as wf

PARENTS = 100
PATIENCE = 600  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    rounds: int
    children: int
    """Of each parent, one after the other."""


FULL = Size(rounds=5, children=20)
QUICK = Size(rounds=1, children=2)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One measurement, and what was wrong with it."""

    figure: float
    integrity: Integrity = NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Children:
    seen: tuple[float, ...]
    """Children a second whose results their parents have got."""
    started: tuple[float, ...]
    """Workflows a second of the same handler, started together by a client."""
    integrity: Integrity

    def tables(self) -> Sequence[Table]:
        return [
            Table(
                title=f"Workflows a second that return at once, {PARENTS} at a time",
                columns=("", "a second"),
                rows=(
                    ("children, each seen by its parent", Spread.of(self.seen).show()),
                    ("workflows without a parent", Spread.of(self.started).show()),
                ),
            )
        ]

    def targets(self) -> Sequence[Target]:
        return [
            Target(
                what=f"children that return at once, seen by their parents, {PARENTS} at a time",
                bound=Bound.AT_LEAST,
                figure=500,
                reached=Spread.of(self.seen).median,
                unit="a second",
            )
        ]


async def measure(*, quick: bool) -> Children:
    size = QUICK if quick else FULL
    with LocalMongo(replica_set=True) as server:
        contenders = {"seen": partial(_seen, server.url, size)}
        contenders |= {"started": partial(_started, server.url, size)}
        measured = await interleaved(size.rounds, contenders)
    every = [found for of_one in measured.values() for found in of_one]
    return Children(
        seen=tuple(found.figure for found in measured["seen"]),
        started=tuple(found.figure for found in measured["started"]),
        integrity=reduce(add, (found.integrity for found in every), NONE),
    )


async def return_at_once(ctx: Context, input: int) -> int:
    return input


async def _seen(url: str, size: Size) -> Measured:
    async def ask(ctx: Context, input: None) -> int:
        results = [
            await ctx.child(f"child-{number}", return_at_once, number)
            for number in range(size.children)
        ]
        return sum(results)

    async with new_database(url) as database:
        bluestreak = _worker(MongoStore.from_database(database))
        bluestreak.register_handler("parent", ask)
        async with bluestreak:
            await bluestreak.start_many(Start(f"w{n}", "parent") for n in range(PARENTS))
            began = time.perf_counter()
            async with polling(bluestreak):
                for number in range(PARENTS):
                    await bluestreak.wait(f"w{number}", timeout=PATIENCE)
            seconds = time.perf_counter() - began
        right = {wf.HANDLER_ID: "parent", wf.RESULT: sum(range(size.children))}
        lost = PARENTS - await database[WORKFLOWS].count_documents(right)
        lost += await database[WORKFLOWS].count_documents({wf.UNSETTLED: True})
        children = {wf.HANDLER_ID: "child"}
        doubled = await database[WORKFLOWS].count_documents(children | {wf.CLAIMS: {"$ne": 1}})
    return Measured(
        figure=PARENTS * size.children / seconds,
        integrity=Integrity(lost_writes=lost, double_claims=doubled),
    )


async def _started(url: str, size: Size) -> Measured:
    count = PARENTS * size.children
    async with new_database(url) as database:
        bluestreak = _worker(MongoStore.from_database(database))
        async with bluestreak:
            await bluestreak.start_many(Start(f"w{n}", "child", n) for n in range(count))
            began = time.perf_counter()
            async with polling(bluestreak):
                for number in range(count):
                    await bluestreak.wait(f"w{number}", timeout=PATIENCE)
            seconds = time.perf_counter() - began
    return Measured(figure=count / seconds)


def _worker(store: MongoStore) -> Bluestreak:
    bluestreak = Bluestreak(store, max_concurrency=3 * PARENTS, park_after=60)
    bluestreak.register_handler("child", return_at_once)
    return bluestreak
