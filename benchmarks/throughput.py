"""Steps a second of five-step workflows, beside bare inserts and the JavaScript algorithm.

The workflows are created beforehand. The time runs from the start of polling until a majority of
the database shows the last of them as finished. Every measurement has a new database.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add

from benchmarks import specimen
from benchmarks.database import BATCH, Document, new_database, until_all_ended
from benchmarks.javascript import JavaScript, JavaScriptContext
from benchmarks.report import NONE, Bound, Integrity, Table, Target
from benchmarks.rounds import Spread, interleaved
from benchmarks.specimen import Specimens
from benchmarks.workload import HANDLER_ID, STEP_IDS, STEPS, Ledger, polling, verify
from bluestreak_core import Bluestreak
from bluestreak_mongo import LocalMongo, MongoStore, schema
from bluestreak_mongo.schema import workflow as wf

PATIENCE = 120  # seconds
STARTERS = 100


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """How many workflows either side runs at one concurrency: enough for a second or two."""

    concurrency: int
    ours: int
    javascript: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    rounds: int
    loads: tuple[Load, ...]
    limit: int
    starts: int
    single_inserts: int


FULL = Size(
    rounds=5,
    loads=(
        Load(concurrency=1, ours=150, javascript=80),
        Load(concurrency=10, ours=1_000, javascript=250),
        Load(concurrency=100, ours=5_000, javascript=300),
        Load(concurrency=1000, ours=8_000, javascript=1_000),
    ),
    limit=6_000,
    starts=10_000,
    single_inserts=1_000,
)
QUICK = Size(
    rounds=1,
    loads=(Load(concurrency=1, ours=5, javascript=5), Load(concurrency=20, ours=40, javascript=20)),
    limit=40,
    starts=100,
    single_inserts=20,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One measurement: steps, or starts, a second."""

    rate: float
    integrity: Integrity = NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class AtConcurrency:
    """The rates of all rounds at one concurrency, in their order."""

    concurrency: int
    ours: tuple[float, ...]
    javascript: tuple[float, ...]
    limit: tuple[float, ...]

    @property
    def against_javascript(self) -> Spread:
        return Spread.of_ratios(self.ours, self.javascript)

    @property
    def against_limit(self) -> Spread:
        return Spread.of_ratios(self.ours, self.limit)


@dataclass(frozen=True, slots=True, kw_only=True)
class Throughput:
    levels: tuple[AtConcurrency, ...]
    starts: tuple[float, ...]
    single_inserts: tuple[float, ...]
    integrity: Integrity
    javascript_integrity: Integrity

    @property
    def best(self) -> AtConcurrency:
        """The concurrency at which Bluestreak is fastest."""
        return max(self.levels, key=lambda level: Spread.of(level.ours).median)

    @property
    def best_javascript(self) -> AtConcurrency:
        """The concurrency at which the JavaScript algorithm is fastest."""
        return max(self.levels, key=lambda level: Spread.of(level.javascript).median)

    @property
    def best_against_best(self) -> Spread:
        """Not side by side: the two concurrencies are measured one after the other."""
        return Spread.of_ratios(self.best.ours, self.best_javascript.javascript)

    def tables(self) -> Sequence[Table]:
        return [
            Table(
                title="Steps a second, median and range of the rounds",
                columns=(
                    "concurrency",
                    "Bluestreak",
                    "JavaScript algorithm",
                    "bare inserts",
                    "times JavaScript",
                    "of the limit",
                ),
                rows=tuple(_row(level) for level in self.levels),
            ),
            Table(
                title="Starts a second",
                columns=("", "a second"),
                rows=(
                    (f"`start`, {STARTERS} at once", Spread.of(self.starts).show()),
                    ("`insert_one`, one by one", Spread.of(self.single_inserts).show()),
                    ("ratio", Spread.of_ratios(self.starts, self.single_inserts).show(2)),
                ),
            ),
        ]

    def targets(self) -> Sequence[Target]:
        at_least = partial(Target, bound=Bound.AT_LEAST)
        best = f"throughput at concurrency {self.best.concurrency}"
        return [
            at_least(
                what=f"{best}, against the JavaScript algorithm at the same",
                figure=15,
                reached=self.best.against_javascript.median,
                unit="times",
            ),
            at_least(
                what=f"{best}, against the JavaScript algorithm at its best",
                figure=15,
                reached=self.best_against_best.median,
                unit="times",
            ),
            at_least(
                what=f"{best}, against bare inserts",
                figure=0.35,
                reached=self.best.against_limit.median,
                unit="of the limit",
            ),
            at_least(
                what="one workflow at a time, against the JavaScript algorithm",
                figure=1.5,
                reached=self.levels[0].against_javascript.median,
                unit="times",
            ),
        ]


async def measure(*, quick: bool) -> Throughput:
    size = QUICK if quick else FULL
    with LocalMongo() as server:
        specimens = await specimen.collect(server.url)
        measured = [await _level(server.url, specimens, size, load) for load in size.loads]
        starts = await interleaved(
            size.rounds,
            {
                "start": partial(_start, server.url, size.starts),
                "insert": partial(_insert_one, server.url, specimens, size.single_inserts),
            },
        )
    return Throughput(
        levels=tuple(map(_at_concurrency, size.loads, measured)),
        starts=_rates(starts["start"]),
        single_inserts=_rates(starts["insert"]),
        integrity=_integrity(
            [*starts["start"], *(measurement for of in measured for measurement in of["ours"])]
        ),
        javascript_integrity=_integrity(
            [measurement for of in measured for measurement in of["javascript"]]
        ),
    )


async def run_bluestreak(
    url: str, specimens: Specimens, workflows: int, concurrency: int
) -> Measured:
    """Steps a second of one worker in this process."""
    async with new_database(url) as database:
        await specimen.create(database, specimens, range(workflows), HANDLER_ID)
        ledger = Ledger(workflows)
        bluestreak = Bluestreak(MongoStore.from_database(database), max_concurrency=concurrency)
        bluestreak.register_handler(HANDLER_ID, ledger.handle)
        began = time.perf_counter()
        async with asyncio.timeout(PATIENCE), polling(bluestreak):
            await ledger.all_returned.wait()
            await until_all_ended(database, pause=0.001)
            seconds = time.perf_counter() - began
        return Measured(
            rate=workflows * STEPS / seconds,
            integrity=await verify(database, workflows, ledger.calls),
        )


async def run_javascript(
    url: str, specimens: Specimens, workflows: int, concurrency: int
) -> Measured:
    """Steps a second of the JavaScript algorithm."""
    async with new_database(url) as database:
        await specimen.create(database, specimens, range(workflows), HANDLER_ID)
        ledger = Ledger(workflows)

        async def handle(ctx: JavaScriptContext, input: Document) -> Document:
            for step_id in STEP_IDS:
                await ctx.step(step_id, partial(ledger.step, ctx.workflow_id, step_id))
            return {"order": input["order"]}

        javascript = JavaScript(database, handle)
        await javascript.init()
        began = time.perf_counter()
        async with asyncio.timeout(PATIENCE):
            await javascript.run_all(concurrency)
        seconds = time.perf_counter() - began
        return Measured(
            rate=workflows * STEPS / seconds,
            integrity=await verify(database, workflows, ledger.calls),
        )


async def insert_steps(url: str, specimens: Specimens, workflows: int) -> Measured:
    """The limit: the steps of so many workflows, inserted in batches that are ready beforehand."""
    async with new_database(url) as database:
        rows = specimen.steps(specimens, workflows)
        batches = [rows[start : start + BATCH] for start in range(0, len(rows), BATCH)]
        collection = database[schema.STEPS]
        began = time.perf_counter()
        for batch in batches:
            await collection.insert_many(batch, ordered=False)
        seconds = time.perf_counter() - began
        return Measured(rate=len(rows) / seconds)


async def _level(
    url: str, specimens: Specimens, size: Size, load: Load
) -> dict[str, list[Measured]]:
    return await interleaved(
        size.rounds,
        {
            "ours": partial(run_bluestreak, url, specimens, load.ours, load.concurrency),
            "javascript": partial(
                run_javascript, url, specimens, load.javascript, load.concurrency
            ),
            "limit": partial(insert_steps, url, specimens, size.limit),
        },
    )


def _at_concurrency(load: Load, measured: Mapping[str, Sequence[Measured]]) -> AtConcurrency:
    return AtConcurrency(
        concurrency=load.concurrency,
        ours=_rates(measured["ours"]),
        javascript=_rates(measured["javascript"]),
        limit=_rates(measured["limit"]),
    )


async def _start(url: str, count: int) -> Measured:
    """Starts a second, by tasks that start one workflow after the other."""
    async with new_database(url) as database:
        numbers = iter(range(count))

        async def start_some(bluestreak: Bluestreak) -> None:
            for number in numbers:
                await bluestreak.start(specimen.workflow_id(number), HANDLER_ID, {"order": number})

        async with Bluestreak(MongoStore.from_database(database)) as bluestreak:
            began = time.perf_counter()
            async with asyncio.TaskGroup() as tasks:
                for _ in range(STARTERS):
                    tasks.create_task(start_some(bluestreak))
            seconds = time.perf_counter() - began
        lost = count - await database[schema.WORKFLOWS].count_documents({wf.STATUS: "idle"})
        return Measured(rate=count / seconds, integrity=Integrity(lost_writes=lost))


async def _insert_one(url: str, specimens: Specimens, count: int) -> Measured:
    async with new_database(url) as database:
        ids = [{wf.WORKFLOW_ID: specimen.workflow_id(number)} for number in range(count)]
        rows = [specimens.created | own for own in ids]
        began = time.perf_counter()
        for row in rows:
            await database[schema.WORKFLOWS].insert_one(row)
        return Measured(rate=count / (time.perf_counter() - began))


def _integrity(measured: Sequence[Measured]) -> Integrity:
    return reduce(add, (measurement.integrity for measurement in measured))


def _rates(measured: Sequence[Measured]) -> tuple[float, ...]:
    return tuple(measurement.rate for measurement in measured)


def _row(level: AtConcurrency) -> tuple[str, ...]:
    return (
        f"{level.concurrency:,}",
        Spread.of(level.ours).show(),
        Spread.of(level.javascript).show(),
        Spread.of(level.limit).show(),
        level.against_javascript.show(1),
        level.against_limit.show(3),
    )
