"""A campaign: workflows are started and run, faults injected and healed, and evidence is taken.

Meanwhile those are pruned that were cancelled long enough ago.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from pymongo import AsyncMongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.read_concern import ReadConcern

from bluestreak_core import Attempt, Bluestreak, Nap, StoreUnavailable
from bluestreak_mongo import LocalMongo, MongoStore
from bluestreak_mongo.bson_rules import CODEC
from bluestreak_mongo.schema import MESSAGES, NAPS, STEPS, WORKFLOWS
from bluestreak_mongo.schema import workflow as wf
from bluestreak_mongo.schema.message import MESSAGE_ID, REFUSED
from bluestreak_mongo.schema.nap import to_record
from bluestreak_mongo.schema.step import to_step
from tests.chaos import history, ledger
from tests.chaos.evidence import Evidence, Mail
from tests.chaos.fleet import Fleet
from tests.chaos.history import Change, Odd
from tests.chaos.injection import Injected, Injection
from tests.chaos.ledger import Document
from tests.chaos.replica_set import ReplicaSet, eventually
from tests.chaos.schedule import schedule
from tests.chaos.starter import Starter
from tests.chaos.storyteller import Storyteller

WORKERS = 4
LEASE = 2.0
BLOCKED_FOR = 3 * LEASE
DATABASE = "chaos"
STORIES = 0.1
"""How many stories are told for each other workflow."""
PATIENCE = 60.0
"""Seconds after the last fault in which all that was started has to end."""
_IMPATIENT = "&serverSelectionTimeoutMS=500&socketTimeoutMS=1000"
"""A client that takes no answer for an answer soon, so that it has to ask again."""
PRUNE_EVERY = 2.0
PRUNE_AFTER = timedelta(seconds=15)
"""Longer than a worker and a server are halted, and then a lease: who has lost a claim until then
may still write down a step."""
_PRUNED = ["cancelled"]
"""The others are evidence, and so are those that were cancelled in the second half."""
_ENDED = {"$in": ["finished", "aborted", "cancelled"]}


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a campaign leaves behind."""

    evidence: Evidence
    injected: Sequence[Injected]
    missed: int
    stops: Sequence[float]
    """Seconds that workers took to end when they were told to."""
    pruned: int
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
        await client[ledger.EFFECTS_DATABASE].create_collection(ledger.EFFECTS)
        await fleet.pick(0)
        starter = Starter(bluestreak, seed)
        teller = Storyteller(bluestreak, ledger_server.url, seed)
        injection = Injection(replica_set, fleet)
        pruner = Pruner(bluestreak, until=datetime.now(UTC) + timedelta(seconds=seconds / 2))
        pruning = asyncio.create_task(pruner.prune_often())
        telling = asyncio.create_task(teller.tell(rate * STORIES))
        await _disturb(starter, injection, seed, seconds, rate)
        telling.cancel()
        await teller.end(PATIENCE)
        database = client.get_database(
            DATABASE, codec_options=CODEC, read_concern=ReadConcern("majority")
        )
        drained_in = await _drain(starter, database)
        await injection.end()
        await fleet.stop()
        pruning.cancel()
        await pruner.prune_half(await _cancelled(database))
        evidence = Evidence(
            lease=timedelta(seconds=LEASE),
            starts=[*starter.starts, *starter.outside.forks],
            results=starter.results,
            calls=await _calls(ledger_server.url),
            complaints=[*fleet.complaints(), *starter.complaints, *teller.complaints],
            sent=starter.outside.sent,
            cancelled=starter.outside.cancelled,
            stories=teller.stories,
            answers=teller.answers,
            **await _stored(database),
        )
    return Outcome(
        evidence=evidence,
        injected=injection.injected,
        missed=injection.missed,
        stops=fleet.stops,
        pruned=pruner.pruned,
        drained_in=drained_in,
    )


class Pruner:
    """Deletes workflows that were cancelled."""

    def __init__(self, bluestreak: Bluestreak, until: datetime) -> None:
        self.pruned = 0
        self._bluestreak = bluestreak
        self._until = until

    async def prune_often(self) -> None:
        """Delete those of the first half once they are old enough, whatever else goes on."""
        while True:
            await asyncio.sleep(PRUNE_EVERY)
            with suppress(StoreUnavailable):
                await self._prune(min(self._until, datetime.now(UTC) - PRUNE_AFTER), None)

    async def prune_half(self, cancelled: int) -> None:
        """Delete half of so many, however new they are: nobody is left who might write to them."""
        if cancelled > 1:
            await self._prune(datetime.now(UTC), cancelled // 2)

    async def _prune(self, ended_before: datetime, limit: int | None) -> None:
        pruned = await self._bluestreak.prune(
            ended_before=ended_before, statuses=_PRUNED, limit=limit
        )
        self.pruned += pruned.workflows


async def _cancelled(database: AsyncDatabase[Document]) -> int:
    return await database[WORKFLOWS].count_documents({wf.STATUS: {"$in": _PRUNED}})


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
        running = {"$or": [{wf.STATUS: {"$not": _ENDED}}, {wf.UNSETTLED: True}]}
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
    records = [to_record(found) async for found in database[NAPS].find()]
    effects = database.client[ledger.EFFECTS_DATABASE][ledger.EFFECTS]
    changes = list(history.read(await _operations(database)))
    return {
        "workflows": {workflow.workflow_id: workflow for workflow in workflows},
        "steps": [to_step(found) async for found in database[STEPS].find()],
        "naps": [record for record in records if isinstance(record, Nap)],
        "attempts": [record for record in records if isinstance(record, Attempt)],
        "mail": [_to_mail(found) async for found in database[MESSAGES].find()],
        "effects": [ledger.to_effect(found) async for found in effects.find()],
        "history": [change for change in changes if isinstance(change, Change)],
        "odd": [change for change in changes if isinstance(change, Odd)],
    }


async def _operations(database: AsyncDatabase[Document]) -> list[Document]:
    """The server's log; a transaction is one entry, of several operations."""
    ours = {"$regex": rf"^{database.name}\."}
    log = database.client.get_database("local", codec_options=CODEC)["oplog.rs"]
    return await log.find({"$or": [{"ns": ours}, {"o.applyOps.ns": ours}]}).to_list(None)


def _to_mail(document: Document) -> Mail:
    return Mail(
        workflow_id=document[wf.WORKFLOW_ID],
        message_id=document[MESSAGE_ID],
        is_refused=REFUSED in document,
    )
