"""What MongoStore sends to the server: how safely, how often, and addressed to what."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Iterator
from contextlib import AsyncExitStack
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient
from pymongo.database import Database

from bluestreak_core import ClaimLost, NotInitialised, UnstorableValue
from bluestreak_core.model import Claim, ClaimRequest
from bluestreak_core.testing import ManualClock
from bluestreak_mongo import MongoStore, transitions
from bluestreak_mongo.search_range import CALM
from tests.mongo.arrange import (
    CALLS,
    LEASE,
    NOW,
    SECOND,
    Application,
    Document,
    Sent,
    claimed,
    failure,
    new,
    whole_life,
)

pytestmark = [pytest.mark.asyncio, pytest.mark.server]


async def every_outcome(store: MongoStore) -> None:
    """Each call of the protocol, also repeated, also under a claim that is lost."""
    for name in ("w1", "w2", "w3", "w4"):
        await store.create(new(name))
        await store.create(new(name))
    crashed = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=4))
    stale, *_ = crashed
    owners = await store.claim(
        ClaimRequest(worker="other", now=NOW + LEASE, lease=LEASE, limit=4, handlers={"h"})
    )
    first, *_ = owners
    await store.renew([stale, *owners], NOW + LEASE, LEASE)
    for claim in (first, stale):
        await store.save_step(claim, "s", 1, NOW)
        await store.save_nap(claim, "n", NOW, NOW)
    await store.history(owners)
    await store.find_step("w1", "s")
    await store.find_nap("w1", "n")
    endings = ("park", "release", "finish", "fail")
    for claim, ending in zip(owners, endings, strict=True):
        await CALLS[ending](store, claim)
        await CALLS[ending](store, claim)
    for ending in endings:
        with pytest.raises(ClaimLost):
            await CALLS[ending](store, stale)


# How safely --------------------------------------------------------------------------------------


async def test_concerns_are_those_of_the_guarantees_whatever_the_client_is_set_to(
    mongodb_url: str, fresh_database: Database[Document], clock: ManualClock
) -> None:
    sent = Sent()
    careless = AsyncMongoClient[Document](
        mongodb_url,
        event_listeners=[sent],
        w=1,
        journal=False,
        readConcernLevel="local",
        readPreference="secondaryPreferred",
    )
    async with careless as client:
        store = MongoStore.from_database(client[fresh_database.name], clock=clock)
        await store.init()
        await every_outcome(store)
        assert set(sent.names) == {
            *("hello", "listCollections"),
            *("createIndexes", "insert", "update", "find"),
        }
        for command in sent.named("createIndexes", "insert", "update"):
            assert command["writeConcern"] == {"w": "majority", "j": True}
        for command in sent.named("find"):
            assert command["readConcern"] == {"level": "majority"}
        assert not any("$readPreference" in command for command in sent.commands)


# Addressed to what -------------------------------------------------------------------------------


def keys(value: Any) -> Iterator[str]:
    """All keys in a command, at any depth."""
    match value:
        case dict():
            for key, item in value.items():
                yield key
                yield from keys(item)
        case list():
            for item in value:
                yield from keys(item)


NEVER_DUE = transitions.never_due()


async def test_filters_are_flat_and_updates_are_no_pipelines(
    application: Application, clock: ManualClock
) -> None:
    store, sent = application.store, application.sent
    await whole_life(store, clock)
    await store.init()
    assert await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1)) == []
    await store.finish(await claimed(store, "awaited"), None, NOW)
    await every_outcome(store)
    others = {"hello", "listCollections", "listIndexes", "aggregate", "getMore", "killCursors"}
    ours = {"createIndexes", "insert", "update", "find", "findAndModify"}
    assert set(sent.names) - others == ours
    # Looking for what neither library writes is rare, and made for the index.
    commands = [command for command in sent.named(*ours) if command.get("filter") not in NEVER_DUE]
    used = {key for command in commands for key in keys(command)}
    assert used.isdisjoint({"$ne", "$nin", "$not", "$expr", "$where", "pipeline"})
    updates = [update for command in sent.named("update") for update in command["updates"]]
    assert all(isinstance(update["u"], dict) for update in updates)
    finds = [command["filter"] for command in commands if "find" in command]
    filters = [update["q"] for update in updates] + finds
    # A renewal pairs workflows with tokens, beside a flat filter that finds them.
    pairing = [filter_ for filter_ in filters if "$or" in keys(filter_)]
    assert pairing
    assert all({"workflowId", "status"} < filter_.keys() for filter_ in pairing)


async def test_every_write_names_the_workflow(application: Application, clock: ManualClock) -> None:
    await whole_life(application.store, clock)
    await application.store.init()
    await every_outcome(application.store)
    sent = application.sent
    commands = [each for each in sent.named("update") if each["update"] != "workers"]
    updates = [update for command in commands for update in command["updates"]]
    inserted = [document for command in sent.named("insert") for document in command["documents"]]
    assert updates
    assert inserted
    assert all("workflowId" in update["q"] for update in updates)
    assert all("workflowId" in document for document in inserted)


# How often ---------------------------------------------------------------------------------------


async def test_looking_for_work_in_vain_is_one_command(application: Application) -> None:
    assert (
        list(
            await application.store.claim(
                ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=100)
            )
        )
        == []
    )
    assert application.sent.names == ["find"]


@pytest.mark.parametrize("count", [1, 10, 200])
async def test_a_claim_of_new_workflows_is_two_commands(
    application: Application, count: int
) -> None:
    for number in range(count):
        await application.store.create(new(f"w{number}"))
    application.sent.commands.clear()
    assert (
        len(
            await application.store.claim(
                ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=200)
            )
        )
        == count
    )
    assert application.sent.names == ["find", "update"]


@pytest.mark.parametrize("count", [1, 10, 200])
async def test_a_claim_of_workflows_that_were_parked_is_three_commands(
    application: Application, count: int
) -> None:
    for number in range(count):
        await application.store.create(new(f"w{number}"))
    for claim in await application.store.claim(
        ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=200)
    ):
        await application.store.park(claim, NOW)
    application.sent.commands.clear()
    assert (
        len(
            await application.store.claim(
                ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=200)
            )
        )
        == count
    )
    assert application.sent.names == ["find", "update", "find"]


async def test_a_claim_of_workflows_in_any_state_is_four_commands(application: Application) -> None:
    store = application.store
    await store.fail(await claimed(store, "failed"), failure(retry=True), NOW)
    await claimed(store, "crashed")
    await store.create(new("idle"))
    application.sent.commands.clear()
    claims = await store.claim(
        ClaimRequest(worker="worker", now=NOW + LEASE, lease=LEASE, limit=100)
    )
    assert sorted(claim.workflow_id for claim in claims) == ["crashed", "failed", "idle"]
    assert len(application.sent.names) <= 4


@pytest.mark.parametrize("count", [1, 10, 100])
async def test_the_history_of_many_workflows_is_two_commands(
    application: Application, count: int
) -> None:
    store = application.store
    for number in range(count):
        await store.create(new(f"w{number}"))
    claims = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=count))
    await store.save_step(claims[0], "s", 1, NOW)
    application.sent.commands.clear()
    assert len(await store.history(claims)) == count
    assert application.sent.names == ["find", "find"]


@pytest.mark.parametrize("count", [1, 10, 100])
async def test_renewing_many_claims_is_one_command(application: Application, count: int) -> None:
    store = application.store
    for number in range(count):
        await store.create(new(f"w{number}"))
    claims = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=count))
    application.sent.commands.clear()
    assert await store.renew(claims, NOW + SECOND, LEASE) == []
    assert application.sent.names == ["update"]


@pytest.mark.parametrize(
    ("call", "commands"),
    [
        ("create", ["insert"]),
        ("create_many", ["insert"]),
        ("find_workflow", ["find"]),
        ("find_standing", ["find"]),
        ("save_step", ["insert"]),
        ("save_nap", ["insert"]),
        ("save_attempt", ["insert"]),
        ("fail_step", ["update"]),
        ("park", ["update"]),
        ("release", ["update"]),
        ("finish", ["update"]),
        ("fail", ["update"]),
    ],
)
async def test_an_undisturbed_call_is_one_command(
    application: Application, call: str, commands: list[str]
) -> None:
    claim = await claimed(application.store)
    application.sent.commands.clear()
    await CALLS[call](application.store, claim)
    assert application.sent.names == commands


# Several at once ---------------------------------------------------------------------------------


@pytest_asyncio.fixture
async def stores(
    mongodb_url: str, empty_database: str, clock: ManualClock
) -> AsyncIterator[list[MongoStore]]:
    """Three stores with a client each, as three processes have."""
    async with AsyncExitStack() as stack:
        stores = [MongoStore(mongodb_url, database=empty_database, clock=clock) for _ in range(3)]
        for store in stores:
            await store.init()
            stack.push_async_callback(store.close)
        yield stores


async def test_racing_stores_share_all_the_work(
    stores: list[MongoStore], raw: Database[Document]
) -> None:
    ids = [f"w{number}" for number in range(60)]
    for workflow_id in ids:
        await stores[0].create(new(workflow_id))
    taken: list[str] = []

    async def take_all(store: MongoStore) -> None:
        while claims := await store.claim(
            ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=5)
        ):
            taken.extend(claim.workflow_id for claim in claims)

    async with asyncio.TaskGroup() as group:
        for store in stores:
            group.create_task(take_all(store))
    assert sorted(taken) == sorted(ids)
    assert raw.workflows.count_documents({"status": "running", "claims": 1}) == len(ids)


async def test_racing_stores_record_one_output_and_one_instant(stores: list[MongoStore]) -> None:
    claim = await claimed(stores[0])
    outputs = await asyncio.gather(
        *(store.save_step(claim, "s", place, NOW) for place, store in enumerate(stores))
    )
    instants = await asyncio.gather(
        *(
            store.save_nap(claim, "n", NOW + place * SECOND, NOW)
            for place, store in enumerate(stores)
        )
    )
    step, nap = await stores[0].find_step("w", "s"), await stores[0].find_nap("w", "n")
    assert step is not None
    assert nap is not None
    assert set(outputs) == {step.output}
    assert set(instants) == {nap.wake_up_at}


def take_one(sent: Sent, raw: Database[Document]) -> None:
    """Another worker's claim of one of those that we are about to claim."""
    (update,) = sent.commands[-1]["updates"]
    taken, *_ = update["q"]["workflowId"]["$in"]
    raw.workflows.update_one({"workflowId": taken}, {"$set": {"timeoutAt": NOW + SECOND}})


async def test_a_claim_that_lost_everything_looks_again_at_once_and_wider(
    application: Application, raw: Database[Document]
) -> None:
    sent, store = application.sent, application.store
    for number in range(50):
        await store.create(new(f"w{number}"))

    def take_the_first() -> None:
        """Another worker's claim, between our look and our update."""
        due = raw.workflows.find({"status": "idle"}).sort("timeoutAt").limit(20)
        tried = {"$in": [document["workflowId"] for document in due]}
        raw.workflows.update_many({"workflowId": tried}, {"$set": {"timeoutAt": NOW + SECOND}})

    async def claim() -> list[int]:
        """How many workflows each look of a claim of two was for."""
        sent.commands.clear()
        assert (
            len(await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=2)))
            == 2
        )
        return [command["limit"] for command in sent.commands if "limit" in command]

    sent.before["update"] = take_the_first
    assert await claim() == [2, 4]
    assert await claim() == [4]


async def test_a_claim_that_lost_something_is_followed_by_wider_ones_until_it_has_been_calm(
    application: Application, raw: Database[Document]
) -> None:
    sent, store = application.sent, application.store
    for number in range(200):
        await store.create(new(f"w{number}"))

    async def claim(*, disturbed: bool) -> int:
        """How many workflows a claim of two has looked at."""
        if disturbed:
            sent.before["update"] = lambda: take_one(sent, raw)
        sent.commands.clear()
        claims = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=2))
        assert len(claims) == (1 if disturbed else 2)
        limit: int = sent.commands[0]["limit"]
        return limit

    assert [await claim(disturbed=True) for _ in range(6)] == [2, 4, 8, 16, 16, 16]
    undisturbed = [await claim(disturbed=False) for _ in range(4 * CALM)]
    assert undisturbed == [16] * CALM + [8] * CALM + [4] * CALM + [2] * CALM


async def test_claims_side_by_side_keep_to_their_limits_while_the_range_changes(
    application: Application, raw: Database[Document]
) -> None:
    sent, store = application.sent, application.store
    for number in range(200):
        await store.create(new(f"w{number}"))

    sent.before["update"] = lambda: take_one(sent, raw)
    assert len(await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=2))) == 1
    claims = [
        store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=2)) for _ in range(20)
    ]
    assert max(map(len, await asyncio.gather(*claims))) == 2


async def test_a_claim_keeps_what_it_won_and_leaves_what_it_lost(
    application: Application, raw: Database[Document]
) -> None:
    for number in range(4):
        await application.store.create(new(f"w{number}"))
    theirs = {"workflowId": {"$in": ["w1", "w2"]}}
    application.sent.before["update"] = lambda: raw.workflows.update_many(
        theirs, {"$set": {"status": "running", "claim": "theirs", "timeoutAt": NOW + LEASE}}
    )
    claims = await application.store.claim(
        ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=4)
    )
    assert {claim.workflow_id for claim in claims} == {"w0", "w3"}  # all have been due as long
    assert raw.workflows.count_documents({"claim": "theirs", "claims": 0}) == 2


async def test_a_workflow_that_is_new_no_longer_is_not_taken_for_new(
    application: Application, raw: Database[Document]
) -> None:
    for number in range(3):
        await application.store.create(new(f"w{number}"))
    # Another worker has claimed it, recorded something and given it back, all since our look.
    application.sent.before["update"] = lambda: raw.workflows.update_one(
        {"workflowId": "w1"}, {"$set": {"claims": 1}}
    )
    claims = await application.store.claim(
        ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=3)
    )
    assert {claim.workflow_id: claim.number for claim in claims} == {"w0": 1, "w2": 1}
    (claim,) = await application.store.claim(
        ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=3)
    )
    assert (claim.workflow_id, claim.number) == ("w1", 2)


async def test_a_record_that_the_server_cannot_read_does_not_fail_those_beside_it(
    application: Application,
) -> None:
    store = application.store
    claim = await claimed(store)
    too_deep: list[Any] = []
    for _ in range(300):
        too_deep = [too_deep]
    outputs = [too_deep if number == 13 else number for number in range(20)]
    saves = [store.save_step(claim, f"s{n}", output, NOW) for n, output in enumerate(outputs)]
    saved = await asyncio.gather(*saves, return_exceptions=True)
    refused = saved.pop(13)
    assert isinstance(refused, UnstorableValue)
    assert "step 's13'" in str(refused)
    assert saved == [number for number in range(20) if number != 13]


# Opening and closing -----------------------------------------------------------------------------


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_before_init_is_refused(
    mongodb_url: str, empty_database: str, clock: ManualClock, call: str
) -> None:
    async with AsyncMongoClient[Document](mongodb_url) as client:
        ready = MongoStore.from_database(client[empty_database], clock=clock)
        await ready.init()
        claim = await claimed(ready)
        with pytest.raises(NotInitialised):
            await CALLS[call](MongoStore(mongodb_url, database=empty_database), claim)


@pytest.mark.parametrize("call", CALLS)
async def test_a_call_after_close_is_refused_and_the_next_init_opens_again(
    stores: list[MongoStore], call: str
) -> None:
    store = stores[0]
    claim = await claimed(store)
    await store.close()
    with pytest.raises(NotInitialised):
        await CALLS[call](store, claim)
    await store.init()
    await CALLS[call](store, claim)


@pytest.mark.parametrize("call", CALLS)
async def test_a_closed_store_no_longer_uses_the_applications_database(
    application: Application, call: str
) -> None:
    claim = await claimed(application.store)
    await application.store.close()
    application.sent.commands.clear()
    with pytest.raises(NotInitialised):
        await CALLS[call](application.store, claim)
    assert application.sent.commands == []


async def test_each_way_to_claim_knows_the_workflow_and_since_when_it_was_due(
    application: Application,
) -> None:
    store, sent = application.store, application.sent

    async def claim(late: int) -> Claim:
        (claim,) = await store.claim(
            ClaimRequest(worker="worker", now=NOW + late * SECOND, lease=LEASE, limit=1)
        )
        assert claim.workflow == await store.find_workflow("w")
        return claim

    assert await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1)) == []
    await store.create(new("w"))
    by_one_command = await claim(1)
    assert sent.named("findAndModify")
    await store.park(by_one_command, NOW + 2 * SECOND)
    read_back = await claim(5)
    taken_over = await claim(9 + LEASE.seconds)
    assert [by_one_command.due_at, read_back.due_at, taken_over.due_at] == [
        *(NOW, NOW + 2 * SECOND),
        NOW + 5 * SECOND + LEASE,
    ]


async def test_a_failed_workflow_claimed_by_one_command_is_as_it_is_stored(
    application: Application,
) -> None:
    store, sent = application.store, application.sent
    await store.fail(await claimed(store, "w"), failure(retry=True), NOW)
    assert await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1)) == []
    await store.create(replace(new("other"), created_at=NOW + 2 * SECOND))
    sent.commands.clear()
    (claim,) = await store.claim(
        ClaimRequest(worker="worker", now=NOW + 2 * SECOND, lease=LEASE, limit=1)
    )
    assert sent.named("findAndModify")
    assert claim.workflow == await store.find_workflow("w")
    assert claim.due_at == NOW + SECOND
