"""Behind a router of a sharded cluster, and what of our commands would not work there."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from contextlib import closing, suppress
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

import bson
import pytest
import pytest_asyncio
from bson import Binary, ObjectId
from pymongo import AsyncMongoClient, MongoClient
from pymongo.asynchronous.database import AsyncDatabase
from pymongo.database import Database
from typing_extensions import override

from bluestreak_core import (
    Bluestreak,
    Context,
    ListPosition,
    Order,
    Pruned,
    Query,
    Retry,
    Start,
    Status,
    StepFailed,
    WorkflowAborted,
)
from bluestreak_core.machine import Transition
from bluestreak_core.model import ClaimRequest
from bluestreak_core.store import ENDED
from bluestreak_core.testing import ManualClock, RecordingStore
from bluestreak_mongo import MongoStore
from bluestreak_mongo.connection import OwnClient
from bluestreak_mongo.renewal import BlockingRenewer
from tests.mongo.arrange import (
    CALLS,
    LEASE,
    NOW,
    SECOND,
    Document,
    Sent,
    claimed,
    failure,
    message,
    new,
    polling,
    whole_life,
)
from tests.mongo.router import Router
from tests.mongo.sharding import ShardedCollections

LARGEST = 16 * 1024 * 1024

pytestmark = [pytest.mark.asyncio, pytest.mark.server]


@dataclass(frozen=True, slots=True, kw_only=True)
class Cluster:
    """A database that is reached by a router, and a listener who knows the rules there."""

    url: str
    database: AsyncDatabase[Document]
    rules: ShardedCollections
    sent: Sent

    def store(self, clock: ManualClock) -> MongoStore:
        return MongoStore.from_database(self.database, renewal_url=self.url, clock=clock)


@pytest_asyncio.fixture
async def cluster(mongodb: MongoClient[Document], empty_database: str) -> AsyncIterator[Cluster]:
    """Fails the test that has sent what does not work on a cluster."""
    assert mongodb.address is not None
    rules, sent = ShardedCollections(), Sent()
    async with (
        Router(mongodb.address[1]) as router,
        AsyncMongoClient[Document](router.url, event_listeners=[rules, sent]) as client,
    ):
        database = client[empty_database]
        yield Cluster(url=router.url, database=database, rules=rules, sent=sent)
    assert rules.faults == []


@pytest_asyncio.fixture
async def store(cluster: Cluster, clock: ManualClock) -> AsyncIterator[MongoStore]:
    store = cluster.store(clock)
    await store.init()
    cluster.sent.commands.clear()
    yield store
    await store.close()


# The rules hold for all that is sent -----------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
async def test_each_call_works_behind_a_router(
    cluster: Cluster, store: MongoStore, call: str
) -> None:
    claim = await claimed(store)
    await CALLS[call](store, claim)
    assert "findAndModify" not in cluster.rules.names


async def test_a_whole_life_works_behind_a_router(cluster: Cluster, clock: ManualClock) -> None:
    await whole_life(cluster.store(clock), clock)
    assert {"createIndexes", "insert", "find", "update"} <= cluster.rules.names


async def test_workflows_are_run_controlled_looked_at_and_deleted_behind_a_router(
    cluster: Cluster, clock: ManualClock
) -> None:
    store = RecordingStore(cluster.store(clock))
    bluestreak = Bluestreak(
        store, expire_ended_after=60, wait_retry_interval=0, poll_interval=1, max_failures=1
    )
    calls: list[int] = []

    @bluestreak.handler("orders")
    async def handle(ctx: Context, number: int) -> int:
        await ctx.step("flaky", fail_at_first, number, retry=Retry(initial=0))
        with suppress(StepFailed):
            await ctx.step("broken", int, "x", retry=Retry(max_attempts=1))
        return await ctx.transaction("book", book, number)

    @bluestreak.handler("failing")
    async def fail(ctx: Context, input: None) -> None:
        raise ValueError

    async def fail_at_first(number: int) -> None:
        calls.append(number)
        if calls.count(number) == 1:
            raise ValueError

    async def book(session: Any, number: int) -> int:
        await cluster.database["ledger"].insert_one({"number": number}, session=session)
        return number

    await bluestreak.init()
    starts = [Start(f"w{number}", "orders", number) for number in range(4)]
    assert await bluestreak.start_many(starts) == [True] * 4
    await bluestreak.start("failing", "failing")
    await bluestreak.pause("w0")
    client = cluster.database.client
    async with client.start_session() as session, await session.start_transaction():
        assert await bluestreak.start("w4", "orders", 4, session=session)
        assert await bluestreak.cancel("w3", "not wanted", session=session)
    async with polling(bluestreak):
        assert await asyncio.gather(*(bluestreak.wait(f"w{number}") for number in (1, 2, 4))) == [
            1,
            2,
            4,
        ]
        with pytest.raises(WorkflowAborted):
            await bluestreak.wait("failing")
        await bluestreak.retry("w3")
        await bluestreak.resume("w0")
        assert await bluestreak.fork("w1", "fork", before="broken")
        assert await asyncio.gather(*map(bluestreak.wait, ("w0", "w3", "fork"))) == [0, 3, 1]
        counts = await bluestreak.count()
        assert (counts["finished"], counts["aborted"]) == (6, 1)
        assert "book" in str(await bluestreak.describe("fork"))
        listed = [summary.workflow_id async for summary in bluestreak.list(status="aborted")]
        assert listed == ["failing"]
        while store.returned["prune"] < 2:
            clock.advance(SECOND)
            await asyncio.sleep(0)
        assert await bluestreak.find_workflow("w0") is None
    await bluestreak.close()
    used = {"aggregate", "commitTransaction", "createIndexes", "delete", "find", "insert", "update"}
    assert used <= cluster.rules.names


async def test_what_has_become_due_is_claimed_behind_a_router_without_the_quick_command(
    cluster: Cluster, store: MongoStore
) -> None:
    assert await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1)) == []
    await store.create(new("w"))
    (claim,) = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
    assert (claim.workflow_id, claim.number) == ("w", 1)
    assert cluster.sent.named("findAndModify") == []


async def test_behind_a_router_each_workflow_is_claimed_and_renewed_by_its_id(
    cluster: Cluster, store: MongoStore
) -> None:
    """An update of several shards has no version: its count cannot be believed."""
    await store.create_many([new(f"w{number}") for number in range(4)])
    claims = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=4))
    assert await store.renew(claims, NOW + SECOND, LEASE) == []
    stamps, renewals = (update["updates"] for update in cluster.sent.named("update"))
    for updates in (stamps, renewals):
        assert sorted(update["q"]["workflowId"] for update in updates) == ["w0", "w1", "w2", "w3"]
        assert not any(update["multi"] for update in updates)


async def test_behind_a_router_messages_are_counted_in_each_workflow_by_its_id(
    cluster: Cluster, store: MongoStore
) -> None:
    await store.create_many([new("v"), new("w")])
    cluster.sent.commands.clear()
    messages = [message("m", workflow_id=name) for name in ("v", "w")]
    assert await asyncio.gather(*map(store.send, messages)) == [True] * 2
    (update,) = cluster.sent.named("update")
    assert [each["q"]["workflowId"] for each in update["updates"]] == ["v", "w"]


async def test_behind_a_router_those_that_another_has_claimed_are_lost_and_the_others_won(
    cluster: Cluster, store: MongoStore, raw: Database[Document]
) -> None:
    await store.create_many([new(f"w{number}") for number in range(4)])
    taken = {"$set": {"claims": 1, "claim": "other", "status": "running", "timeoutAt": NOW + LEASE}}
    cluster.sent.before["update"] = lambda: raw.workflows.update_one({"workflowId": "w1"}, taken)
    claims = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=4))
    assert {claim.workflow_id for claim in claims} == {"w0", "w2", "w3"}
    assert [claim.number for claim in claims] == [1, 1, 1]


async def test_behind_a_router_a_claim_that_is_reported_and_not_stored_is_not_believed(
    cluster: Cluster, store: MongoStore, raw: Database[Document]
) -> None:
    """As after a migration: three of four are stamped, and four are reported."""
    await store.create_many([new(f"w{number}") for number in range(4)])
    before = raw.workflows.find_one({"workflowId": "w1"})
    assert before is not None

    def lose_a_stamp() -> None:
        raw.workflows.replace_one({"workflowId": "w1"}, before)

    cluster.sent.before["update"] = lambda: cluster.sent.before.update(find=lose_a_stamp)
    claims = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=4))
    assert {claim.workflow_id for claim in claims} == {"w0", "w2", "w3"}


async def test_behind_a_router_claims_that_are_not_in_force_are_told_apart(
    store: MongoStore,
) -> None:
    await store.create_many([new(f"w{number}") for number in range(3)])
    claims = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=3))
    await store.control("w1", Transition.CANCEL, NOW)
    assert await store.renew(claims, NOW + SECOND, LEASE) == [claims[1]]


async def test_behind_a_router_what_is_parked_or_abandoned_is_claimed(
    cluster: Cluster, store: MongoStore, raw: Database[Document]
) -> None:
    await store.create_many([new(f"w{number}") for number in range(4)])
    claims = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=4))
    await store.park(claims[0], NOW)
    await store.fail(claims[1], failure(retry=True), NOW)
    announced = {"$set": {"session": Binary.from_uuid(uuid4())}}
    raw.workflows.update_one({"workflowId": "w2"}, announced)
    later = await store.claim(ClaimRequest(worker="other", now=NOW + LEASE, lease=LEASE, limit=4))
    assert sorted(claim.workflow_id for claim in later) == ["w0", "w1", "w2", "w3"]
    assert raw.workflows.count_documents({"session": {"$exists": True}}) == 0


async def test_behind_a_router_what_cannot_be_changed_keeps_no_other_from_being_claimed(
    store: MongoStore, raw: Database[Document]
) -> None:
    await store.create_many([new(f"w{number}") for number in range(3)])
    full = {"workflowId": "w1", "handlerId": "h", "status": "idle", "timeoutAt": NOW, "failures": 0}
    room = LARGEST - len(bson.encode(full | {"_id": ObjectId(), "input": ""}))
    raw.workflows.replace_one({"workflowId": "w1"}, full | {"input": "x" * room})
    claims = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=3))
    assert {claim.workflow_id for claim in claims} == {"w0", "w2"}


@pytest.mark.parametrize("order", Order)
@pytest.mark.parametrize("statuses", [None, {Status.IDLE}, {Status.ABORTED, Status.PAUSED}])
@pytest.mark.parametrize("handler_id", [None, "h"])
@pytest.mark.parametrize("id_prefix", [None, "w"])
async def test_lists_work_behind_a_router(
    store: MongoStore,
    order: Order,
    statuses: set[Status] | None,
    handler_id: str | None,
    id_prefix: str | None,
) -> None:
    await store.create_many([new(f"w{number}") for number in range(3)])
    query = Query(
        statuses=None if statuses is None else frozenset(statuses),
        handler_id=handler_id,
        id_prefix=id_prefix,
        order=order,
    )
    first = await store.find_page(query, None, 2)
    assert len(first) == (0 if statuses and Status.IDLE not in statuses else 2)
    if first:
        last = first[-1]
        position = ListPosition(workflow_id=last.workflow_id, created_at=last.created_at)
        assert len(await store.find_page(query, position, 2)) == 1


async def test_behind_a_router_each_workflow_is_pruned_by_its_id(
    cluster: Cluster, store: MongoStore, raw: Database[Document]
) -> None:
    await store.create_many([new(f"w{number}") for number in range(3)])
    for claim in await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=3)):
        await store.save_step(claim, "s", 1, NOW)
        await store.save_step(claim, "t", 1, NOW)
        await store.save_nap(claim, "n", NOW, NOW)
        await store.finish(claim, None, NOW)
    assert await store.prune(NOW + SECOND, ENDED, 2, NOW) == Pruned(workflows=2, steps=4, naps=2)
    assert await store.prune(NOW + SECOND, ENDED, 9, NOW) == Pruned(workflows=1, steps=2, naps=1)
    assert [raw[name].count_documents({}) for name in ("workflows", "steps", "naps")] == [0, 0, 0]


async def test_behind_a_router_a_thread_renews_each_lease_by_its_id(
    cluster: Cluster, store: MongoStore
) -> None:
    await store.create_many([new(f"w{number}") for number in range(3)])
    claims = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=3))
    connection = RuledClient(cluster)
    with closing(BlockingRenewer(connection)) as renewer:
        assert await asyncio.to_thread(renewer.renew, claims, NOW + SECOND, LEASE) == []
    await store.control("w1", Transition.CANCEL, NOW)
    with closing(BlockingRenewer(connection)) as renewer:
        lost = await asyncio.to_thread(renewer.renew, claims, NOW + SECOND, LEASE)
    assert lost == [claims[1]]


class RuledClient(OwnClient):
    """Has its blocking clients listened to by who knows the rules."""

    def __init__(self, cluster: Cluster) -> None:
        super().__init__(cluster.url, cluster.database.name)
        self._cluster = cluster

    @override
    def open_blocking(self) -> Database[Document]:
        client = MongoClient[Document](self._cluster.url, event_listeners=[self._cluster.rules])
        return client[self._cluster.database.name]
