"""What a parked workflow leaves behind in the memory of its worker: it should be nothing.

A worker process runs workflows that take a long nap and are parked. Its resident memory is read
after some hundreds of them, which have filled its caches and pools, and again after all. Workflows
that are held in memory through their naps stand beside it.
"""

from __future__ import annotations

import asyncio
import gc
import os
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from benchmarks import child, specimen
from benchmarks.database import Document, new_database, until
from benchmarks.report import Bound, Integrity, Table, Target
from benchmarks.specimen import LONG, NAP_ID, Specimens
from benchmarks.workload import claimed_not, polling
from bluestreak_core import Bluestreak, Context
from bluestreak_mongo import LocalMongo, MongoStore
from bluestreak_mongo.schema import NAPS, WORKFLOWS, nap
from bluestreak_mongo.schema import workflow as wf

PATIENCE = 240  # seconds
TARGET_COUNT = 100_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    warm_up: int
    parked: int
    held: int


FULL = Size(warm_up=500, parked=TARGET_COUNT, held=5_000)
QUICK = Size(warm_up=20, parked=200, held=50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    """By how many bytes a worker process has grown over so many workflows."""

    workflows: int
    bytes: int

    @property
    def each(self) -> float:
        return self.bytes / self.workflows

    def row(self, what: str) -> tuple[str, ...]:
        return what, f"{self.workflows:,}", f"{self.bytes / 1e6:,.1f} MB", f"{self.each:,.0f}"


@dataclass(frozen=True, slots=True, kw_only=True)
class Memory:
    parked: Growth
    held: Growth
    integrity: Integrity

    def tables(self) -> Sequence[Table]:
        return [
            Table(
                title="Growth of a worker process",
                columns=("", "workflows", "in all", "bytes each"),
                rows=(self.parked.row("parked"), self.held.row("held in memory")),
            )
        ]

    def targets(self) -> Sequence[Target]:
        return [
            Target(
                what=f"worker memory for {self.parked.workflows:,} parked workflows",
                bound=Bound.AT_MOST,
                figure=10,
                reached=self.parked.bytes / 1e6,
                unit="MB",
            ),
        ]


async def measure(*, quick: bool) -> Memory:
    size = QUICK if quick else FULL
    with LocalMongo() as server:
        specimens = await specimen.collect(server.url)
        parked, parked_well = await _grow(server.url, specimens, size.warm_up, size.parked)
        held, held_well = await _grow(server.url, specimens, size.warm_up, size.held, held=True)
    return Memory(parked=parked, held=held, integrity=parked_well + held_well)


async def worker(url: str, database: str, options: dict[str, Any]) -> AsyncGenerator[object, None]:
    """Poll, and answer each question with the memory that is taken."""
    bluestreak = Bluestreak(MongoStore(url, database=database), poll_interval=0.2, **options)

    async def sleepy(ctx: Context, input: Document) -> None:
        await ctx.sleep(NAP_ID, LONG)

    bluestreak.register_handler(NAP_ID, sleepy)
    async with polling(bluestreak):
        while True:
            gc.collect()
            yield resident()


async def _grow(
    url: str, specimens: Specimens, warm_up: int, workflows: int, *, held: bool = False
) -> tuple[Growth, Integrity]:
    everything = warm_up + workflows
    options = {"park_after": LONG.total_seconds(), "max_concurrency": everything} if held else {}
    async with new_database(url) as database:
        worker_options = {"url": url, "database": database.name, "options": options}
        async with asyncio.timeout(PATIENCE), child.started("memory", worker_options) as process:
            await process.answer()
            await specimen.create(database, specimens, range(warm_up), NAP_ID)
            await _until_asleep(database, warm_up, held=held)
            before = await process.answer()
            await specimen.create(database, specimens, range(warm_up, everything), NAP_ID)
            await _until_asleep(database, everything, held=held)
            after = await process.answer()
            integrity = await _look_at(database, everything)
    return Growth(workflows=workflows, bytes=after - before), integrity


async def _until_asleep(database: AsyncDatabase[Document], count: int, *, held: bool) -> None:
    """Every nap is recorded, and every workflow parked if it is to be."""

    async def asleep() -> bool:
        if await database[NAPS].estimated_document_count() < count:
            return False
        running = await database[WORKFLOWS].find_one({wf.STATUS: "running"})
        return held or running is None

    await until(asleep, pause=0.2)


async def _look_at(database: AsyncDatabase[Document], count: int) -> Integrity:
    asleep = await database[WORKFLOWS].count_documents({wf.STATUS: {"$in": ["idle", "running"]}})
    naps = await database[NAPS].count_documents({nap.NAP_ID: NAP_ID})
    return Integrity(
        lost_writes=2 * count - asleep - naps, double_claims=await claimed_not(1, database)
    )


def resident() -> int:
    """Bytes of this process that are in memory."""
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")
