"""How soon an idle worker in another process begins, and how soon a waiting client hears of it.

Both processes read the machine's one clock: the client before `start()` and after `wait()`, the
handler in its first and its last line. The lateness of a nap is what its handler read when it went
on, less the recorded end of the nap.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import reduce
from operator import add

from pymongo.asynchronous.database import AsyncDatabase

from benchmarks import child
from benchmarks.database import Document, new_database, until_all_ended
from benchmarks.report import NONE, Bound, Integrity, Table, Target
from benchmarks.rounds import Percentiles, scattered
from benchmarks.workload import claimed_not, polling
from bluestreak_core import Bluestreak, Context
from bluestreak_mongo import LocalMongo, MongoStore
from bluestreak_mongo.schema import NAPS, WORKFLOWS
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.nap import WAKE_UP_AT

BRIEF = "brief"
BRIEF_TIME = 0.05  # seconds that the handler takes: meanwhile the client has begun to wait
NAP_ID = "nap"
IN_MEMORY, PARKED = "nap of 2 s in memory", "nap of 2 s, parked"
PARK_AFTER = {IN_MEMORY: 5.0, PARKED: 0.5}
CLAIMS = {IN_MEMORY: 1, PARKED: 2}

START = "start to handler"
END = "end to wait() returning"
REPLICA_SET, STANDALONE = "replica set", "standalone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Lanes:
    """So many idle workers, each with a database of its own, and the pauses between their work.

    A worker of a standalone server looks often just after it had work. It is idle again once it has
    found nothing for longer than `poll_interval`, so each has long pauses, and there are many.
    """

    count: int
    least_pause: float
    most_pause: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """`budget` is how many seconds the starts of one server may take, if they are slow."""

    poll_interval: float
    samples: int
    budget: float
    lanes: Mapping[str, Lanes]
    naps: int
    nap: float
    nap_pause: float


FULL = Size(
    poll_interval=5,
    samples=200,
    budget=45,
    lanes={
        REPLICA_SET: Lanes(count=1, least_pause=0.1, most_pause=0.2),
        STANDALONE: Lanes(count=25, least_pause=5.5, most_pause=10.5),
    },
    naps=200,
    nap=2,
    nap_pause=0.06,
)
QUICK = Size(
    poll_interval=0.2,
    samples=5,
    budget=1,
    lanes={
        REPLICA_SET: Lanes(count=1, least_pause=0.01, most_pause=0.02),
        STANDALONE: Lanes(count=3, least_pause=0.2, most_pause=0.3),
    },
    naps=5,
    nap=0.7,
    nap_pause=0.01,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """The samples of one figure on one kind of server, in milliseconds."""

    server: str
    what: str
    milliseconds: tuple[float, ...]

    @property
    def percentiles(self) -> Percentiles:
        return Percentiles.of(self.milliseconds)

    def row(self) -> tuple[str, ...]:
        told = self.percentiles
        figures = (f"{figure:,.1f}" for figure in (told.p50, told.p99, told.max))
        return f"{self.what}, {self.server}", f"{told.count}", *figures


@dataclass(frozen=True, slots=True, kw_only=True)
class Latency:
    cases: tuple[Case, ...]
    integrity: Integrity

    def tables(self) -> Sequence[Table]:
        return [
            Table(
                title="Milliseconds",
                columns=("", "samples", "p50", "p99", "longest"),
                rows=tuple(case.row() for case in self.cases),
            )
        ]

    def targets(self) -> Sequence[Target]:
        return [target for case in self.cases for target in _targets(case)]


async def measure(*, quick: bool) -> Latency:
    size = QUICK if quick else FULL
    cases: list[Case] = []
    integrity = NONE
    for name in (REPLICA_SET, STANDALONE):
        with LocalMongo(replica_set=name == REPLICA_SET) as server:
            for measure_some in (_measure_starts, _measure_naps):
                measured, intact = await measure_some(server.url, name, size)
                cases += measured
                integrity += intact
    return Latency(cases=tuple(cases), integrity=integrity)


async def worker(
    url: str,
    poll_interval: float,
    databases: Mapping[str, float],
    nap: float,
    nap_pauses: Sequence[float],
) -> AsyncGenerator[object, None]:
    """An idle worker for each database; `databases` holds their `park_after`.

    Asked a second time, they get naps to take. Those are started here: a worker hears at once of
    what its own process starts, on any server, so that they do not begin in bursts.
    """

    async def brief(ctx: Context, input: None) -> dict[str, int]:
        began = time.time_ns()
        await asyncio.sleep(BRIEF_TIME)
        return {"began": began, "ended": time.time_ns()}

    async def sleepy(ctx: Context, input: None) -> int:
        await ctx.sleep(NAP_ID, nap)
        return time.time_ns()

    async with AsyncExitStack() as stack:
        workers: list[Bluestreak] = []
        for name, park_after in databases.items():
            bluestreak = Bluestreak(
                MongoStore(url, database=name), poll_interval=poll_interval, park_after=park_after
            )
            bluestreak.register_handler(BRIEF, brief)
            bluestreak.register_handler(NAP_ID, sleepy)
            workers.append(await stack.enter_async_context(polling(bluestreak)))
        yield "polling"
        for number, pause in enumerate(nap_pauses):
            await asyncio.sleep(pause)
            for bluestreak in workers:
                await bluestreak.start(f"nap-{number}", NAP_ID)
        yield "all naps are started"


def _options(
    url: str,
    size: Size,
    nap_pauses: Sequence[float],
    databases: Mapping[AsyncDatabase[Document], str],
) -> dict[str, object]:
    """The arguments of `worker`."""
    return {
        "url": url,
        "poll_interval": size.poll_interval,
        "databases": {database.name: PARK_AFTER[kind] for database, kind in databases.items()},
        "nap": size.nap,
        "nap_pauses": nap_pauses,
    }


# From start() to the handler, and from its end to wait() -----------------------------------------


async def _measure_starts(url: str, server: str, size: Size) -> tuple[list[Case], Integrity]:
    lanes = size.lanes[server]
    async with AsyncExitStack() as stack:
        databases = [await stack.enter_async_context(new_database(url)) for _ in range(lanes.count)]
        options = _options(url, size, [], dict.fromkeys(databases, IN_MEMORY))
        idle = await stack.enter_async_context(child.started("latency", options))
        await idle.answer()
        async with asyncio.TaskGroup() as tasks:
            sampling = [
                tasks.create_task(_sample(url, database, place, size, lanes))
                for place, database in enumerate(databases)
            ]
        samples = [sample for task in sampling for sample in task.result()]
        integrity = reduce(add, [await _look_at(database, 1) for database in databases])
    return [
        Case(server=server, what=START, milliseconds=tuple(start for start, _ in samples)),
        Case(server=server, what=END, milliseconds=tuple(end for _, end in samples)),
    ], integrity


async def _sample(
    url: str, database: AsyncDatabase[Document], lane: int, size: Size, lanes: Lanes
) -> list[tuple[float, float]]:
    """Start one workflow after the other, wait for each, and pause in between."""
    count = -(-size.samples // lanes.count)
    pauses = scattered(lanes.count * count, lanes.least_pause, lanes.most_pause)
    deadline = time.monotonic() + size.budget
    samples: list[tuple[float, float]] = []
    async with Bluestreak(MongoStore(url, database=database.name)) as bluestreak:
        for number, pause in enumerate(pauses[lane :: lanes.count]):
            if samples and time.monotonic() + pause > deadline:
                break
            await asyncio.sleep(pause)
            samples.append(await _time_one(bluestreak, f"brief-{number}"))
    return samples


async def _time_one(bluestreak: Bluestreak, workflow_id: str) -> tuple[float, float]:
    started = time.time_ns()
    await bluestreak.start(workflow_id, BRIEF)
    handler = await bluestreak.wait(workflow_id)
    returned = time.time_ns()
    return (handler["began"] - started) / 1e6, (returned - handler["ended"]) / 1e6


# Naps --------------------------------------------------------------------------------------------


async def _measure_naps(url: str, server: str, size: Size) -> tuple[list[Case], Integrity]:
    """Both kinds of nap at once, each by a worker and in a database of its own."""
    pauses = scattered(size.naps, size.nap_pause / 2, size.nap_pause * 3 / 2)
    async with new_database(url) as in_memory, new_database(url) as parked:
        databases = {IN_MEMORY: in_memory, PARKED: parked}
        options = _options(url, size, pauses, {in_memory: IN_MEMORY, parked: PARKED})
        async with child.started("latency", options) as workers:
            await workers.answer()
            await workers.answer()
            for database in databases.values():
                await until_all_ended(database, pause=0.2)
        cases = [
            Case(server=server, what=kind, milliseconds=tuple(await _lateness(database)))
            for kind, database in databases.items()
        ]
        integrity = [await _look_at(database, CLAIMS[kind]) for kind, database in databases.items()]
    return cases, reduce(add, integrity)


async def _lateness(database: AsyncDatabase[Document]) -> list[float]:
    woken = {
        workflow[wf.WORKFLOW_ID]: workflow[wf.RESULT]
        async for workflow in database[WORKFLOWS].find()
    }
    return [
        woken[nap[wf.WORKFLOW_ID]] / 1e6 - (nap[WAKE_UP_AT] - _EPOCH) / _MILLISECOND
        async for nap in database[NAPS].find()
    ]


async def _look_at(database: AsyncDatabase[Document], claims: int) -> Integrity:
    unfinished = await database[WORKFLOWS].count_documents({wf.STATUS: {"$ne": "finished"}})
    return Integrity(lost_writes=unfinished, double_claims=await claimed_not(claims, database))


def _targets(case: Case) -> list[Target]:
    told = case.percentiles
    if case.what in PARK_AFTER:
        return [_at_most(case, "lateness, p99", 100, told.p99)]
    if case.server == REPLICA_SET:
        return [_at_most(case, "p50", 5, told.p50), _at_most(case, "p99", 25, told.p99)]
    return []


def _at_most(case: Case, what: str, figure: float, reached: float) -> Target:
    return Target(
        what=f"{case.what}, {case.server}, {what}",
        bound=Bound.AT_MOST,
        figure=figure,
        reached=reached,
        unit="ms",
    )


_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MILLISECOND = timedelta(milliseconds=1)
