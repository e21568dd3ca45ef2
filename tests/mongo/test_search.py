"""SupportsSearch among documents that others have written."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from queue import Queue
from typing import Any
from uuid import uuid4

import pytest
from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo import AsyncMongoClient, MongoClient, UpdateOne
from pymongo.database import Database

from bluestreak_core import Bluestreak, CountBy, Order, Query, Status, StoreRefused
from bluestreak_core.store import ENDED
from bluestreak_core.testing import ManualClock
from bluestreak_mongo import LocalMongo, MongoStore, listing
from tests.mongo.arrange import NOW, SECOND, Application, Document, Sent, claimed, new
from tests.mongo.odd_documents import NEVER_DUE, ODD, UNREADABLE, insert, named, unreadable_logged

pytestmark = [pytest.mark.asyncio, pytest.mark.server]


async def _listed(bluestreak: Bluestreak, **arguments: Any) -> list[str]:
    return [summary.workflow_id async for summary in bluestreak.list(**arguments)]


async def _in_pages_of_one(bluestreak: Bluestreak, **arguments: Any) -> list[str]:
    found, after = [], None
    while page := [summary async for summary in bluestreak.list(limit=1, after=after, **arguments)]:
        found.append(page[0].workflow_id)
        after = page[0].cursor
    return found


# Of the JavaScript library -----------------------------------------------------------------------


@pytest.mark.parametrize("few", [1, listing.FEW])
async def test_what_the_other_library_created_is_the_oldest(
    application: Application,
    raw: Database[Document],
    monkeypatch: pytest.MonkeyPatch,
    few: int,
) -> None:
    monkeypatch.setattr(listing, "FEW", few)
    for name in ("j2", "j1", "j3"):
        raw.workflows.insert_one(
            {"workflowId": name, "handlerId": "h", "status": "idle", "timeoutAt": NOW}
        )
    for name in ("b", "a"):
        await application.store.create(new(name))
    bluestreak = Bluestreak(application.store)
    await bluestreak.init()
    expected = {"newest": ["b", "a", "j3", "j2", "j1"], "oldest": ["j1", "j2", "j3", "a", "b"]}
    for order, names in expected.items():
        for condition in ({}, {"status": "idle"}, {"handler_id": "h"}):
            arguments = {"order": order, **condition}
            assert await _listed(bluestreak, **arguments) == names
            assert await _in_pages_of_one(bluestreak, **arguments) == names
    assert await _listed(bluestreak, created=(None, NOW + SECOND)) == ["b", "a"]


async def test_records_of_the_other_library_are_ordered_by_the_date_in_their_key(
    application: Application, raw: Database[Document]
) -> None:
    claim = await claimed(application.store)
    await application.store.save_step(claim, "b", 1, NOW + SECOND)
    for name, at in (("c", NOW), ("a", NOW + 2 * SECOND)):
        key = ObjectId.from_datetime(at)
        raw.steps.insert_one({"_id": key, "workflowId": "w", "stepId": name, "output": name})
    records = await application.store.records("w")
    assert [step.step_id for step in records.steps] == ["c", "b", "a"]
    assert [step.saved_at for step in records.steps] == [None, NOW + SECOND, None]


# What changes while it is read --------------------------------------------------------------------


def _document(workflow_id: str, status: str, timeout_at: datetime = NOW) -> Document:
    return {
        "workflowId": workflow_id,
        "handlerId": "h",
        "status": status,
        "timeoutAt": timeout_at,
        "createdAt": NOW,
    }


@pytest.mark.parametrize("few", [1, listing.FEW])
@pytest.mark.parametrize(
    "states", [("idle", "running"), ("running", "idle"), ("aborted", "failed")]
)
async def test_what_goes_from_one_state_to_the_other_between_commands_is_listed_once(
    application: Application,
    raw: Database[Document],
    monkeypatch: pytest.MonkeyPatch,
    few: int,
    states: tuple[str, str],
) -> None:
    monkeypatch.setattr(listing, "FEW", few)
    before, after = states
    raw.workflows.insert_many(_document(name, before) for name in ("a", "b", "c"))
    there = {"$cond": [{"$eq": ["$status", before]}, after, before]}

    def change() -> None:
        raw.workflows.update_one({"workflowId": "b"}, [{"$set": {"status": there}}])
        application.sent.before |= dict.fromkeys(("find", "aggregate"), change)

    change()
    query = Query(statuses=frozenset(map(Status, states)))
    for _ in range(2):
        page = await application.store.find_page(query, None, 10)
        assert [summary.workflow_id for summary in page] == ["c", "b", "a"]
    application.sent.before.clear()


@dataclass(frozen=True, slots=True, kw_only=True)
class Haltable:
    """A server that can be halted in the middle of a command."""

    url: str
    client: MongoClient[Document]
    is_replica_set: bool
    armed: Queue[int] = field(default_factory=Queue)
    """How often it had halted before, put in by `arm`."""

    @contextmanager
    def failing(self, **how: Any) -> Iterator[None]:
        """Let it fail the next command of this kind."""
        point = {"configureFailPoint": "failCommand"}
        data = {"appName": "bluestreak", **how}
        self.client.admin.command({**point, "mode": {"times": 1}, "data": data})
        try:
            yield
        finally:
            self.client.admin.command({**point, "mode": "off"})

    def arm(self, database: str) -> None:
        """Have the next command that reads its workflows halt when it has read some."""
        point = {"configureFailPoint": "setYieldAllLocksHang", "mode": "alwaysOn"}
        data = {"namespace": f"{database}.workflows"}
        self.armed.put(self.client.admin.command({**point, "data": data})["count"])

    @contextmanager
    def halted(self) -> Iterator[None]:
        """While it halts, once it is armed. It goes on in the end."""
        count = self.armed.get(timeout=30)
        awaited = {"waitForFailPoint": "setYieldAllLocksHang", "timesEntered": count + 1}
        try:
            self.client.admin.command({**awaited, "maxTimeMS": 30_000})
            yield
        finally:
            self.client.admin.command({"configureFailPoint": "setYieldAllLocksHang", "mode": "off"})


@pytest.fixture(scope="module", params=[True, False], ids=["replica set", "standalone"])
def haltable(request: pytest.FixtureRequest) -> Iterator[Haltable]:
    parameters = {"enableTestCommands": "1", "internalQueryExecYieldIterations": "10"}
    with (
        LocalMongo(replica_set=request.param, authorization=False, parameters=parameters) as local,
        MongoClient[Document](local.url) as client,
    ):
        yield Haltable(url=local.url, client=client, is_replica_set=request.param)


IDS = [f"w{number:02}" for number in range(30)]
EARLY, LATE = NOW - timedelta(hours=1), NOW + timedelta(hours=1)
TWO_RARE = frozenset({Status.ABORTED, Status.FAILED})


@dataclass(frozen=True, slots=True, kw_only=True)
class Motion:
    """What a page is read of, and what becomes of it when a third has been read."""

    query: Query
    statuses: list[str]
    changes: dict[str, Document]


MOTIONS = {
    "leases are renewed": Motion(
        query=Query(statuses=frozenset({Status.RUNNING}), order=Order.ID),
        statuses=["running"] * 30,
        changes={name: {"timeoutAt": LATE} for name in IDS},
    ),
    "some begin, others wait again": Motion(
        query=Query(statuses=frozenset({Status.IDLE, Status.RUNNING}), order=Order.OLDEST),
        statuses=["idle"] * 15 + ["running"] * 15,
        changes={
            **{name: {"status": "running", "timeoutAt": LATE} for name in IDS[:3]},
            **{name: {"status": "idle", "timeoutAt": EARLY} for name in IDS[-3:]},
        },
    ),
    "some are aborted, others tried again": Motion(
        query=Query(statuses=TWO_RARE, order=Order.OLDEST),
        statuses=["aborted"] * 15 + ["failed"] * 15,
        changes={
            **{name: {"status": "failed"} for name in IDS[:15]},
            **{name: {"status": "aborted"} for name in IDS[15:]},
        },
    ),
}


@pytest.mark.parametrize("name", MOTIONS)
async def test_what_moves_while_a_command_reads_is_listed_once(
    haltable: Haltable, clock: ManualClock, name: str
) -> None:
    motion = MOTIONS[name]
    database = f"test-{uuid4().hex[:12]}"
    workflows = haltable.client[database].workflows
    sent = Sent()

    def arm() -> None:
        haltable.arm(database)

    def move() -> None:
        with haltable.halted():
            workflows.bulk_write(
                [
                    UpdateOne({"workflowId": workflow_id}, {"$set": change})
                    for workflow_id, change in motion.changes.items()
                ]
            )

    async with AsyncMongoClient[Document](haltable.url, event_listeners=[sent]) as client:
        store = MongoStore.from_database(client[database], clock=clock)
        await store.init()
        workflows.insert_many(
            _document(workflow_id, status, NOW + place * SECOND)
            for place, (workflow_id, status) in enumerate(zip(IDS, motion.statuses, strict=True))
        )
        sent.before["find"] = arm
        # The first one only asks whether there are few.
        sent.before["aggregate"] = lambda: sent.before.update(aggregate=arm)
        page, _ = await asyncio.gather(
            store.find_page(motion.query, None, 100), asyncio.to_thread(move)
        )
    found = [summary.workflow_id for summary in page]
    assert found == sorted(set(found))
    if haltable.is_replica_set or len(motion.query.statuses or ()) == 1:
        assert found == IDS
    haltable.client.drop_database(database)


@pytest.mark.parametrize("code", [239, 246, 250, 272])
async def test_where_no_snapshot_is_to_be_had_a_page_is_read_without(
    haltable: Haltable, clock: ManualClock, code: int
) -> None:
    database = f"test-{uuid4().hex[:12]}"
    store = MongoStore(haltable.url, database=database, clock=clock)
    await store.init()
    haltable.client[database].workflows.insert_one(_document("w", "failed"))
    with haltable.failing(failCommands=["find"], errorCode=code):
        (summary,) = await store.find_page(Query(statuses=TWO_RARE), None, 10)
    assert summary.workflow_id == "w"
    with (
        haltable.failing(failCommands=["find"], errorCode=13),
        pytest.raises(StoreRefused),
    ):
        await store.find_page(Query(statuses=TWO_RARE), None, 10)
    await store.close()
    haltable.client.drop_database(database)


# What is being deleted ---------------------------------------------------------------------------


@pytest.mark.parametrize("few", [1, listing.FEW])
async def test_what_is_marked_for_deletion_is_not_listed_and_counted_until_it_is_gone(
    application: Application, raw: Database[Document], monkeypatch: pytest.MonkeyPatch, few: int
) -> None:
    monkeypatch.setattr(listing, "FEW", few)
    mark = {"prunedAt": NOW, "timeoutAt": datetime(1970, 1, 1, tzinfo=UTC)}
    raw.workflows.insert_many(
        _document(f"{status}-{kind}", status) | (mark if kind == "marked" else {})
        for status in ("finished", "cancelled", "aborted")
        for kind in ("kept", "marked")
    )
    bluestreak = Bluestreak(application.store)
    await bluestreak.init()
    kept = ["aborted-kept", "cancelled-kept", "finished-kept"]
    for arguments in (
        {},
        {"handler_id": "h"},
        {"created": (NOW, None)},
        {"status": {"finished", "cancelled", "aborted"}},
    ):
        assert await _listed(bluestreak, order="id", **arguments) == kept
        assert await _listed(bluestreak, order="oldest", **arguments) == kept
        assert await _in_pages_of_one(bluestreak, **arguments) == kept[::-1]
    assert await _listed(bluestreak, status={"aborted", "cancelled"}) == kept[:2][::-1]
    assert await _listed(bluestreak, status="finished") == kept[2:]
    assert await _listed(bluestreak, id_prefix="aborted") == kept[:1]
    assert (await bluestreak.count())["finished"] == 2
    await bluestreak.prune(ended_before=NOW - SECOND)
    assert (await bluestreak.count())["finished"] == 1


# Of nobody ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("few", [1, listing.FEW])
async def test_a_list_passes_over_what_cannot_be_read(
    application: Application,
    raw: Database[Document],
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
    few: int,
) -> None:
    monkeypatch.setattr(listing, "FEW", few)
    insert(raw, *(named(*each) for each in (UNREADABLE | NEVER_DUE | ODD).items()))
    healthy = [f"healthy {number:02}" for number in range(30)]
    for workflow_id in healthy:
        await application.store.create(new(workflow_id))
    bluestreak = Bluestreak(application.store)
    await bluestreak.init()
    for arguments in (
        {},
        {"order": "oldest"},
        {"order": "id"},
        {"status": "idle"},
        {"handler_id": "h"},
    ):
        found = await _listed(bluestreak, **arguments)
        assert set(healthy) <= set(found)
        assert set(ODD) <= set(found)
        assert len(found) == len(set(found))
        assert await _listed(bluestreak, limit=5, **arguments) == found[:5]
    logged = unreadable_logged(caplog)
    assert len(logged) == len(set(logged))
    assert "it is passed over" in logged[0]
    assert await _listed(bluestreak, id_prefix="healthy", limit=3) == healthy[:3]


@pytest.mark.parametrize(
    "name", [name for name, fields in UNREADABLE.items() if fields.keys() == {"input"}]
)
async def test_an_input_that_cannot_be_read_is_not_looked_at(
    application: Application, raw: Database[Document], name: str
) -> None:
    insert(raw, named(name, UNREADABLE[name]))
    (summary,) = await application.store.find_page(Query(), None, 10)
    assert summary.workflow_id == name


async def test_a_page_is_full_however_many_unreadable_documents_are_before_it(
    application: Application, raw: Database[Document]
) -> None:
    raw.workflows.insert_many(
        {"workflowId": number, "handlerId": "h", "status": "idle", "timeoutAt": NOW}
        for number in range(50)
    )
    for name in ("a", "b", "c"):
        await application.store.create(new(name))
    for order in Order:
        page = await application.store.find_page(Query(order=order), None, 2)
        expected = ["c", "b"] if order is Order.NEWEST else ["a", "b"]
        assert [summary.workflow_id for summary in page] == expected


async def test_unreadable_documents_are_counted_as_far_as_they_have_a_status(
    application: Application, raw: Database[Document]
) -> None:
    insert(raw, *(named(*each) for each in (UNREADABLE | NEVER_DUE).items()))
    await application.store.create(new("w", handler_id="mine"))
    assert (await application.store.count(CountBy.HANDLER_ID))["mine"] == 1
    bluestreak = Bluestreak(application.store)
    await bluestreak.init()
    counts = await bluestreak.count()
    assert counts.keys() == set(Status)
    assert counts["idle"] > 1


async def test_a_timeline_passes_over_records_that_cannot_be_read(
    application: Application, raw: Database[Document], caplog: pytest.LogCaptureFixture
) -> None:
    claim = await claimed(application.store)
    await application.store.save_step(claim, "good", 1, NOW)
    raw.steps.insert_many(
        [{"workflowId": "w", "stepId": 7}, {"workflowId": "w", "stepId": "x", "savedAt": "then"}]
    )
    raw.naps.insert_one({"workflowId": "w", "napId": "n", "wakeUpAt": "then"})
    for _ in range(2):
        records = await application.store.records("w")
        assert [step.step_id for step in records.steps] == ["good"]
        assert records.naps == ()
    assert len(unreadable_logged(caplog)) == 3


# Through Motor -----------------------------------------------------------------------------------


async def test_a_motor_database_is_searched_and_pruned_too(
    mongodb_url: str, empty_database: str, clock: ManualClock
) -> None:
    client: AsyncIOMotorClient[Document] = AsyncIOMotorClient(mongodb_url)
    try:
        store = MongoStore.from_database(client[empty_database], clock=clock)
        await store.init()
        await store.finish(await claimed(store, "w1"), None, NOW)
        await claimed(store, "w2")
        for statuses in (None, frozenset({Status.FINISHED, Status.RUNNING})):
            page = await store.find_page(Query(statuses=statuses), None, 10)
            assert [summary.workflow_id for summary in page] == ["w2", "w1"]
        assert dict(await store.count(CountBy.STATUS)) == {"finished": 1, "running": 1}
        later = NOW + timedelta(days=1)
        assert (await store.prune(later, ENDED, 10, later)).workflows == 1
    finally:
        client.close()
