"""One, two and four worker processes on one database: do they help, and do they get in the way?"""

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial, reduce
from itertools import chain
from operator import add
from typing import Any

from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)
from typing_extensions import override

from benchmarks import child, specimen
from benchmarks.child import Child
from benchmarks.database import connected, new_database, until_all_ended
from benchmarks.report import Integrity, Table, Target
from benchmarks.rounds import Spread, interleaved
from benchmarks.specimen import Specimens
from benchmarks.workload import HANDLER_ID, STEPS, Call, Ledger, polling, verify
from bluestreak_core import Bluestreak
from bluestreak_mongo import LocalMongo, MongoStore
from bluestreak_mongo.schema import WORKFLOWS
from bluestreak_mongo.schema import workflow as wf

PATIENCE = 120  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    rounds: int
    processes: tuple[int, ...]
    workflows: int


FULL = Size(rounds=5, processes=(1, 2, 4), workflows=6_000)
QUICK = Size(rounds=1, processes=(1, 2), workflows=60)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One measurement. `tried` and `won` count the workflows of all claiming updates."""

    rate: float
    tried: int
    won: int
    shares: tuple[int, ...]
    integrity: Integrity


@dataclass(frozen=True, slots=True, kw_only=True)
class Fleet:
    """The measurements of all rounds with so many processes."""

    processes: int
    rounds: tuple[Measured, ...]

    @property
    def rates(self) -> list[float]:
        return [measurement.rate for measurement in self.rounds]

    @property
    def wasted(self) -> Spread:
        """Per cent of the workflows tried for that another worker had got."""
        return Spread.of(
            [
                100 * (measurement.tried - measurement.won) / measurement.tried
                for measurement in self.rounds
            ]
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Workers:
    fleets: tuple[Fleet, ...]
    integrity: Integrity

    def tables(self) -> Sequence[Table]:
        smallest = self.fleets[0]
        return [
            Table(
                title="Worker processes on one database",
                columns=("processes", "steps a second", "times one process", "wasted claims"),
                rows=tuple(
                    (
                        f"{fleet.processes}",
                        Spread.of(fleet.rates).show(),
                        Spread.of_ratios(fleet.rates, smallest.rates).show(2),
                        fleet.wasted.show(1, " %"),
                    )
                    for fleet in self.fleets
                ),
            )
        ]

    def targets(self) -> Sequence[Target]:
        return []


class ClaimsSent(CommandListener):
    """Counts the workflows that claiming updates name, and those that they get."""

    def __init__(self) -> None:
        self.tried = 0
        self.won = 0
        self._under_way: set[int] = set()

    @override
    def started(self, event: CommandStartedEvent) -> None:
        if event.command_name == "update" and event.command["update"] == WORKFLOWS:
            updates = event.command["updates"]
            if wf.CLAIM_LOG in str(updates[0]["u"]):  # no other update touches it
                self.tried += sum(_workflows_in(update["q"]) for update in updates)
                self._under_way.add(event.request_id)

    @override
    def succeeded(self, event: CommandSucceededEvent) -> None:
        if event.request_id in self._under_way:
            self._under_way.remove(event.request_id)
            self.won += event.reply["n"]

    @override
    def failed(self, event: CommandFailedEvent) -> None:
        self._under_way.discard(event.request_id)


async def measure(*, quick: bool) -> Workers:
    size = QUICK if quick else FULL
    with LocalMongo() as server:
        specimens = await specimen.collect(server.url)
        measured = await interleaved(
            size.rounds,
            {
                str(processes): partial(_run, server.url, specimens, size.workflows, processes)
                for processes in size.processes
            },
        )
    return Workers(
        fleets=tuple(
            Fleet(processes=processes, rounds=tuple(measured[str(processes)]))
            for processes in size.processes
        ),
        integrity=reduce(add, (measurement.integrity for measurement in chain(*measured.values()))),
    )


async def worker(url: str, database: str) -> AsyncGenerator[object, None]:
    """Poll from one question to the next; then answer with every call and claim that was made."""
    claims = ClaimsSent()
    ledger = Ledger(0)
    async with connected(url, database, [claims]) as opened:
        bluestreak = Bluestreak(MongoStore.from_database(opened))
        bluestreak.register_handler(HANDLER_ID, ledger.handle)
        await bluestreak.init()
        yield "ready"
        async with polling(bluestreak):
            yield "polling"
        yield {"calls": ledger.calls, "tried": claims.tried, "won": claims.won}


async def _run(url: str, specimens: Specimens, workflows: int, processes: int) -> Measured:
    async with new_database(url) as database, AsyncExitStack() as stack:
        await specimen.create(database, specimens, range(workflows), HANDLER_ID)
        options = {"url": url, "database": database.name}
        children = [
            await stack.enter_async_context(child.started("workers", options))
            for _ in range(processes)
        ]
        await _all_answer(children)
        began = time.perf_counter()
        async with asyncio.timeout(PATIENCE):
            await _all_answer(children)
            await until_all_ended(database)
        seconds = time.perf_counter() - began
        told = await _all_answer(children)
        calls: list[Call] = [(call[0], call[1]) for answer in told for call in answer["calls"]]
        return Measured(
            rate=workflows * STEPS / seconds,
            tried=sum(answer["tried"] for answer in told),
            won=sum(answer["won"] for answer in told),
            shares=tuple(len(answer["calls"]) // STEPS for answer in told),
            integrity=await verify(database, workflows, calls),
        )


async def _all_answer(children: Sequence[Child]) -> list[Any]:
    return list(await asyncio.gather(*(process.answer() for process in children)))


def _workflows_in(query: Mapping[str, Any]) -> int:
    """How many workflows an update is meant for: by a list of ids, or by one."""
    ids = query.get(wf.WORKFLOW_ID, query.get("_id"))
    return len(ids["$in"]) if isinstance(ids, Mapping) else 1
