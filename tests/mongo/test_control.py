"""Cancelling, pausing and second chances in a database that the JavaScript library works on."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import timedelta

import pytest
import pytest_asyncio
from pymongo import AsyncMongoClient
from pymongo.database import Database

from bluestreak_core import Bluestreak, ClaimLost, Context, CorruptDocument, Status
from bluestreak_core.machine import Transition
from bluestreak_core.testing import ManualClock
from bluestreak_mongo import MongoStore
from tests.mongo.arrange import LEASE, NOW, SECOND, Application, Document, claimed, new, polling
from tests.mongo.explain import explained
from tests.mongo.javascript_worker import JavaScriptWorker

pytestmark = [pytest.mark.asyncio, pytest.mark.server]


@pytest_asyncio.fixture
async def store(
    mongodb_url: str, empty_database: str, clock: ManualClock
) -> AsyncIterator[MongoStore]:
    store = MongoStore(mongodb_url, database=empty_database, clock=clock)
    await store.init()
    yield store
    await store.close()


@pytest_asyncio.fixture
async def javascript(
    mongodb_url: str, empty_database: str, store: MongoStore, clock: ManualClock
) -> AsyncIterator[JavaScriptWorker]:
    async with AsyncMongoClient[Document](mongodb_url) as client:
        yield JavaScriptWorker(client[empty_database], clock)


@pytest_asyncio.fixture
async def bluestreak(store: MongoStore) -> Bluestreak:
    bluestreak = Bluestreak(store, max_failures=0)
    await bluestreak.init()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        return await ctx.step("s", lambda: pytest.fail("a recorded step was called"))

    return bluestreak


@pytest.mark.parametrize(
    "events", [(Transition.PAUSE, Transition.RESUME), (Transition.CANCEL, Transition.RETRY)]
)
async def test_what_is_taken_from_javascript_is_resumed_over_the_steps_that_it_recorded(
    bluestreak: Bluestreak,
    store: MongoStore,
    javascript: JavaScriptWorker,
    clock: ManualClock,
    events: tuple[Transition, Transition],
) -> None:
    await bluestreak.start("w", "h")
    clock.advance(SECOND)
    assert await javascript.claim() == "w"
    await javascript.step("w", "s", lambda: "JavaScript's")
    for event in events:
        await store.control("w", event, clock.now())
    async with polling(bluestreak):
        assert await bluestreak.wait("w") == "JavaScript's"


async def test_what_javascript_has_given_up_is_retried_over_the_steps_that_it_recorded(
    bluestreak: Bluestreak, store: MongoStore, javascript: JavaScriptWorker, clock: ManualClock
) -> None:
    await bluestreak.start("w", "h")
    clock.advance(SECOND)
    assert await javascript.claim() == "w"
    await javascript.step("w", "s", lambda: "JavaScript's")
    await javascript.fail("w", retry_in=timedelta(0))
    await store.control("w", Transition.CANCEL, clock.now())
    await store.control("w", Transition.RETRY, clock.now())
    async with polling(bluestreak):
        assert await bluestreak.wait("w") == "JavaScript's"


@pytest.mark.parametrize("event", [Transition.CANCEL, Transition.PAUSE])
async def test_javascript_never_claims_what_was_cancelled_or_paused(
    bluestreak: Bluestreak,
    store: MongoStore,
    javascript: JavaScriptWorker,
    clock: ManualClock,
    event: Transition,
) -> None:
    await bluestreak.start("w", "h")
    await store.control("w", event, clock.now())
    clock.advance(10 * LEASE)
    assert await javascript.claim() is None


async def test_a_paused_workflow_that_javascript_runs_is_not_moved_by_its_former_worker(
    store: MongoStore, javascript: JavaScriptWorker, clock: ManualClock
) -> None:
    stale = await claimed(store)
    for event in (Transition.PAUSE, Transition.RESUME):
        await store.control("w", event, clock.now())
    clock.advance(SECOND)
    assert await javascript.claim() == "w"
    before = await store.find_workflow("w")
    assert await store.renew([stale], clock.now(), LEASE) == [stale]
    with pytest.raises(ClaimLost):
        await store.finish(stale, "too late", clock.now())
    assert await store.find_workflow("w") == before
    await javascript.finish("w", "JavaScript's")
    found = await store.find_workflow("w")
    assert found is not None
    assert (found.status, found.result) == (Status.FINISHED, "JavaScript's")


@pytest.mark.parametrize("event", [Transition.CANCEL, Transition.PAUSE])
async def test_javascript_does_not_hear_of_control_and_ends_what_it_runs(
    bluestreak: Bluestreak,
    store: MongoStore,
    javascript: JavaScriptWorker,
    clock: ManualClock,
    event: Transition,
) -> None:
    await bluestreak.start("w", "h")
    clock.advance(SECOND)
    assert await javascript.claim() == "w"
    await store.control("w", event, clock.now())
    await javascript.finish("w", "JavaScript's")
    assert await bluestreak.wait("w") == "JavaScript's"


async def test_what_javascript_puts_off_after_it_was_taken_keeps_nobody_busy(
    store: MongoStore, raw: Database[Document], clock: ManualClock
) -> None:
    await claimed(store)
    await store.control("w", Transition.CANCEL, NOW)
    assert await store.wait_for_control("worker", NOW, timedelta(0))
    month = timedelta(days=30)
    raw.workflows.update_one({}, {"$set": {"timeoutAt": NOW + month}})  # by a nap that it begins
    clock.advance(10 * SECOND)
    assert not await store.wait_for_control("worker", clock.now(), timedelta(0))


# Atomic, though it may take several commands -----------------------------------------------------


async def test_a_workflow_is_paused_whatever_its_worker_does_just_then(
    application: Application, raw: Database[Document]
) -> None:
    await claimed(application.store)

    def park_before_the_second() -> None:
        application.sent.before["update"] = lambda: raw.workflows.update_one(
            {}, {"$set": {"status": "idle"}}
        )

    application.sent.before["update"] = park_before_the_second
    await application.store.control("w", Transition.PAUSE, NOW)
    (paused,) = raw.workflows.find()
    assert paused["status"] == "paused"


async def test_a_refusal_names_a_status_in_which_it_is_due(
    application: Application, raw: Database[Document]
) -> None:
    await claimed(application.store)
    await application.store.control("w", Transition.CANCEL, NOW)
    application.sent.before["find"] = lambda: raw.workflows.update_one(
        {}, {"$set": {"status": "idle"}}
    )
    await application.store.control("w", Transition.CANCEL, NOW)
    (cancelled,) = raw.workflows.find()
    assert cancelled["status"] == "cancelled"


async def test_a_look_for_what_was_taken_passes_over_what_has_long_been_stopping(
    application: Application, raw: Database[Document]
) -> None:
    raw.workflows.insert_many(
        {
            "workflowId": f"w{number}",
            "handlerId": "h",
            "failures": 0,
            "status": "stopping",
            "compensates": True,
            "outcome": "cancelled",
            "stoppedAt": NOW - LEASE,
            "timeoutAt": NOW - LEASE,
            "worker": "other",
        }
        for number in range(100)
    )
    await application.store.wait_for_control("worker", NOW, timedelta(0))
    (look,) = [command for command in application.sent.commands if "find" in command]
    statistics = explained(raw, look)["executionStats"]
    assert statistics["totalKeysExamined"] < 10


@pytest.mark.parametrize(("event", "status"), [("cancel", "idle"), ("retry", "aborted")])
async def test_a_flag_that_is_false_is_as_good_as_none(
    store: MongoStore, raw: Database[Document], event: str, status: str
) -> None:
    await store.create(new("w"))
    flags = {"compensates": False, "unsettled": False}
    raw.workflows.update_one({}, {"$set": {"status": status} | flags})
    await asyncio.wait_for(store.control("w", Transition(event), NOW), 10)
    assert raw.workflows.find_one({"status": {"$ne": status}}) is not None
    raw.workflows.update_one({}, {"$set": {"status": "cancelled"} | flags})
    pruned = await store.prune(NOW + SECOND, [Status.CANCELLED], 10, NOW)
    assert pruned.workflows == 1


async def test_a_workflow_with_another_flag_is_refused_as_corrupt(
    store: MongoStore, raw: Database[Document]
) -> None:
    await store.create(new("w"))
    raw.workflows.update_one({}, {"$set": {"compensates": "yes"}})
    with pytest.raises(CorruptDocument, match="'w': 'compensates'"):
        await asyncio.wait_for(store.control("w", Transition.CANCEL, NOW), 10)
