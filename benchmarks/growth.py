"""Does a claim cost more where a million workflows are stored, or a resumed step in a long history?

Half of the stored workflows are finished, half are parked for months. A claim takes a hundred
workflows that were just created, among them; afterwards they are finished and deleted.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from functools import partial
from uuid import uuid4

from pymongo.asynchronous.database import AsyncDatabase

from benchmarks import specimen
from benchmarks.database import Document, fill, new_database
from benchmarks.report import Bound, Integrity, Table, Target
from benchmarks.rounds import Spread, interleaved
from benchmarks.specimen import Specimens
from benchmarks.workload import polling
from bluestreak_core import Bluestreak, Context, NewWorkflow
from bluestreak_core.model import ClaimRequest
from bluestreak_mongo import LocalMongo, MongoStore
from bluestreak_mongo.schema import STEPS, WORKFLOWS
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.record import Owner
from bluestreak_mongo.schema.step import OUTPUT, STEP_ID

CACHE = "2GB"
CLAIMS = 100
LEASE = timedelta(seconds=60)
REPLAY = "replay"
TEMPLATES = 1000
PATIENCE = 120  # seconds


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    stored: tuple[int, ...]
    rounds: int
    histories: tuple[int, ...]
    history_rounds: int


FULL = Size(
    stored=(1_000, 100_000, 1_000_000),
    rounds=100,
    histories=(10, 1_000, 100_000),
    history_rounds=5,
)
QUICK = Size(stored=(100, 2_000), rounds=2, histories=(5, 100), history_rounds=1)


@dataclass(frozen=True, slots=True, kw_only=True)
class Timed:
    """Seconds that one round took: two calls on the same database; and what went wrong."""

    first: float
    second: float
    integrity: Integrity


@dataclass(frozen=True, slots=True, kw_only=True)
class Stored:
    """Milliseconds, one a round, with so many workflows stored."""

    workflows: int
    claim: tuple[float, ...]
    claim_in_vain: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Replayed:
    """Microseconds a step, one a round, with so many steps recorded."""

    steps: int
    read: tuple[float, ...]
    run: tuple[float, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Growth:
    cache: str
    claims: int
    stored: tuple[Stored, ...]
    replayed: tuple[Replayed, ...]
    integrity: Integrity

    @property
    def largest_to_least(self) -> Spread:
        return Spread.of_ratios(self.stored[-1].claim, self.stored[0].claim)

    def tables(self) -> Sequence[Table]:
        return [
            Table(
                title=f"Milliseconds for a claim of {self.claims}, and for one that finds nothing",
                columns=("stored", "claim", "claims a second", "times the first", "in vain"),
                rows=tuple(self._claim_row(stored) for stored in self.stored),
            ),
            Table(
                title="Microseconds a step of a recorded history",
                columns=("steps", "`store.history`", "a resumed run in all"),
                rows=tuple(
                    (
                        f"{replayed.steps:,}",
                        Spread.of(replayed.read).show(1),
                        Spread.of(replayed.run).show(1),
                    )
                    for replayed in self.replayed
                ),
            ),
        ]

    def targets(self) -> Sequence[Target]:
        most, least = self.stored[-1].workflows, self.stored[0].workflows
        return [
            Target(
                what=f"claim time with {most:,} stored against {least:,}",
                bound=Bound.AT_MOST,
                figure=1.5,
                reached=self.largest_to_least.median,
                unit="times",
            ),
        ]

    def _claim_row(self, stored: Stored) -> tuple[str, ...]:
        claim = Spread.of(stored.claim)
        return (
            f"{stored.workflows:,}",
            claim.show(1),
            f"{1000 * self.claims / claim.median:,.0f}",
            Spread.of_ratios(stored.claim, self.stored[0].claim).show(2),
            Spread.of(stored.claim_in_vain).show(2),
        )


async def measure(*, quick: bool) -> Growth:
    size = QUICK if quick else FULL
    with LocalMongo() as server:
        specimens = await specimen.collect(server.url)
        claims = await _measure_claims(server.url, specimens, size)
        histories = await _measure_histories(server.url, specimens, size)
    rounds = [timing for some in (*claims, *histories) for timing in some]
    return Growth(
        cache=CACHE,
        claims=CLAIMS,
        stored=tuple(
            Stored(
                workflows=count,
                claim=tuple(1e3 * timing.first for timing in some),
                claim_in_vain=tuple(1e3 * timing.second for timing in some),
            )
            for count, some in zip(size.stored, claims, strict=True)
        ),
        replayed=tuple(
            Replayed(
                steps=count,
                read=tuple(1e6 * timing.first / count for timing in some),
                run=tuple(1e6 * timing.second / count for timing in some),
            )
            for count, some in zip(size.histories, histories, strict=True)
        ),
        integrity=sum((timing.integrity for timing in rounds), Integrity()),
    )


# Claims among many workflows ---------------------------------------------------------------------


async def _measure_claims(url: str, specimens: Specimens, size: Size) -> list[list[Timed]]:
    async with AsyncExitStack() as stack:
        databases = [await stack.enter_async_context(new_database(url)) for _ in size.stored]
        await databases[0].client.admin.command(
            "setParameter", 1, wiredTigerEngineRuntimeConfig=f"cache_size={CACHE}"
        )
        claiming: dict[str, Callable[[], Awaitable[Timed]]] = {}
        for database, count in zip(databases, size.stored, strict=True):
            await _store(database, specimens, count)
            store = MongoStore(url, database=database.name)
            await store.init()
            stack.push_async_callback(store.close)
            claiming[str(count)] = partial(_claim, database, store)
        await databases[0].client.admin.command("fsync")  # what was loaded is not written meanwhile
        await interleaved(2, claiming)  # a warm-up
        measured = await interleaved(size.rounds, claiming)
        return list(measured.values())


async def _store(database: AsyncDatabase[Document], specimens: Specimens, count: int) -> None:
    """Let the server multiply some workflows: half of them finished, half parked for months."""
    templates = [
        (specimens.finished if number % 2 else specimens.parked)
        | {wf.WORKFLOW_ID: specimen.workflow_id(number)}
        for number in range(min(TEMPLATES, count))
    ]
    await fill(database, "templates", templates)
    copy = {"$range": [0, count // len(templates)]}
    own = {
        wf.WORKFLOW_ID: {"$concat": [f"${wf.WORKFLOW_ID}", "-", {"$toString": "$copy"}]},
        wf.TIMEOUT_AT: {"$add": [f"${wf.TIMEOUT_AT}", {"$multiply": ["$copy", 1000]}]},
    }
    cursor = await database["templates"].aggregate(
        [
            {"$set": {"copy": copy}},
            {"$unwind": "$copy"},
            {"$set": own},
            {"$unset": ["_id", "copy"]},
            {"$merge": {"into": WORKFLOWS, "whenMatched": "fail"}},
        ]
    )
    await cursor.close()
    await database.drop_collection("templates")


async def _claim(database: AsyncDatabase[Document], store: MongoStore) -> Timed:
    """Claim what was just created, and then once more; leave the database as it was."""
    names = {f"new-{uuid4().hex}" for _ in range(CLAIMS)}
    now = store.clock.now()
    news = [
        NewWorkflow(workflow_id=name, handler_id="new", input=None, created_at=now)
        for name in names
    ]
    created = await asyncio.gather(*map(store.create, news))
    now = store.clock.now()
    began = time.perf_counter()
    claims = await store.claim(ClaimRequest(worker="benchmark", now=now, lease=LEASE, limit=CLAIMS))
    claimed = time.perf_counter()
    in_vain = await store.claim(
        ClaimRequest(worker="benchmark", now=now, lease=LEASE, limit=CLAIMS)
    )
    ended = time.perf_counter()
    await asyncio.gather(*(store.finish(claim, None, now) for claim in claims))
    theirs = {wf.WORKFLOW_ID: {"$in": list(names)}, wf.STATUS: "finished"}
    deleted = await database[WORKFLOWS].delete_many(theirs)
    won = {claim.workflow_id for claim in claims}
    return Timed(
        first=claimed - began,
        second=ended - claimed,
        integrity=Integrity(
            lost_writes=2 * CLAIMS - sum(created) - deleted.deleted_count,
            double_claims=len(claims) - len(won & names) + len(in_vain),
        ),
    )


# Long histories ----------------------------------------------------------------------------------


async def _measure_histories(url: str, specimens: Specimens, size: Size) -> list[list[Timed]]:
    async with AsyncExitStack() as stack:
        replaying: dict[str, Callable[[], Awaitable[Timed]]] = {}
        for count in size.histories:
            database = await stack.enter_async_context(new_database(url))
            await _record(database, specimens, count)
            replaying[str(count)] = partial(_replay, database, count)
        measured = await interleaved(size.history_rounds, replaying)
        return list(measured.values())


async def _record(database: AsyncDatabase[Document], specimens: Specimens, count: int) -> None:
    """A workflow that has been claimed before, and is due with so many recorded steps."""
    due = {wf.HANDLER_ID: REPLAY, wf.INPUT: count, wf.TIMEOUT_AT: datetime.now(UTC)}
    await database[WORKFLOWS].insert_one(specimens.parked | {wf.WORKFLOW_ID: REPLAY} | due)
    parked = wf.to_workflow(specimens.parked | {wf.WORKFLOW_ID: REPLAY})
    steps = [
        specimens.step | Owner.of(parked).stamp | {STEP_ID: _step_id(number), OUTPUT: number}
        for number in range(count)
    ]
    await fill(database, STEPS, steps)


async def _replay(database: AsyncDatabase[Document], count: int) -> Timed:
    """Read the history; then run the workflow over it, to its end. Make it due again."""
    due = await database[WORKFLOWS].find_one({wf.WORKFLOW_ID: REPLAY}) or {}
    called: list[int] = []
    bluestreak = Bluestreak(store := MongoStore.from_database(database), timeout_interval=LEASE)

    async def step(number: int) -> int:
        called.append(number)
        return number

    async def replay(ctx: Context, input: int) -> int:
        return sum([await ctx.step(_step_id(number), step, number) for number in range(input)])

    bluestreak.register_handler(REPLAY, replay)
    async with asyncio.timeout(PATIENCE), bluestreak:
        (claim,) = await store.claim(
            ClaimRequest(worker="benchmark", now=store.clock.now(), lease=LEASE, limit=1)
        )
        began = time.perf_counter()
        history = (await store.history([claim]))[REPLAY]
        read = time.perf_counter() - began
        await store.release(claim, store.clock.now())
        began = time.perf_counter()
        async with polling(bluestreak):
            total = await bluestreak.wait(REPLAY)
            run = time.perf_counter() - began
    await database[WORKFLOWS].replace_one({wf.WORKFLOW_ID: REPLAY}, due)
    assert total == sum(range(count))
    lost = count - len(history.steps) + len(called)
    return Timed(first=read, second=run, integrity=Integrity(lost_writes=lost))


def _step_id(number: int) -> str:
    return f"step-{number:06}"
