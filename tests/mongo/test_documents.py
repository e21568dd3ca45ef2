"""The stored documents are the JavaScript library's and ours: either reads what the other wrote."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from bson import Int64, ObjectId
from pymongo import AsyncMongoClient
from pymongo.database import Database

from bluestreak_core import (
    Attempt,
    Bluestreak,
    Context,
    CorruptDocument,
    ErrorRecord,
    FailedStep,
    Status,
    ValueTooLarge,
    Workflow,
    WorkflowAborted,
)
from bluestreak_core.machine import Transition
from bluestreak_core.model import ClaimRequest
from bluestreak_core.testing import ManualClock, RecordingStore
from bluestreak_mongo import MongoStore
from tests.mongo.arrange import (
    AWARE,
    ERROR,
    LEASE,
    NOW,
    SECOND,
    Document,
    claimed,
    failure,
    new,
    polling,
)
from tests.mongo.javascript_worker import JavaScriptWorker

pytestmark = [pytest.mark.asyncio, pytest.mark.server]

DAY = timedelta(days=1)
CREATED_MS = Int64(NOW.timestamp() * 1000)

STORED_ERROR = {
    "type": ERROR.type,
    "message": ERROR.message,
    "traceback": ERROR.traceback,
}

CREATED = {
    # What the JavaScript library writes.
    "workflowId": "w",
    "handlerId": "h",
    "input": {"n": 1},
    "failures": 0,
    "status": "idle",
    "timeoutAt": NOW,
    # What we add.
    "claims": 0,
    "crashes": 0,
    "createdAt": NOW,
}

INDEXES = {
    "workflows": {
        "_id_": {"v": 2, "key": [("_id", 1)]},
        "workflowId_1": {"v": 2, "key": [("workflowId", 1)], "unique": True},
        "status_1_timeoutAt_1": {"v": 2, "key": [("status", 1), ("timeoutAt", 1)]},
        "createdAt_1_workflowId_1": {"v": 2, "key": [("createdAt", 1), ("workflowId", 1)]},
        "handlerId_1_createdAt_1_workflowId_1": {
            "v": 2,
            "key": [("handlerId", 1), ("createdAt", 1), ("workflowId", 1)],
        },
        "status_1_createdAt_1_workflowId_1_handlerId_1": {
            "v": 2,
            "key": [("status", 1), ("createdAt", 1), ("workflowId", 1), ("handlerId", 1)],
            "partialFilterExpression": {
                "status": {"$in": ["failed", "aborted", "paused", "cancelled"]}
            },
        },
        "waitingFor_1_createdAt_1_workflowId_1": {
            "v": 2,
            "key": [("waitingFor", 1), ("createdAt", 1), ("workflowId", 1)],
            "partialFilterExpression": {"waitingFor": {"$exists": True}},
        },
        "parent.workflowId_1_createdAt_1_workflowId_1": {
            "v": 2,
            "key": [("parent.workflowId", 1), ("createdAt", 1), ("workflowId", 1)],
            "partialFilterExpression": {"parent.workflowId": {"$exists": True}},
        },
        "unsettled_1_status_1": {
            "v": 2,
            "key": [("unsettled", 1), ("status", 1)],
            "partialFilterExpression": {"unsettled": True},
        },
    },
    "steps": {
        "_id_": {"v": 2, "key": [("_id", 1)]},
        "workflowId_1_stepId_1": {
            "v": 2,
            "key": [("workflowId", 1), ("stepId", 1)],
            "unique": True,
        },
        "workflowId_1_workflowCreatedAt_1_messageId_1": {
            "v": 2,
            "key": [("workflowId", 1), ("workflowCreatedAt", 1), ("messageId", 1)],
            "unique": True,
            "partialFilterExpression": {"messageId": {"$exists": True}},
        },
    },
    "naps": {
        "_id_": {"v": 2, "key": [("_id", 1)]},
        "workflowId_1_napId_1": {
            "v": 2,
            "key": [("workflowId", 1), ("napId", 1)],
            "unique": True,
        },
    },
    "messages": {
        "_id_": {"v": 2, "key": [("_id", 1)]},
        "workflowId_1_workflowCreatedAt_1_messageId_1": {
            "v": 2,
            "key": [("workflowId", 1), ("workflowCreatedAt", 1), ("messageId", 1)],
            "unique": True,
        },
        "workflowId_1_workflowCreatedAt_1_name_1_place_1__id_1": {
            "v": 2,
            "key": [
                *(("workflowId", 1), ("workflowCreatedAt", 1), ("name", 1), ("place", 1)),
                ("_id", 1),
            ],
            "partialFilterExpression": {"unread": True},
        },
    },
}


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
    mongodb_url: str, empty_database: str, clock: ManualClock
) -> AsyncIterator[JavaScriptWorker]:
    async with AsyncMongoClient[Document](mongodb_url) as client:
        database = client.get_database(empty_database, codec_options=AWARE)
        worker = JavaScriptWorker(database, clock)
        await worker.init()
        yield worker


@pytest_asyncio.fixture
async def bluestreak(store: MongoStore) -> Bluestreak:
    bluestreak = Bluestreak(store, wait_retry_interval=0, max_failures=3)
    await bluestreak.init()
    return bluestreak


def exactly(value: Any) -> Any:
    """A value with all its types: 1, 1.0, True and Int64(1) are equal to Python."""
    match value:
        case dict():
            return {key: exactly(item) for key, item in value.items()}
        case list():
            return [exactly(item) for item in value]
        case _:
            return type(value), value


def documents(raw: Database[Document], collection: str) -> list[Any]:
    """All documents, exactly, but for the `_id` that nobody reads."""
    found = list(raw[collection].find())
    assert all(type(document.pop("_id")) is ObjectId for document in found)
    return [exactly(document) for document in found]


# What is stored at each stage --------------------------------------------------------------------


def after_claim(token: str) -> Document:
    return CREATED | {
        "status": "running",
        "timeoutAt": NOW + LEASE,
        "claims": 1,
        "claim": token,
        "worker": "worker",
        "startedAt": NOW,
        "claimLog": [{"worker": "worker", "claimedAt": NOW, "afterCrash": False}],
    }


async def test_a_created_workflow(store: MongoStore, raw: Database[Document]) -> None:
    await store.create(new("w", input={"n": 1}))
    assert documents(raw, "workflows") == [exactly(CREATED)]


async def test_an_input_of_none_is_stored_as_null(
    store: MongoStore, raw: Database[Document]
) -> None:
    await store.create(new("w", input=None))
    assert documents(raw, "workflows") == [exactly(CREATED | {"input": None})]


async def test_a_claimed_workflow(store: MongoStore, raw: Database[Document]) -> None:
    claim = await claimed(store, input={"n": 1})
    assert documents(raw, "workflows") == [exactly(after_claim(claim.token))]


async def test_a_workflow_that_was_taken_over(store: MongoStore, raw: Database[Document]) -> None:
    first = await claimed(store, input={"n": 1})
    (second,) = await store.claim(
        ClaimRequest(worker="other", now=NOW + LEASE, lease=LEASE, limit=1)
    )
    before = after_claim(first.token)
    taken_over = before | {
        "timeoutAt": NOW + 2 * LEASE,
        "claims": 2,
        "crashes": 1,
        "claim": second.token,
        "worker": "other",
        "claimLog": [
            *before["claimLog"],
            {"worker": "other", "claimedAt": NOW + LEASE, "afterCrash": True},
        ],
    }
    assert documents(raw, "workflows") == [exactly(taken_over)]


async def test_a_parked_workflow(store: MongoStore, raw: Database[Document]) -> None:
    claim = await claimed(store, input={"n": 1})
    await store.park(claim, NOW + DAY)
    parked = after_claim(claim.token) | {"status": "idle", "timeoutAt": NOW + DAY}
    assert documents(raw, "workflows") == [exactly(parked)]


async def test_a_released_workflow(store: MongoStore, raw: Database[Document]) -> None:
    claim = await claimed(store, input={"n": 1})
    await store.release(claim, NOW + SECOND)
    released = after_claim(claim.token) | {"status": "idle", "timeoutAt": NOW + SECOND}
    assert documents(raw, "workflows") == [exactly(released)]


async def test_a_failed_workflow(store: MongoStore, raw: Database[Document]) -> None:
    claim = await claimed(store, input={"n": 1})
    await store.fail(claim, failure(retry=True), NOW)
    failed = after_claim(claim.token) | {
        "status": "failed",
        "timeoutAt": NOW + SECOND,
        "failures": 1,
        "error": STORED_ERROR,
    }
    assert documents(raw, "workflows") == [exactly(failed)]


async def test_an_aborted_workflow(store: MongoStore, raw: Database[Document]) -> None:
    claim = await claimed(store, input={"n": 1})
    await store.fail(claim, failure(retry=False), NOW + SECOND)
    aborted = after_claim(claim.token) | {
        "status": "aborted",
        "timeoutAt": NOW + SECOND,
        "failures": 1,
        "finishedAt": NOW + SECOND,
        "error": STORED_ERROR,
    }
    assert documents(raw, "workflows") == [exactly(aborted)]


@pytest.mark.parametrize("result", [None, {"paid": [1, 2.0]}])
async def test_a_finished_workflow(
    store: MongoStore, raw: Database[Document], result: object
) -> None:
    claim = await claimed(store, input={"n": 1})
    await store.finish(claim, result, NOW + SECOND)
    finished = after_claim(claim.token) | {
        "status": "finished",
        "timeoutAt": NOW + SECOND,
        "result": result,
        "finishedAt": NOW + SECOND,
    }
    assert documents(raw, "workflows") == [exactly(finished)]


async def test_a_recorded_step(store: MongoStore, raw: Database[Document]) -> None:
    claim = await claimed(store)
    await store.save_step(claim, "s", {"id": 2**40}, NOW + SECOND)
    step = {
        "workflowId": "w",
        "workflowCreatedAt": CREATED_MS,
        "stepId": "s",
        "output": {"id": Int64(2**40)},
        "savedAt": NOW + SECOND,
    }
    assert documents(raw, "steps") == [exactly(step)]


async def test_a_recorded_nap(store: MongoStore, raw: Database[Document]) -> None:
    claim = await claimed(store)
    await store.save_nap(claim, "n", NOW + DAY, NOW + SECOND)
    nap = {
        "workflowId": "w",
        "workflowCreatedAt": CREATED_MS,
        "napId": "n",
        "wakeUpAt": NOW + DAY,
        "savedAt": NOW + SECOND,
    }
    assert documents(raw, "naps") == [exactly(nap)]


async def test_a_workflow_whose_start_is_delayed(
    store: MongoStore, raw: Database[Document]
) -> None:
    await store.create(replace(new("w", input={"n": 1}), start_at=NOW + DAY))
    delayed = CREATED | {"timeoutAt": NOW + DAY, "startAt": NOW + DAY}
    assert documents(raw, "workflows") == [exactly(delayed)]


async def test_a_failed_attempt_is_a_nap_of_an_id_that_no_nap_can_have(
    store: MongoStore, raw: Database[Document]
) -> None:
    claim = await claimed(store)
    attempt = Attempt(
        workflow_id="w",
        step_id="s",
        round=0,
        number=2,
        error=ERROR,
        retry_at=NOW + DAY,
        saved_at=NOW + SECOND,
    )
    await store.save_attempt(claim, attempt)
    await store.save_attempt(claim, replace(attempt, number=3, retry_at=None))
    nap = {
        "workflowId": "w",
        "workflowCreatedAt": CREATED_MS,
        "napId": "s\x000\x002",
        "wakeUpAt": NOW + DAY,
        "savedAt": NOW + SECOND,
        "attempt": {
            "stepId": "s",
            "round": 0,
            "number": 2,
            "error": STORED_ERROR,
            "isLast": False,
        },
    }
    last = nap | {
        "napId": "s\x000\x003",
        "wakeUpAt": NOW + SECOND,
        "attempt": {**nap["attempt"], "number": 3, "isLast": True},  # type: ignore[dict-item]
    }
    assert documents(raw, "naps") == [exactly(nap), exactly(last)]
    assert documents(raw, "steps") == []


async def test_the_begin_of_an_attempt_is_one_with_a_negative_number(
    store: MongoStore, raw: Database[Document]
) -> None:
    claim = await claimed(store)
    begin = Attempt(
        workflow_id="w",
        step_id="s",
        round=0,
        number=-2,
        error=ErrorRecord(type="begun", message=claim.token, traceback=""),
        retry_at=None,
        saved_at=NOW + SECOND,
    )
    await store.save_attempt(claim, begin)
    nap = {
        "workflowId": "w",
        "workflowCreatedAt": CREATED_MS,
        "napId": "s\x000\x00-2",
        "wakeUpAt": NOW + SECOND,
        "savedAt": NOW + SECOND,
        "attempt": {
            "stepId": "s",
            "round": 0,
            "number": -2,
            "error": {"type": "begun", "message": claim.token, "traceback": ""},
            "isLast": True,
        },
    }
    assert documents(raw, "naps") == [exactly(nap)]
    assert (await store.history([claim]))["w"].attempts == {"s": begin}


async def test_a_step_that_was_given_up(store: MongoStore, raw: Database[Document]) -> None:
    claim = await claimed(store, input={"n": 1})
    failed = FailedStep(step_id="s", error=ERROR, attempts=3, failed_at=NOW + SECOND)
    await store.fail_step(claim, failed)
    entry = {"stepId": "s", "error": STORED_ERROR, "attempts": 3, "failedAt": NOW + SECOND}
    given_up = after_claim(claim.token) | {"failedSteps": [entry]}
    assert documents(raw, "workflows") == [exactly(given_up)]
    assert documents(raw, "steps") == []


async def test_a_step_that_is_given_up_without_room_for_its_error_is_too_large(
    store: MongoStore, raw: Database[Document]
) -> None:
    claim = await claimed(store, input=1)
    raw.workflows.update_one({}, {"$set": {"note": "x" * (16 * 1024 * 1024 - 1000)}})
    failed = FailedStep(
        step_id="s", error=replace(ERROR, message="x" * 1000), attempts=3, failed_at=NOW
    )
    with pytest.raises(ValueTooLarge, match="error of step 's' of workflow 'w'"):
        await store.fail_step(claim, failed)


@pytest.mark.parametrize(
    ("event", "changes"),
    [
        (
            Transition.PAUSE,
            {"status": "paused", "timeoutAt": NOW + SECOND, "leasedUntil": NOW + LEASE},
        ),
        (
            Transition.CANCEL,
            {
                "status": "cancelled",
                "timeoutAt": NOW + SECOND,
                "finishedAt": NOW + SECOND,
                "reason": "why",
            },
        ),
    ],
)
async def test_a_workflow_that_was_running_and_is_paused_or_cancelled(
    store: MongoStore, raw: Database[Document], event: Transition, changes: Document
) -> None:
    claim = await claimed(store, input={"n": 1})
    await store.control("w", event, NOW + SECOND, "why")
    changed = after_claim(claim.token) | changes | {"controls": 1}
    del changed["claim"]
    assert documents(raw, "workflows") == [exactly(changed)]


async def test_a_retried_workflow(store: MongoStore, raw: Database[Document]) -> None:
    claim = await claimed(store, input={"n": 1})
    failed = FailedStep(step_id="s", error=ERROR, attempts=3, failed_at=NOW)
    await store.fail_step(claim, failed)
    await store.fail(claim, failure(retry=False), NOW)
    await store.control("w", Transition.RETRY, NOW + SECOND)
    retried = after_claim(claim.token) | {
        "status": "idle",
        "timeoutAt": NOW + SECOND,
        "startAt": NOW + SECOND,
        "retries": 1,
        "controls": 1,
        "unsettled": True,
    }
    del retried["claim"]
    assert documents(raw, "workflows") == [exactly(retried)]


async def test_a_step_in_flight_is_not_stored(
    bluestreak: Bluestreak, raw: Database[Document]
) -> None:
    seen: list[list[Any]] = []

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("s", lambda: seen.append(documents(raw, "steps")))

    await bluestreak.start("w", "h")
    async with polling(bluestreak):
        await bluestreak.wait("w")
    assert seen == [[]]
    assert len(documents(raw, "steps")) == 1


# Indexes -----------------------------------------------------------------------------------------


def indexes(database: Database[Document]) -> Document:
    return {name: database[name].index_information() for name in INDEXES}


async def test_init_creates_the_indexes_under_their_default_names(
    mongodb_url: str, fresh_database: Database[Document], clock: ManualClock
) -> None:
    store = MongoStore(mongodb_url, database=fresh_database.name, clock=clock)
    await store.init()
    await store.close()
    assert sorted(fresh_database.list_collection_names()) == sorted(INDEXES)
    assert indexes(fresh_database) == INDEXES


@pytest.mark.parametrize("javascript_comes_first", [True, False])
async def test_init_finds_the_indexes_of_the_other_library(
    mongodb_url: str,
    fresh_database: Database[Document],
    clock: ManualClock,
    javascript_comes_first: bool,
) -> None:
    store = MongoStore(mongodb_url, database=fresh_database.name, clock=clock)
    async with AsyncMongoClient[Document](mongodb_url) as client:
        javascript = JavaScriptWorker(client[fresh_database.name], clock)
        for library in (javascript, store) if javascript_comes_first else (store, javascript):
            await library.init()
    await store.close()
    assert indexes(fresh_database) == INDEXES


# What the JavaScript library has written ---------------------------------------------------------


def from_javascript(**fields: Any) -> Document:
    """A workflow as its driver writes it: numbers may be doubles, and `undefined` is null."""
    return {
        "workflowId": "w",
        "handlerId": "h",
        "input": None,
        "failures": 0.0,
        "status": "idle",
        "timeoutAt": NOW - SECOND,
        **fields,
    }


async def test_a_javascript_workflow_is_found_with_our_fields_empty(
    store: MongoStore, raw: Database[Document]
) -> None:
    raw.workflows.insert_one(from_javascript(failures=2.0, status="failed"))
    found = await store.find_workflow("w")
    assert found == Workflow(
        workflow_id="w",
        handler_id="h",
        input=None,
        status=Status.FAILED,
        timeout_at=NOW - SECOND,
        failures=2,
    )
    assert found is not None
    assert type(found.failures) is int


async def test_a_javascript_result_is_waited_for(
    bluestreak: Bluestreak, raw: Database[Document]
) -> None:
    raw.workflows.insert_one(from_javascript(status="finished", result={"n": 1.5}))
    assert await bluestreak.wait("w") == {"n": 1.5}


async def test_a_javascript_workflow_that_was_aborted_has_an_unknown_error(
    bluestreak: Bluestreak, raw: Database[Document]
) -> None:
    raw.workflows.insert_one(from_javascript(status="aborted", failures=4.0))
    with pytest.raises(WorkflowAborted, match="unknown error: none was recorded"):
        await bluestreak.wait("w")


@pytest.mark.parametrize("status", ["idle", "failed", "running"])
async def test_a_claimed_javascript_workflow_gets_our_fields_beside_its_own(
    store: MongoStore, raw: Database[Document], status: str
) -> None:
    given = from_javascript(status=status, failures=1.0)
    raw.workflows.insert_one(dict(given))
    (claim,) = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
    crashed = status == "running"
    expected = given | {
        "status": "running",
        "timeoutAt": NOW + LEASE,
        "claims": 1,
        "crashes": int(crashed),
        "claim": claim.token,
        "worker": "worker",
        "startedAt": NOW,
        "claimLog": [{"worker": "worker", "claimedAt": NOW, "afterCrash": crashed}],
    }
    assert documents(raw, "workflows") == [exactly(expected)]


async def test_a_javascript_workflow_is_run(
    bluestreak: Bluestreak, raw: Database[Document]
) -> None:
    raw.workflows.insert_one(from_javascript(input={"to": "ada", "copies": 2.0}))

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: dict[str, Any]) -> str:
        return await ctx.step("s", lambda: f"{input['to']} {input['copies']}")

    async with polling(bluestreak):
        assert await bluestreak.wait("w") == "ada 2.0"


async def test_a_javascript_workflow_is_resumed_over_its_steps_and_naps(
    store: MongoStore, raw: Database[Document]
) -> None:
    recording = RecordingStore(store)
    bluestreak = Bluestreak(recording)
    await bluestreak.init()
    raw.workflows.insert_one(from_javascript(status="running"))
    raw.steps.insert_many(
        [
            {"workflowId": "w", "stepId": "charge", "output": {"id": 7.0}},
            {"workflowId": "w", "stepId": "mail", "output": None},
            {"workflowId": "other", "stepId": "ship", "output": "not ours"},
        ]
    )
    raw.naps.insert_one({"workflowId": "w", "napId": "night", "wakeUpAt": NOW - SECOND})
    calls: list[str] = []

    def call(step_id: str) -> object:
        calls.append(step_id)
        return f"{step_id} was called"

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> list[object]:
        charge = await ctx.step("charge", call, "charge")
        mail = await ctx.step("mail", call, "mail")
        await ctx.sleep("night", DAY)
        return [charge, mail, await ctx.step("ship", call, "ship")]

    async with polling(bluestreak):
        assert await bluestreak.wait("w") == [{"id": 7.0}, None, "ship was called"]
    assert calls == ["ship"]
    assert (recording.begun["save_step"], recording.begun["save_nap"]) == (1, 0)
    nap = await bluestreak.find_nap("w", "night")
    step = await bluestreak.find_step("w", "charge")
    assert nap is not None
    assert step is not None
    assert (nap.wake_up_at, nap.saved_at) == (NOW - SECOND, None)
    assert (step.output, step.saved_at) == ({"id": 7.0}, None)


async def test_a_javascript_nap_that_is_not_over_is_parked_until_its_own_end(
    store: MongoStore, raw: Database[Document], clock: ManualClock
) -> None:
    raw.workflows.insert_one(from_javascript(status="running"))
    raw.naps.insert_one({"workflowId": "w", "napId": "night", "wakeUpAt": NOW + DAY / 2})
    recording = RecordingStore(store)
    bluestreak = Bluestreak(recording)
    await bluestreak.init()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        await ctx.sleep("night", DAY)
        return "morning"

    async with polling(bluestreak):
        await recording.until_returned("park")
        parked = await bluestreak.find_workflow("w")
        assert parked is not None
        assert (parked.status, parked.timeout_at) == (Status.IDLE, NOW + DAY / 2)
        clock.advance(DAY / 2)
        assert await bluestreak.wait("w") == "morning"


async def test_failures_are_counted_on_from_the_javascript_ones(
    bluestreak: Bluestreak, raw: Database[Document]
) -> None:
    raw.workflows.insert_one(from_javascript(status="failed", failures=2.0))
    calls = []

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        calls.append("called")
        raise ValueError("no such card")

    async with polling(bluestreak):
        with pytest.raises(WorkflowAborted, match="no such card"):
            await bluestreak.wait("w")
    assert len(calls) == 2
    (aborted,) = raw.workflows.find()
    assert exactly(aborted["failures"]) == (float, 4.0)


@pytest.mark.parametrize(
    ("fields", "reason"),
    [
        ({"handlerId": None}, "'handlerId' is not a string"),
        ({"failures": "1"}, "'failures' is no number"),
        ({"status": "stuck"}, "'status' is 'stuck'"),
        ({"timeoutAt": 1.0}, "'timeoutAt' is not a date"),
    ],
)
async def test_a_document_that_neither_library_writes_is_named(
    store: MongoStore, raw: Database[Document], fields: Document, reason: str
) -> None:
    raw.workflows.insert_one(from_javascript(**fields))
    with pytest.raises(CorruptDocument, match=f"workflows document 'w': {reason}"):
        await store.find_workflow("w")


# What the JavaScript library makes of ours -------------------------------------------------------


async def test_javascript_finishes_what_we_have_started(
    bluestreak: Bluestreak, javascript: JavaScriptWorker, clock: ManualClock
) -> None:
    await bluestreak.start("w", "h", {"n": 1})
    clock.advance(SECOND)
    assert await javascript.claim() == "w"
    output = await javascript.step("w", "s", lambda: "by JavaScript")
    await javascript.finish("w", {"output": output})
    assert await bluestreak.wait("w") == {"output": "by JavaScript"}
    assert await javascript.claim() is None


async def test_javascript_resumes_what_we_have_parked(
    store: MongoStore, javascript: JavaScriptWorker, clock: ManualClock
) -> None:
    recording = RecordingStore(store)
    bluestreak = Bluestreak(recording)
    await bluestreak.init()

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        await ctx.step("charge", lambda: {"id": 7})
        await ctx.sleep("night", DAY)

    await bluestreak.start("w", "h")
    async with polling(bluestreak):
        await recording.until_returned("park")
    clock.advance(DAY)
    assert await javascript.claim() is None, "it was parked until later than this"
    clock.advance(SECOND)
    assert await javascript.claim() == "w"
    charge = await javascript.step("w", "charge", lambda: pytest.fail("a recorded step was called"))
    await javascript.sleep("w", "night", DAY)
    await javascript.finish("w", [charge, "morning"])
    assert await bluestreak.wait("w") == [{"id": 7}, "morning"]


@pytest.mark.parametrize("retry", [True, False])
async def test_javascript_retries_what_we_have_failed_and_leaves_what_we_have_aborted(
    store: MongoStore, javascript: JavaScriptWorker, clock: ManualClock, retry: bool
) -> None:
    await store.fail(await claimed(store), failure(retry=retry), NOW)
    clock.advance(SECOND)
    assert await javascript.claim() is None
    clock.advance(LEASE)
    assert await javascript.claim() == ("w" if retry else None)


async def test_we_take_over_what_javascript_has_failed(
    bluestreak: Bluestreak, javascript: JavaScriptWorker, clock: ManualClock
) -> None:
    await javascript.start("w", "h", None)
    assert not await bluestreak.start("w", "h")
    clock.advance(SECOND)
    assert await javascript.claim() == "w"
    await javascript.step("w", "first", lambda: 1)
    await javascript.fail("w", retry_in=timedelta(0))

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> list[int]:
        return [await ctx.step("first", lambda: 0), await ctx.step("second", lambda: 2)]

    async with polling(bluestreak):
        assert await bluestreak.wait("w") == [1, 2]


async def test_a_mixed_fleet_finishes_everything_and_records_no_step_twice(
    store: MongoStore, javascript: JavaScriptWorker, raw: Database[Document], clock: ManualClock
) -> None:
    bluestreak = Bluestreak(store, max_concurrency=5)
    await bluestreak.init()
    ids = [f"w{number}" for number in range(40)]
    calls: Counter[tuple[str, str]] = Counter()
    we_work, javascript_works = asyncio.Event(), asyncio.Event()

    def note(workflow_id: str, step_id: str) -> str:
        calls[workflow_id, step_id] += 1
        return f"{step_id} of {workflow_id}"

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> str:
        we_work.set()
        await javascript_works.wait()
        for step_id in ("a", "b"):
            await ctx.step(step_id, note, ctx.workflow_id, step_id)
        return "bluestreak"

    async def work_as_javascript() -> None:
        while (workflow_id := await javascript.claim()) is not None:
            javascript_works.set()
            await we_work.wait()
            for step_id in ("a", "b"):
                await javascript.step(workflow_id, step_id, lambda: note(workflow_id, step_id))  # noqa: B023
            await javascript.finish(workflow_id, "javascript")

    for workflow_id in ids[:20]:
        await bluestreak.start(workflow_id, "h")
    for workflow_id in ids[20:]:
        await javascript.start(workflow_id, "h", None)
    clock.advance(SECOND)
    async with polling(bluestreak):
        await work_as_javascript()
        results = [await bluestreak.wait(workflow_id) for workflow_id in ids]
    assert set(results) == {"bluestreak", "javascript"}
    assert set(calls) == {(workflow_id, step_id) for workflow_id in ids for step_id in "ab"}
    assert set(calls.values()) == {1}
    assert raw.steps.count_documents({}) == len(calls)


async def test_a_record_whose_place_a_deleted_workflow_has_taken_is_kept_beside_it(
    store: MongoStore, raw: Database[Document]
) -> None:
    left = {
        "workflowId": "w",
        "workflowCreatedAt": Int64(CREATED_MS - 86_400_000),
        "stepId": "s",
        "output": "old",
    }
    raw.steps.insert_one(dict(left))
    claim = await claimed(store)
    await store.save_step(claim, "s", "new", NOW)
    beside = {
        "workflowId": "w",
        "workflowCreatedAt": CREATED_MS,
        "stepId": f"s\0{CREATED_MS}",
        "output": "new",
        "savedAt": NOW,
    }
    assert documents(raw, "steps") == [exactly(left), exactly(beside)]


async def test_an_id_of_javascript_may_have_any_character(
    store: MongoStore, raw: Database[Document]
) -> None:
    raw.steps.insert_one({"workflowId": "w", "stepId": "s\0t", "output": 1})
    claim = await claimed(store)
    assert (await store.history([claim]))["w"].steps == {"s\0t": 1}


async def test_a_record_in_a_workflow_of_javascript_says_that_it_is_not_dated(
    store: MongoStore, raw: Database[Document]
) -> None:
    raw.workflows.insert_one(
        {"workflowId": "w", "handlerId": "h", "status": "idle", "timeoutAt": NOW, "failures": 0}
    )
    (claim,) = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=DAY, limit=1))
    await store.save_step(claim, "s", 1, NOW)
    (step,) = documents(raw, "steps")
    assert step["workflowCreatedAt"] == exactly(None)
    assert (await store.history([claim]))["w"].steps == {"s": 1}
    assert await store.find_step("w", "s") is not None
