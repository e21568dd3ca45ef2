"""The same application, run by `bluestreak worker` and by `asyncio.run` in a program of its own.

Run as a script, this module is that program: `python -m benchmarks.command`.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from functools import partial, reduce
from itertools import chain
from operator import add
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase

from benchmarks import specimen
from benchmarks.child import ROOT
from benchmarks.database import Document, new_database, until_all_ended
from benchmarks.report import Bound, Integrity, Table, Target
from benchmarks.rounds import Spread, interleaved
from benchmarks.specimen import Specimens
from benchmarks.workload import HANDLER_ID, Ledger, verify
from bluestreak_core import Bluestreak
from bluestreak_mongo import LocalMongo, MongoStore
from bluestreak_mongo.schema import WORKFLOWS
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.claim_entry import CLAIMED_AT

PATIENCE = 120  # seconds
URL, DATABASE = "BENCHMARK_URL", "BENCHMARK_DATABASE"
CONCURRENCY = 1000
APPLICATION = "benchmarks.command:application"
WORKER = (sys.executable, "-m", "bluestreak_cli", "worker", APPLICATION)
PROGRAM = "asyncio.run"
CONTENDERS = {
    "bluestreak worker": WORKER,
    "bluestreak worker --port": (*WORKER, "--port", "0"),
    PROGRAM: (sys.executable, "-m", "benchmarks.command"),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    rounds: int
    workflows: int


FULL = Size(rounds=7, workflows=8_000)
QUICK = Size(rounds=1, workflows=50)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    rate: float
    integrity: Integrity


@dataclass(frozen=True, slots=True, kw_only=True)
class Command:
    """The workflows a second of all rounds, by the way in which they were run."""

    rates: dict[str, list[float]]
    integrity: Integrity

    def tables(self) -> Sequence[Table]:
        return [
            Table(
                title="One process that runs workflows of five steps",
                columns=("run by", "workflows a second", "times asyncio.run"),
                rows=tuple(
                    (f"`{name}`", Spread.of(rates).show(), self._times(name).show(2))
                    for name, rates in self.rates.items()
                ),
            )
        ]

    def targets(self) -> Sequence[Target]:
        return [
            Target(
                what="workflows run by `bluestreak worker`, against `asyncio.run`",
                bound=Bound.AT_LEAST,
                figure=1.1,
                reached=self._times("bluestreak worker").median,
                unit="times",
            )
        ]

    def _times(self, name: str) -> Spread:
        return Spread.of_ratios(self.rates[name], self.rates[PROGRAM])


async def measure(*, quick: bool) -> Command:
    size = QUICK if quick else FULL
    with LocalMongo() as server:
        specimens = await specimen.collect(server.url)
        measured = await interleaved(
            size.rounds,
            {
                name: partial(_run, server.url, specimens, size.workflows, command)
                for name, command in CONTENDERS.items()
            },
        )
    return Command(
        rates={name: [one.rate for one in rounds] for name, rounds in measured.items()},
        integrity=reduce(add, (one.integrity for one in chain(*measured.values()))),
    )


def application() -> Bluestreak:
    """What both of them run."""
    store = MongoStore(os.environ[URL], database=os.environ[DATABASE])
    bluestreak = Bluestreak(store, max_concurrency=CONCURRENCY)
    bluestreak.register_handler(HANDLER_ID, Ledger(0).handle)
    return bluestreak


async def main() -> None:
    """The program that the documentation shows for those who do without the command."""
    bluestreak = application()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, bluestreak.stop)
    async with bluestreak:
        await bluestreak.poll()


async def _run(url: str, specimens: Specimens, workflows: int, command: Sequence[str]) -> Measured:
    async with new_database(url) as database:
        await specimen.create(database, specimens, range(workflows), HANDLER_ID)
        async with _running(command, url, database.name), asyncio.timeout(PATIENCE):
            await until_all_ended(database)
        return Measured(
            rate=workflows / await _seconds(database),
            integrity=await verify(database, workflows, calls=[]),
        )


@asynccontextmanager
async def _running(command: Sequence[str], url: str, database: str) -> AsyncIterator[None]:
    process = await asyncio.create_subprocess_exec(
        *command,
        cwd=ROOT,
        env=os.environ | {URL: url, DATABASE: database},
        stderr=asyncio.subprocess.DEVNULL,
    )
    try:
        yield
    finally:
        process.terminate()
        await process.wait()


async def _seconds(database: AsyncDatabase[Document]) -> float:
    """From the first claim to the last end, by what is stored."""
    first, last = {"$arrayElemAt": [f"${wf.CLAIM_LOG}.{CLAIMED_AT}", 0]}, f"${wf.FINISHED_AT}"
    group: Document = {"_id": None, "began": {"$min": first}, "ended": {"$max": last}}
    cursor = await database[WORKFLOWS].aggregate([{"$group": group}])
    (found,) = await cursor.to_list(None)
    span: Any = found["ended"] - found["began"]
    return float(span.total_seconds())


if __name__ == "__main__":
    asyncio.run(main())
