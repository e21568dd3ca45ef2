"""What an idle worker asks of the database: commands a second, by name.

The driver's own look at its servers, every ten seconds, is not among them: it is made for a client,
whether that works or not.
"""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from pymongo.monitoring import (
    CommandFailedEvent,
    CommandListener,
    CommandStartedEvent,
    CommandSucceededEvent,
)
from typing_extensions import override

from benchmarks.database import new_database
from benchmarks.report import NONE, Bound, Integrity, Table, Target
from benchmarks.workload import HANDLER_ID, Ledger, polling
from bluestreak_core import Bluestreak
from bluestreak_mongo import LocalMongo, MongoStore


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    """Seconds: how long to let the worker come to rest, and how long to count."""

    poll_interval: float
    rest: float
    count: float


FULL = Size(poll_interval=5, rest=10, count=30)
QUICK = Size(poll_interval=0.5, rest=0.5, count=1)

REPLICA_SET, STANDALONE = "replica set", "standalone"


@dataclass(frozen=True, slots=True, kw_only=True)
class Case:
    """How many commands of each name were sent to one kind of server, in so many seconds."""

    server: str
    seconds: float
    commands: Mapping[str, int]

    @property
    def rate(self) -> float:
        return sum(self.commands.values()) / self.seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    cases: tuple[Case, ...]
    integrity: Integrity = NONE

    def tables(self) -> Sequence[Table]:
        names = sorted({name for case in self.cases for name in case.commands})
        return [
            Table(
                title="Commands a second of one idle worker",
                columns=("server", "all", *(f"`{name}`" for name in names)),
                rows=tuple(
                    (
                        case.server,
                        f"{case.rate:.2f}",
                        *(f"{case.commands.get(name, 0) / case.seconds:.2f}" for name in names),
                    )
                    for case in self.cases
                ),
            )
        ]

    def targets(self) -> Sequence[Target]:
        return [
            Target(
                what=f"idle worker, {case.server}",
                bound=Bound.AT_MOST,
                figure=1,
                reached=case.rate,
                unit="commands/s",
            )
            for case in self.cases
            if case.server == REPLICA_SET
        ]


class Sent(CommandListener):
    """Counts the commands that a client sends."""

    def __init__(self) -> None:
        self.commands: Counter[str] = Counter()

    @override
    def started(self, event: CommandStartedEvent) -> None:
        self.commands[event.command_name] += 1

    @override
    def succeeded(self, event: CommandSucceededEvent) -> None:
        """Counted already."""

    @override
    def failed(self, event: CommandFailedEvent) -> None:
        """Counted already."""


async def measure(*, quick: bool) -> Idle:
    size = QUICK if quick else FULL
    with LocalMongo() as replica_set, LocalMongo(replica_set=False) as standalone:
        cases = await asyncio.gather(
            _count(replica_set.url, REPLICA_SET, size), _count(standalone.url, STANDALONE, size)
        )
    return Idle(cases=tuple(cases))


async def _count(url: str, server: str, size: Size) -> Case:
    sent = Sent()
    async with new_database(url, [sent]) as database:
        bluestreak = Bluestreak(
            MongoStore.from_database(database), poll_interval=size.poll_interval
        )
        bluestreak.register_handler(HANDLER_ID, Ledger(0).handle)
        async with polling(bluestreak):
            await asyncio.sleep(size.rest)
            before = sent.commands.copy()
            await asyncio.sleep(size.count)
            commands = sent.commands - before
    return Case(server=server, seconds=size.count, commands=dict(commands))
