"""The same five steps on DBOS, which keeps its workflows in SQLite or PostgreSQL.

Optional: `make bench-peers` installs DBOS. Here the time begins with the first start, since a
workflow of DBOS that is called is created by the call. Both sides do it in both ways: by a hundred
callers, each of whom starts one workflow after the other and waits for its result; and through a
queue, into which all are put first, and which runs a hundred at once.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.metadata
import importlib.util
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from enum import StrEnum
from functools import partial, reduce
from operator import add
from pathlib import Path
from typing import Any
from uuid import uuid4

from benchmarks import child, postgres, specimen
from benchmarks.database import new_database, until, until_all_ended
from benchmarks.report import Integrity, Table, Target
from benchmarks.rounds import Spread, interleaved
from benchmarks.workload import HANDLER_ID, STEP_IDS, STEPS, Ledger, polling, verify
from bluestreak_core import Bluestreak
from bluestreak_mongo import LocalMongo, MongoStore

CONCURRENCY = 100
QUEUE = "bench"
PATIENCE = 240  # seconds


class Way(StrEnum):
    """How the workflows are started and run."""

    CALLERS = "100 callers"
    QUEUE = "a queue"


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    rounds: int
    ours: int
    theirs: int


FULL = Size(rounds=3, ours=3_000, theirs=250)
QUICK = Size(rounds=1, ours=50, theirs=10)

OURS = "Bluestreak on MongoDB"


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    rate: float
    integrity: Integrity


@dataclass(frozen=True, slots=True, kw_only=True)
class System:
    """The steps a second of all rounds, by one way of starting and running."""

    name: str
    way: Way
    rates: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Peers:
    """`missing` says which peers could not be measured, and why."""

    systems: tuple[System, ...]
    versions: tuple[str, ...]
    missing: tuple[str, ...]
    integrity: Integrity

    def tables(self) -> Sequence[Table]:
        ours = self._best(OURS)
        rows = [
            (
                f"{system.name}, {system.way}",
                Spread.of(system.rates).show(),
                Spread.of_ratios(ours.rates, system.rates).show(1),
            )
            for system in self.systems
        ]
        notes = [(missing, "-", "-") for missing in self.missing]
        return [
            Table(
                title=f"Steps a second, from the first start to the last end ({self._versions})",
                columns=("", "steps a second", "our better way, times"),
                rows=(*rows, *notes),
            )
        ]

    def targets(self) -> Sequence[Target]:
        return []

    @property
    def _versions(self) -> str:
        return ", ".join(self.versions)

    def _best(self, name: str) -> System:
        ways = [system for system in self.systems if system.name == name]
        return max(ways, key=lambda system: Spread.of(system.rates).median)


async def measure(*, quick: bool) -> Peers:
    size = QUICK if quick else FULL
    if importlib.util.find_spec("dbos") is None:
        raise SystemExit("peers: DBOS is not installed; `make bench-peers` does that")
    with ExitStack() as stack:
        mongodb = stack.enter_context(LocalMongo()).url
        folder = stack.enter_context(tempfile.TemporaryDirectory(prefix="bluestreak-peers-"))
        databases = {"DBOS on SQLite": f"sqlite:///{folder}"}
        programs = postgres.find()
        if programs is not None:
            databases["DBOS on PostgreSQL"] = stack.enter_context(postgres.running(programs))
        contenders: dict[str, Callable[[], Awaitable[Measured]]] = {}
        for way in Way:
            contenders[_key(OURS, way)] = partial(_run_bluestreak, mongodb, size.ours, way)
            for name, database in databases.items():
                contenders[_key(name, way)] = partial(_run_dbos, database, size.theirs, way)
        measured = await interleaved(size.rounds, contenders)
    return Peers(
        systems=tuple(
            System(
                name=name,
                way=way,
                rates=tuple(measurement.rate for measurement in measured[_key(name, way)]),
            )
            for name in (OURS, *databases)
            for way in Way
        ),
        versions=tuple(_versions(programs)),
        missing=() if programs else ("DBOS on PostgreSQL: no PostgreSQL server is installed",),
        integrity=reduce(
            add, (measurement.integrity for some in measured.values() for measurement in some)
        ),
    )


async def worker(database: str, workflows: int, way: str) -> AsyncGenerator[object, None]:
    """DBOS in its own process; answers with the seconds that it took and the calls of its steps."""
    dbos: Any = importlib.import_module("dbos")
    dbos.DBOS(config={"name": QUEUE, "system_database_url": database, "log_level": "ERROR"})
    ledger = Ledger(workflows)

    async def call(workflow_id: str, step_id: str) -> dict[str, object]:
        return await ledger.step(workflow_id, step_id)

    step = dbos.DBOS.step()(call)  # it marks the function, and cannot mark a method

    async def five_steps(number: int) -> dict[str, int]:
        for step_id in STEP_IDS:
            await step(specimen.workflow_id(number), step_id)
        ledger.returned()
        return {"order": number}

    workflow = dbos.DBOS.workflow()(five_steps)

    async def enqueue(number: int) -> None:
        await dbos.DBOS.enqueue_workflow_async(QUEUE, workflow, number)

    dbos.DBOS.launch()
    await dbos.DBOS.register_queue_async(
        QUEUE, worker_concurrency=CONCURRENCY, polling_interval_sec=0.1
    )
    yield "launched"
    began = time.perf_counter()
    if way == Way.CALLERS:
        await _by_callers(workflows, workflow)
    else:
        await _by_callers(workflows, enqueue)
        await ledger.all_returned.wait()
        await until(partial(_all_succeeded, dbos, workflows), pause=0.01)
    seconds = time.perf_counter() - began
    intact = await _all_succeeded(dbos, workflows)
    yield {"seconds": seconds, "calls": ledger.calls, "intact": intact}
    dbos.DBOS.destroy()


async def _run_dbos(database: str, workflows: int, way: Way) -> Measured:
    file = ".sqlite" if database.startswith("sqlite") else ""
    new = f"{database}/bench_{uuid4().hex[:12]}{file}"
    options = {"database": new, "workflows": workflows, "way": way}
    async with asyncio.timeout(PATIENCE), child.started("peers", options) as process:
        await process.answer()
        await asyncio.sleep(1)  # its threads have begun to poll
        told = await process.answer()
    calls = [tuple(call) for call in told["calls"]]
    return Measured(
        rate=workflows * STEPS / told["seconds"],
        integrity=Integrity(
            lost_writes=0 if told["intact"] else workflows,
            double_claims=len(calls) - len(set(calls)),
        ),
    )


async def _run_bluestreak(url: str, workflows: int, way: Way) -> Measured:
    async with new_database(url) as database:
        ledger = Ledger(workflows)
        bluestreak = Bluestreak(MongoStore.from_database(database), max_concurrency=CONCURRENCY)
        bluestreak.register_handler(HANDLER_ID, ledger.handle)

        async def start(number: int) -> None:
            await bluestreak.start(specimen.workflow_id(number), HANDLER_ID, {"order": number})

        async def start_and_wait(number: int) -> None:
            await start(number)
            await bluestreak.wait(specimen.workflow_id(number))

        async with asyncio.timeout(PATIENCE), polling(bluestreak):
            began = time.perf_counter()
            await _by_callers(workflows, start_and_wait if way == Way.CALLERS else start)
            await until_all_ended(database, pause=0.01)
            seconds = time.perf_counter() - began
        return Measured(
            rate=workflows * STEPS / seconds,
            integrity=await verify(database, workflows, ledger.calls),
        )


async def _by_callers(workflows: int, call: Callable[[int], Awaitable[object]]) -> None:
    """A hundred tasks, each of which makes one call after the other."""
    numbers = iter(range(workflows))

    async def go_on() -> None:
        for number in numbers:
            await call(number)

    async with asyncio.TaskGroup() as tasks:
        for _ in range(CONCURRENCY):
            tasks.create_task(go_on())


async def _all_succeeded(dbos: Any, workflows: int) -> bool:
    found = await dbos.DBOS.list_workflows_async(
        status="SUCCESS", load_input=False, load_output=False
    )
    return len(found) == workflows


def _versions(programs: Path | None) -> Iterator[str]:
    yield f"DBOS {importlib.metadata.version('dbos')}"
    yield f"Python {sys.version_info.major}.{sys.version_info.minor}"
    if programs is not None:
        yield f"PostgreSQL {programs.parent.name}"


def _key(name: str, way: Way) -> str:
    return f"{name}, {way}"
