"""Many steps of one workflow: `ctx.map` against the same steps one by one in a handler."""

from __future__ import annotations

import asyncio
import time
import tracemalloc
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add

from benchmarks.database import new_database
from benchmarks.report import NONE, Bound, Integrity, Table, Target
from benchmarks.rounds import Spread, interleaved
from benchmarks.workload import polling
from bluestreak_core import Bluestreak, Context
from bluestreak_mongo import LocalMongo, MongoStore
from bluestreak_mongo.schema import STEPS

LIMIT = 100
PATIENCE = 240  # seconds

Way = Callable[[Context, int], Awaitable[object]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    rounds: int
    steps: int


FULL = Size(rounds=5, steps=10_000)
QUICK = Size(rounds=1, steps=200)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """Steps a second, or bytes."""

    figure: float
    integrity: Integrity = NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Structure:
    steps: int
    mapped: tuple[float, ...]
    """Steps a second."""
    one_by_one: tuple[float, ...]
    mapped_bytes: float
    """By how much the memory of the process grows at the most while the handler runs."""
    one_by_one_bytes: float
    integrity: Integrity

    def tables(self) -> Sequence[Table]:
        return [
            Table(
                title=f"{self.steps:,} steps of one workflow",
                columns=("", "steps a second", "peak of memory"),
                rows=(
                    (
                        f"`ctx.map`, limit {LIMIT}",
                        Spread.of(self.mapped).show(),
                        f"{self.mapped_bytes / 1e6:,.1f} MB",
                    ),
                    (
                        "one by one",
                        Spread.of(self.one_by_one).show(),
                        f"{self.one_by_one_bytes / 1e6:,.1f} MB",
                    ),
                    ("ratio", self.ratio.show(1), ""),
                ),
            )
        ]

    def targets(self) -> Sequence[Target]:
        return [
            Target(
                what=f"map of {self.steps:,} steps, against the same steps one by one",
                bound=Bound.AT_LEAST,
                figure=5,
                reached=self.ratio.median,
                unit="times",
            ),
            Target(
                what="memory of the map, beyond that of the steps one by one",
                bound=Bound.AT_MOST,
                figure=5,
                reached=(self.mapped_bytes - self.one_by_one_bytes) / 1e6,
                unit="MB",
            ),
        ]

    @property
    def ratio(self) -> Spread:
        """How many times as fast the map is, by rounds."""
        return Spread.of_ratios(self.mapped, self.one_by_one)


async def measure(*, quick: bool) -> Structure:
    size = QUICK if quick else FULL
    with LocalMongo() as server:
        ways = {
            name: partial(_take, server.url, size.steps, way)
            for name, way in (("mapped", _map), ("one by one", _one_by_one))
        }
        rates = await interleaved(size.rounds, ways)
        traced = {name: await way(trace=True) for name, way in ways.items()}
    measured = [each for of in rates.values() for each in of] + list(traced.values())
    return Structure(
        steps=size.steps,
        mapped=tuple(each.figure for each in rates["mapped"]),
        one_by_one=tuple(each.figure for each in rates["one by one"]),
        mapped_bytes=traced["mapped"].figure,
        one_by_one_bytes=traced["one by one"].figure,
        integrity=reduce(add, (each.integrity for each in measured)),
    )


async def _trivial(number: int) -> int:
    return number


async def _map(ctx: Context, steps: int) -> object:
    return await ctx.map("step", _trivial, range(steps), limit=LIMIT)


async def _one_by_one(ctx: Context, steps: int) -> object:
    return [await ctx.step(f"step/{number}", _trivial, number) for number in range(steps)]


async def _take(url: str, steps: int, way: Way, *, trace: bool = False) -> Measured:
    """Take the steps in one way; measure the time, or the memory, which takes much longer."""
    figure = 0.0

    async def handle(ctx: Context, _: None) -> None:
        nonlocal figure
        began = time.perf_counter()
        if trace:
            tracemalloc.start()
        await way(ctx, steps)
        if trace:
            figure = tracemalloc.get_traced_memory()[1]
            tracemalloc.stop()
        else:
            figure = steps / (time.perf_counter() - began)

    async with new_database(url) as database:
        worker = Bluestreak(MongoStore.from_database(database))
        worker.register_handler("h", handle)
        async with asyncio.timeout(PATIENCE), polling(worker):
            await worker.start("w", "h")
            await worker.wait("w")
        stored = await database[STEPS].count_documents({})
    return Measured(figure=figure, integrity=Integrity(lost_writes=abs(steps - stored)))
