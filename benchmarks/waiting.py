"""What workflows that wait for messages leave behind in the memory of their worker: nothing.

A worker process runs workflows that wait for a message and are parked. Its resident memory is read
after some hundreds of them, which have filled its caches and pools, and again after all. Then one
of them gets its message.
"""

from __future__ import annotations

import asyncio
import gc
import time
from collections.abc import AsyncGenerator, Sequence
from dataclasses import dataclass

from pymongo.asynchronous.database import AsyncDatabase

from benchmarks import child
from benchmarks.database import Document, new_database, until
from benchmarks.memory import Growth, resident
from benchmarks.report import Bound, Integrity, Table, Target
from benchmarks.rounds import Percentiles
from benchmarks.workload import claimed_not, polling
from bluestreak_core import Bluestreak, Client, Context, Start
from bluestreak_mongo import LocalMongo, MongoStore
from bluestreak_mongo.schema import WORKFLOWS
from bluestreak_mongo.schema import workflow as wf

HANDLER_ID = "wait"
NAME = "news"
PATIENCE = 600  # seconds
CONCURRENCY = 500


WOKEN = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    warm_up: int
    waiting: int


FULL = Size(warm_up=500, waiting=100_000)
QUICK = Size(warm_up=50, waiting=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiting:
    """What a worker holds for waiting workflows, and how soon it continues one of them."""

    growth: Growth
    seconds: float
    """That it took until all of them were parked."""
    woken: tuple[float, ...]
    """Milliseconds from `send` to the result that `wait` returns, one workflow after the other."""
    integrity: Integrity

    def tables(self) -> Sequence[Table]:
        woken = Percentiles.of(self.woken)
        return [
            Table(
                title="Growth of a worker process",
                columns=("", "workflows", "in all", "bytes each"),
                rows=(self.growth.row("parked until a message"),),
            ),
            Table(
                title="Time",
                columns=("", "figure"),
                rows=(
                    ("parked, a second", f"{self.growth.workflows / self.seconds:,.0f}"),
                    ("one of them, from `send` to its result, p50", f"{woken.p50:,.1f} ms"),
                ),
            ),
        ]

    def targets(self) -> Sequence[Target]:
        return [
            Target(
                what=f"worker memory for {self.growth.workflows:,} workflows that wait",
                bound=Bound.AT_MOST,
                figure=10,
                reached=self.growth.bytes / 1e6,
                unit="MB",
            ),
        ]


async def measure(*, quick: bool) -> Waiting:
    size = QUICK if quick else FULL
    with LocalMongo() as server:
        return await _measure(server.url, size.warm_up, size.warm_up + size.waiting)


async def worker(url: str, database: str) -> AsyncGenerator[object, None]:
    """Poll, and answer each question with the memory that is taken."""
    store = MongoStore(url, database=database)
    bluestreak = Bluestreak(store, park_after=0, max_concurrency=CONCURRENCY)

    async def wait(ctx: Context, input: None) -> int:
        got: int = await ctx.receive("wait", NAME)
        return got

    bluestreak.register_handler(HANDLER_ID, wait)
    async with polling(bluestreak):
        while True:
            gc.collect()
            yield resident()


async def _measure(url: str, warm_up: int, everything: int) -> Waiting:
    async with (
        asyncio.timeout(PATIENCE),
        new_database(url) as database,
        Client(MongoStore(url, database=database.name)) as client,
        child.started("waiting", {"url": url, "database": database.name}) as process,
    ):
        await process.answer()
        await _start(client, database, range(warm_up))
        before = await process.answer()
        began = time.perf_counter()
        await _start(client, database, range(warm_up, everything))
        seconds = time.perf_counter() - began
        after = await process.answer()
        claimed_twice = await claimed_not(1, database)
        woken = [await _wake(client, number) for number in range(WOKEN)]
        waiting = await database[WORKFLOWS].count_documents({wf.WAITING_FOR: NAME})
    return Waiting(
        growth=Growth(workflows=everything - warm_up, bytes=after - before),
        seconds=seconds,
        woken=tuple(woken),
        integrity=Integrity(
            lost_writes=abs(everything - WOKEN - waiting), double_claims=claimed_twice
        ),
    )


async def _wake(client: Client, number: int) -> float:
    """Milliseconds until a workflow has got its message and returned it."""
    began = time.perf_counter()
    await client.send(f"w{number}", NAME, number)
    got = await client.wait(f"w{number}")
    if got != number:
        raise AssertionError(f"workflow {number} has received {got}")
    return (time.perf_counter() - began) * 1000


async def _start(client: Client, database: AsyncDatabase[Document], numbers: range) -> None:
    """Start workflows of these numbers, and return when all of them are parked."""

    async def all_wait() -> bool:
        parked = {wf.STATUS: "idle", wf.WAITING_FOR: NAME}
        return await database[WORKFLOWS].count_documents(parked) == numbers.stop

    await client.start_many(Start(f"w{number}", HANDLER_ID) for number in numbers)
    await until(all_wait, pause=0.3)
