"""A campaign: workflows are started and run, faults injected and healed, and evidence is taken."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.read_concern import ReadConcern

from bluestreak_core import Bluestreak
from bluestreak_mongo import LocalMongo, MongoStore
from bluestreak_mongo.bson_rules import CODEC
from bluestreak_mongo.schema import NAPS, STEPS, WORKFLOWS
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.nap import to_nap
from bluestreak_mongo.schema.step import to_step
from tests.chaos import history, ledger
from tests.chaos.evidence import Evidence
from tests.chaos.fleet import Fleet
from tests.chaos.history import Change, Odd
from tests.chaos.injection import Injected, Injection
from tests.chaos.ledger import Document
from tests.chaos.replica_set import ReplicaSet, eventually
from tests.chaos.schedule import schedule
from tests.chaos.starter import Starter

WORKERS = 4
LEASE = 2.0
BLOCKED_FOR = 3 * LEASE
DATABASE = "chaos"
PATIENCE = 60.0
"""Seconds after the last fault in which all that was started has to end."""
_IMPATIENT = "&serverSelectionTimeoutMS=500&socketTimeoutMS=1000"
"""A client that takes no answer for an answer soon, so that it has to ask again."""
_ENDED = {"$in": ["finished", "aborted"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a campaign leaves behind."""

    evidence: Evidence
    injected: Sequence[Injected]
    missed: int
    stops: Sequence[float]
    """Seconds that workers took to end when they were told to."""
    drained_in: float
    """Seconds from the last fault until all that was started had ended."""


async def campaign(seed: int, seconds: float, rate: float, folder: Path) -> Outcome:
    """Start `rate` workflows a second for so many seconds, and inject what the seed says.

    Then heal all, wait until all workflows have ended, but for no longer than `PATIENCE`, stop the
    workers, and take the evidence. The logs of the workers are left in the folder.
    """
    async with (
        LocalMongo(replica_set=False) as ledger_server,
        ReplicaSet() as replica_set,
        Bluestreak(MongoStore(replica_set.url, database=DATABASE)),  # which makes the indexes
        Bluestreak(MongoStore(replica_set.url + _IMPATIENT, database=DATABASE)) as bluestreak,
        Fleet(
            WORKERS,
            folder,
            (replica_set.url, DATABASE, ledger_server.url, str(LEASE), str(BLOCKED_FOR)),
        ) as fleet,
        AsyncMongoClient[Document](replica_set.url) as client,
    ):
        replica_set.clients = lambda: fleet.pids
        await fleet.pick(0)
        starter = Starter(bluestreak, seed)
        injection = Injection(replica_set, fleet)
        await _disturb(starter, injection, seed, seconds, rate)
        database = client.get_database(
            DATABASE, codec_options=CODEC, read_concern=ReadConcern("majority")
        )
        drained_in = await _drain(starter, database)
        await injection.end()
        await fleet.stop()
        evidence = Evidence(
            lease=timedelta(seconds=LEASE),
            starts=starter.starts,
            results=starter.results,
            calls=await _calls(ledger_server.url),
            complaints=[*fleet.complaints(), *starter.complaints],
            **await _stored(database),
        )
    return Outcome(
        evidence=evidence,
        injected=injection.injected,
        missed=injection.missed,
        stops=fleet.stops,
        drained_in=drained_in,
    )


async def _disturb(
    starter: Starter, injection: Injection, seed: int, seconds: float, rate: float
) -> None:
    starting = asyncio.create_task(starter.start(rate))
    try:
        async with asyncio.TaskGroup() as tracks:
            tracks.create_task(asyncio.sleep(seconds))
            for track in schedule(seed, seconds, LEASE):
                tracks.create_task(injection.follow(track, seconds))
    finally:
        starting.cancel()


async def _drain(starter: Starter, database: AsyncDatabase[Document]) -> float:
    """Wait until all has ended. The audit reports what has not."""
    loop = asyncio.get_running_loop()
    began = loop.time()

    async def all_ended() -> bool:
        running = {wf.STATUS: {"$not": _ENDED}}
        return await database[WORKFLOWS].find_one(running, {"_id": 1}) is None

    with suppress(TimeoutError):
        await eventually("all workflows have ended", all_ended, PATIENCE)
    await starter.end(PATIENCE)
    with suppress(TimeoutError):
        await eventually("the last of them, too", all_ended, PATIENCE)
    return loop.time() - began


async def _calls(url: str) -> list[ledger.Call]:
    async with AsyncMongoClient[Document](url) as client:
        database = client.get_database(ledger.DATABASE, codec_options=CODEC)
        return [ledger.to_call(call) async for call in database[ledger.COLLECTION].find()]


async def _stored(database: AsyncDatabase[Document]) -> dict[str, Any]:
    """What the database holds, and how it came to that."""
    workflows = [wf.to_workflow(found) async for found in database[WORKFLOWS].find()]
    operations = database.client.get_database("local", codec_options=CODEC)["oplog.rs"]
    found = await operations.find({"ns": {"$regex": rf"^{database.name}\."}}).to_list(None)
    changes = list(history.read(found))
    return {
        "workflows": {workflow.workflow_id: workflow for workflow in workflows},
        "steps": [to_step(found) async for found in database[STEPS].find()],
        "naps": [to_nap(found) async for found in database[NAPS].find()],
        "history": [change for change in changes if isinstance(change, Change)],
        "odd": [change for change in changes if isinstance(change, Odd)],
    }
