"""Messages: how many can be sent, how soon they are received, and what a full mailbox costs.

Sender and worker are in one process, but each has a store and a client of its own, so that a
message takes the way that it takes between processes.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial, reduce
from operator import add

from pymongo.asynchronous.database import AsyncDatabase

from benchmarks.database import Document, fill, new_database, until
from benchmarks.report import NONE, Bound, Integrity, Table, Target
from benchmarks.rounds import Percentiles, Spread, interleaved, scattered
from benchmarks.workload import polling
from bluestreak_core import Bluestreak, Client, Context, Start
from bluestreak_mongo import LocalMongo, MongoStore
from bluestreak_mongo.schema import MESSAGES, STEPS, WORKFLOWS
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.message import MESSAGE_ID, PLACE, UNREAD

SENDERS = 100
NAME = "news"
PATIENCE = 120  # seconds
IN_MEMORY, PARKED = "waiting in memory", "parked"
PARK_AFTER = {IN_MEMORY: 60.0, PARKED: 0.2}


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    rounds: int
    sends: int
    single_inserts: int
    samples: int
    look_rounds: int
    read: int
    looks: int


FULL = Size(
    rounds=5,
    sends=5_000,
    single_inserts=1_000,
    samples=100,
    look_rounds=3,
    read=100_000,
    looks=100,
)
QUICK = Size(rounds=1, sends=100, single_inserts=20, samples=3, look_rounds=1, read=300, looks=5)


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One measurement, and what was wrong with it."""

    figure: float
    integrity: Integrity = NONE


@dataclass(frozen=True, slots=True, kw_only=True)
class Messages:
    to_many: tuple[float, ...]
    """Messages a second to different workflows."""
    to_one: tuple[float, ...]
    single_inserts: tuple[float, ...]
    delays: Mapping[str, tuple[float, ...]]
    """Milliseconds from `send` to the handler."""
    empty: tuple[float, ...]
    """Milliseconds that a receive takes in a mailbox with one message."""
    full: tuple[float, ...]
    """Likewise in one that holds many more, which have been received."""
    integrity: Integrity

    def tables(self) -> Sequence[Table]:
        return [
            Table(
                title=f"Messages a second, {SENDERS} senders at once",
                columns=("", "a second"),
                rows=(
                    ("to different workflows", Spread.of(self.to_many).show()),
                    ("to one workflow", Spread.of(self.to_one).show()),
                    ("`insert_one`, one by one", Spread.of(self.single_inserts).show()),
                    ("ratio of the first to the last", self._ratio.show(1)),
                ),
            ),
            Table(
                title="Milliseconds from `send` to the handler",
                columns=("the workflow is", "samples", "p50", "p99", "longest"),
                rows=tuple(_delay_row(name, delays) for name, delays in self.delays.items()),
            ),
            Table(
                title="Milliseconds of one receive",
                columns=("messages received before", "median and range"),
                rows=(
                    ("none", Spread.of(self.empty).show(1)),
                    ("many", Spread.of(self.full).show(1)),
                ),
            ),
        ]

    def targets(self) -> Sequence[Target]:
        limits = {IN_MEMORY: 10, PARKED: 25}
        return [
            Target(
                what="messages to different workflows, against single inserts",
                bound=Bound.AT_LEAST,
                figure=10,
                reached=self._ratio.median,
                unit="times",
            ),
            Target(
                what="messages to one workflow",
                bound=Bound.AT_LEAST,
                figure=2000,
                reached=Spread.of(self.to_one).median,
                unit="a second",
            ),
            *(
                Target(
                    what=f"send to handler, {name}, p50",
                    bound=Bound.AT_MOST,
                    figure=limits[name],
                    reached=Percentiles.of(delays).p50,
                    unit="ms",
                )
                for name, delays in self.delays.items()
            ),
            Target(
                what="a receive in a mailbox of many received messages, against an empty one",
                bound=Bound.AT_MOST,
                figure=2,
                reached=Spread.of_ratios(self.full, self.empty).median,
                unit="times",
            ),
        ]

    @property
    def _ratio(self) -> Spread:
        return Spread.of_ratios(self.to_many, self.single_inserts)


async def measure(*, quick: bool) -> Messages:
    size = QUICK if quick else FULL
    with LocalMongo() as server:
        rates = await interleaved(
            size.rounds,
            {
                "many": partial(_send, server.url, size.sends, size.sends),
                "one": partial(_send, server.url, size.sends, 1),
                "insert": partial(_insert_one, server.url, size.single_inserts),
            },
        )
        delays = {name: await _delays(server.url, size, name) for name in (IN_MEMORY, PARKED)}
        looks = await interleaved(
            size.look_rounds,
            {
                "empty": partial(_receive, server.url, size.looks, 0),
                "full": partial(_receive, server.url, size.looks, size.read),
            },
        )
    measured = [
        measurement for of in (rates, looks) for each in of.values() for measurement in each
    ]
    return Messages(
        to_many=_figures(rates["many"]),
        to_one=_figures(rates["one"]),
        single_inserts=_figures(rates["insert"]),
        delays=delays,
        empty=_figures(looks["empty"]),
        full=_figures(looks["full"]),
        integrity=reduce(add, (measurement.integrity for measurement in measured)),
    )


async def _send(url: str, count: int, workflows: int) -> Measured:
    """Messages a second, by tasks that send one after the other."""
    async with (
        new_database(url) as database,
        Client(MongoStore.from_database(database)) as client,
    ):
        await client.start_many(Start(f"w{number}", "h") for number in range(workflows))
        numbers = iter(range(count))

        async def send_some() -> None:
            for number in numbers:
                await client.send(f"w{number % workflows}", NAME, {"order": number})

        began = time.perf_counter()
        async with asyncio.TaskGroup() as tasks:
            for _ in range(SENDERS):
                tasks.create_task(send_some())
        seconds = time.perf_counter() - began
        stored = await database[MESSAGES].count_documents({UNREAD: True})
        counted = await _sum_of_mail(database)
        return Measured(
            figure=count / seconds,
            integrity=Integrity(lost_writes=abs(count - stored) + abs(count - counted)),
        )


async def _sum_of_mail(database: AsyncDatabase[Document]) -> int:
    group = {"$group": {"_id": None, "mail": {"$sum": f"${wf.MAIL}"}}}
    (found,) = await (await database[WORKFLOWS].aggregate([group])).to_list(None)
    return int(found["mail"])


async def _insert_one(url: str, count: int) -> Measured:
    async with new_database(url) as database:
        rows = [
            {"workflowId": f"w{number}", "payload": {"order": number}} for number in range(count)
        ]
        began = time.perf_counter()
        for row in rows:
            await database["inserted"].insert_one(row)
        return Measured(figure=count / (time.perf_counter() - began))


async def _delays(url: str, size: Size, name: str) -> tuple[float, ...]:
    """How soon messages reach workflows that have waited for a while, in milliseconds."""
    received: dict[str, float] = {}
    milliseconds: list[float] = []

    async def wait(ctx: Context, _: None) -> None:
        await ctx.receive("wait", NAME)
        received.setdefault(ctx.workflow_id, time.perf_counter())

    async with (
        new_database(url) as database,
        Client(MongoStore(url, database=database.name)) as client,
    ):
        worker = Bluestreak(
            MongoStore.from_database(database),
            park_after=PARK_AFTER[name],
            max_concurrency=size.samples,
        )
        worker.register_handler("wait", wait)
        await client.start_many(Start(f"w{number}", "wait") for number in range(size.samples))
        async with asyncio.timeout(PATIENCE), polling(worker):
            await until(_wait(database, size.samples, name))
            for number, pause in enumerate(scattered(size.samples, 0.02, 0.06)):
                await asyncio.sleep(pause)
                began = time.perf_counter()
                await client.send(f"w{number}", NAME, number)
                await client.wait(f"w{number}")
                milliseconds.append((received[f"w{number}"] - began) * 1000)
    return tuple(milliseconds)


def _wait(
    database: AsyncDatabase[Document], count: int, name: str
) -> Callable[[], Awaitable[bool]]:
    """Whether so many workflows run, and so wait within moments, or are parked."""
    there = {wf.STATUS: "running"} if name == IN_MEMORY else {wf.WAITING_FOR: NAME}

    async def all_wait() -> bool:
        return await database[WORKFLOWS].count_documents(there) == count

    return all_wait


async def _receive(url: str, looks: int, read: int) -> Measured:
    """The milliseconds of one receive, of many in a row, in a mailbox that holds what was read."""
    milliseconds = 0.0

    async def handle(ctx: Context, _: None) -> None:
        nonlocal milliseconds
        began = time.perf_counter()
        for number in range(looks):
            await ctx.receive(f"receive-{number}", NAME)
        milliseconds = (time.perf_counter() - began) * 1000 / looks

    async with new_database(url) as database:
        worker = Bluestreak(MongoStore.from_database(database))
        worker.register_handler("h", handle)
        async with worker:
            await worker.start("w", "h")
            for number in range(looks):
                await worker.send("w", NAME, number)
        await _leave_read(database, read)
        async with asyncio.timeout(PATIENCE), polling(worker):
            await worker.wait("w")
        received = await database[STEPS].count_documents({MESSAGE_ID: {"$exists": True}})
        return Measured(figure=milliseconds, integrity=Integrity(lost_writes=looks - received))


async def _leave_read(database: AsyncDatabase[Document], count: int) -> None:
    """Messages that have been received before those that are there."""
    (first,) = await database[MESSAGES].find().sort(PLACE, 1).limit(1).to_list(None)
    kept = {field: value for field, value in first.items() if field not in ("_id", UNREAD)}
    rows = [
        kept | {MESSAGE_ID: f"read-{number}", PLACE: first[PLACE] - count + number}
        for number in range(count)
    ]
    await fill(database, MESSAGES, rows)


def _delay_row(name: str, delays: Sequence[float]) -> tuple[str, ...]:
    told = Percentiles.of(delays)
    return (name, f"{told.count}", *(f"{figure:,.1f}" for figure in (told.p50, told.p99, told.max)))


def _figures(measured: Sequence[Measured]) -> tuple[float, ...]:
    return tuple(measurement.figure for measurement in measured)
