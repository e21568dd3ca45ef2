"""A document that nobody can read or change costs its own workflow only, and is logged once."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import AsyncIterator, Iterable, Iterator
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
import pytest_asyncio
from bson import CodecOptions
from bson.datetime_ms import DatetimeMS
from bson.raw_bson import RawBSONDocument
from pymongo import MongoClient
from pymongo.database import Database

from bluestreak_core import (
    Bluestreak,
    Claim,
    Context,
    CorruptDocument,
    Store,
    WorkflowAborted,
)
from bluestreak_core.model import ClaimRequest
from bluestreak_core.run import SharedHistories
from bluestreak_core.testing import ManualClock, RecordingStore
from bluestreak_mongo import MongoStore
from bluestreak_mongo.unreadable import LOOK_AGAIN_AFTER
from tests.arrange import eventually, pass_time
from tests.mongo.arrange import LEASE, NOW, SECOND, Application, Document, new, polling
from tests.mongo.odd_documents import (
    GONE,
    NAPS,
    NEVER_DUE,
    NO_UUID,
    ODD,
    ORPHANS,
    STEPS,
    UNREADABLE,
    encoded,
    insert,
    named,
    unreadable_logged,
)

pytestmark = [pytest.mark.asyncio, pytest.mark.server, pytest.mark.usefixtures("unmeasured")]

COLLECTIONS = ("workflows", "steps", "naps")
RAW: CodecOptions[RawBSONDocument] = CodecOptions(document_class=RawBSONDocument)


@pytest.fixture(scope="module")
def shared_database(mongodb: MongoClient[Document]) -> Iterator[str]:
    """A database of this module's: an array in an index changes how that works from then on."""
    name = f"test-{uuid4().hex[:12]}"
    yield name
    mongodb.drop_database(name)


@pytest_asyncio.fixture
async def store(
    mongodb_url: str, empty_database: str, clock: ManualClock
) -> AsyncIterator[MongoStore]:
    store = MongoStore(mongodb_url, database=empty_database, clock=clock)
    await store.init()
    yield store
    await store.close()


def engine(store: Store, **options: Any) -> Bluestreak:
    bluestreak = Bluestreak(store, wait_retry_interval=0, **options)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: Any) -> str:
        await ctx.sleep("n", 0)
        return await ctx.step("s", lambda: f"{ctx.workflow_id} is done")

    return bluestreak


async def _claim(store: MongoStore, now: timedelta = timedelta(0)) -> dict[str, Claim]:
    claims = await store.claim(ClaimRequest(worker="worker", now=NOW + now, lease=LEASE, limit=10))
    return {claim.workflow_id: claim for claim in claims}


def stored(raw: Database[Document]) -> set[bytes]:
    """All documents that are there, byte by byte."""
    documents: list[Any] = []
    for name in COLLECTIONS:
        documents += raw.get_collection(name, codec_options=RAW).find()
    return {document.raw for document in documents}


def claims_of(raw: Database[Document], names: Iterable[str]) -> list[int]:
    """How often these documents have been claimed, as far as that has been counted."""
    theirs = {"workflowId": {"$in": list(names)}, "claims": {"$type": "int"}}
    return [document["claims"] for document in raw.workflows.find(theirs, {"claims": 1})]


# A whole worker ----------------------------------------------------------------------------------


async def test_a_worker_serves_its_healthy_workflows_among_unreadable_documents(
    store: MongoStore,
    raw: Database[Document],
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    insert(raw, *(named(*each) for each in (UNREADABLE | NEVER_DUE).items()))
    for collection, document in ORPHANS:
        raw[collection].insert_one(dict(document))
    unreadable = stored(raw)
    insert(raw, *(named(*odd) for odd in ODD.items()))
    healthy = [f"healthy {number}" for number in range(30)]
    for workflow_id in healthy:
        await store.create(new(workflow_id))
    for collection, records in (("steps", STEPS), ("naps", NAPS)):
        raw[collection].insert_many({"workflowId": "no failures"} | record for record in records)
    recording = RecordingStore(store)
    bluestreak = engine(recording, max_concurrency=3)
    await bluestreak.init()
    async with polling(bluestreak):
        for workflow_id in [*healthy, *ODD]:
            assert await bluestreak.wait(workflow_id) == f"{workflow_id} is done"
        for late in range(1, 6):  # leases end, and the worker looks again
            begun = recording.begun["claim"]
            clock.advance(2 * LEASE)
            await recording.until_begun("claim", begun + 1)
            await bluestreak.start(f"late {late}", "h")
            assert await bluestreak.wait(f"late {late}") == f"late {late} is done"
    assert unreadable <= stored(raw), "not one of them was changed"
    logged = unreadable_logged(caplog)
    of_records = [line for line in logged if not line.startswith("workflows")]
    ids = [step["stepId"] for step in STEPS] + [nap["napId"] for nap in NAPS]
    assert len(of_records) == len(
        [workflow_id for workflow_id in ids if type(workflow_id) is not str]
    )
    assert len(logged) - len(of_records) == len(UNREADABLE) + len(NEVER_DUE)
    for name, fields in (UNREADABLE | NEVER_DUE).items():
        shown = fields.get("workflowId", name)
        if shown is not GONE:
            assert len([line for line in logged if f" document {shown!r}: " in line]) == 1, name


@pytest.mark.parametrize("limit", [1, 10])
async def test_any_number_of_unreadable_documents_before_it_does_not_hide_a_workflow(
    store: MongoStore, raw: Database[Document], limit: int, caplog: pytest.LogCaptureFixture
) -> None:
    insert(raw, *(named(f"unreadable {n}", {"failures": "many"}) for n in range(450)))
    await store.create(new("w"))
    (claim,) = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=limit))
    assert claim.workflow_id == "w"
    assert len(unreadable_logged(caplog)) == 450


async def test_workers_that_race_claim_an_unreadable_document_once_and_then_leave_it_alone(
    mongodb_url: str,
    empty_database: str,
    raw: Database[Document],
    clock: ManualClock,
) -> None:
    insert(raw, *(named(*each) for each in UNREADABLE.items()))
    ids = [f"healthy {number}" for number in range(60)]
    insert(raw, *(named(workflow_id, {}) for workflow_id in ids))
    engines = []
    for _ in range(3):
        store = MongoStore(mongodb_url, database=empty_database, clock=clock)
        engines.append(engine(store, max_concurrency=4))
        await engines[-1].init()
    async with polling(engines[0]), polling(engines[1]), polling(engines[2]):
        for workflow_id in ids:
            await engines[0].wait(workflow_id)
        for _ in range(4):
            clock.advance(2 * LEASE)
            await engines[0].start(f"at {clock.now()}", "h")
            await engines[1].wait(f"at {clock.now()}")
    for bluestreak in engines:
        await bluestreak.close()
    assert max(claims_of(raw, UNREADABLE), default=0) <= len(engines)


async def test_a_worker_that_was_beaten_to_it_claims_an_unreadable_document_but_once(
    application: Application, raw: Database[Document], caplog: pytest.LogCaptureFixture
) -> None:
    ours = {"workflowId": {"$in": ["w1", "w2"]}}
    for name in ("w1", "w2"):
        await application.store.create(new(name))
    # A rival has both, so that from now on only the states of candidates are read.
    application.sent.before["update"] = lambda: raw.workflows.update_many(
        ours, {"$set": {"timeoutAt": NOW + timedelta(days=1)}}
    )
    assert await _claim(application.store) == {}
    names = ["handlerId int", "input no UTF-8", "error text", "status array", "workflowId int"]
    names += ["_id no UUID"]
    insert(raw, *(named(name, UNREADABLE[name]) for name in names))
    await application.store.create(new("healthy"))
    assert (await _claim(application.store)).keys() == {"healthy"}
    raw.workflows.update_many({}, {"$set": {"status": "running", "timeoutAt": NOW}})
    for lease in range(1, 5):
        raw.workflows.update_one({"workflowId": "healthy"}, {"$set": {"timeoutAt": NOW}})
        assert "healthy" in await _claim(application.store, lease * SECOND)
    assert max(claims_of(raw, names)) <= 1
    assert len(unreadable_logged(caplog)) == len(names)


async def test_an_unreadable_document_that_was_mended_is_claimed_when_it_is_looked_at_again(
    store: MongoStore, raw: Database[Document], caplog: pytest.LogCaptureFixture
) -> None:
    insert(raw, named("mended", {"failures": "many"}), named("not mended", {"failures": "many"}))
    assert await _claim(store) == {}
    raw.workflows.update_one({"workflowId": "mended"}, {"$set": {"failures": 0}})
    assert await _claim(store, LOOK_AGAIN_AFTER - SECOND) == {}
    assert (await _claim(store, LOOK_AGAIN_AFTER)).keys() == {"mended"}
    assert len(unreadable_logged(caplog)) == 2


async def test_what_will_never_be_due_is_looked_for_now_and_then(
    store: MongoStore,
    raw: Database[Document],
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    await store.wait_for_work(timedelta(0))
    insert(raw, named("w", {"status": "stuck"}))
    for _ in range(3):
        await store.wait_for_work(timedelta(0))
    assert unreadable_logged(caplog) == []
    for _ in range(3):
        clock.advance(LOOK_AGAIN_AFTER)
        await store.wait_for_work(timedelta(0))
    assert unreadable_logged(caplog) == [
        "workflows document 'w': 'status' is 'stuck'; it will not be claimed"
    ]


# Claiming ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", [*UNREADABLE, "workflowId null"])
async def test_a_workflow_that_cannot_be_claimed_leaves_the_others_claimable(
    store: MongoStore, raw: Database[Document], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    insert(raw, named(name, UNREADABLE.get(name, {"workflowId": None})))
    before = stored(raw)
    for healthy in ("w1", "w2"):
        await store.create(new(healthy))
    assert (await _claim(store)).keys() == {"w1", "w2"}
    assert before < stored(raw)
    (logged,) = unreadable_logged(caplog)
    assert logged.endswith("; it is left alone until it is mended")


OVERWRITTEN = {"status", "timeoutAt", "claim", "worker", "startedAt"}


@pytest.mark.parametrize("name", UNREADABLE)
async def test_a_worker_that_hears_of_a_workflow_that_cannot_be_claimed_claims_the_others(
    store: MongoStore, raw: Database[Document], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    assert await _claim(store) == {}
    insert(raw, named(name, UNREADABLE[name]))
    claimed: dict[str, Claim] = {}
    for healthy in ("w1", "w2", "w3"):
        await store.create(new(healthy))  # the one that it hears of
        claimed |= await _claim(store)
    claimed |= await _claim(store, 2 * LEASE)
    assert claimed.keys() >= {"w1", "w2", "w3"}
    # What a claim overwrites need not have been readable before it.
    assert len(unreadable_logged(caplog)) == (name not in claimed)
    assert name not in claimed or UNREADABLE[name].keys() <= OVERWRITTEN


async def test_a_document_that_a_claim_would_make_too_large_is_left_alone(
    store: MongoStore, raw: Database[Document], caplog: pytest.LogCaptureFixture
) -> None:
    bare = len(named("large", {"input": ""}).raw)
    insert(raw, named("large", {"input": "x" * (16 * 1024 * 1024 - bare)}))
    before = stored(raw)
    await store.create(new("w"))
    for lease in range(3):
        assert "large" not in await _claim(store, lease * LEASE)
    assert before < stored(raw)
    (logged,) = unreadable_logged(caplog)
    assert "workflows document 'large': 'claim' cannot be written" in logged


async def test_a_document_without_room_for_an_error_fails_without_it(
    store: MongoStore, raw: Database[Document]
) -> None:
    bare = len(named("large", {"input": ""}).raw)
    insert(raw, named("large", {"input": "x" * (16 * 1024 * 1024 - bare - 500)}))
    bluestreak = Bluestreak(store, wait_retry_interval=0, max_failures=1)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: str) -> None:
        raise ValueError("x" * 1000)

    await bluestreak.init()
    async with polling(bluestreak):
        with pytest.raises(WorkflowAborted, match="unknown error: none was recorded"):
            await bluestreak.wait("large")
    (found,) = raw.workflows.find({}, {"input": 0})
    assert (found["status"], found["failures"]) == ("aborted", 2)


async def test_a_workflow_that_was_put_back_by_hand_keeps_its_steps(
    store: MongoStore, raw: Database[Document]
) -> None:
    raw.workflows.insert_one(
        {"workflowId": "w", "handlerId": "h", "status": "idle", "timeoutAt": NOW, "failures": 0}
    )
    raw.steps.insert_one({"workflowId": "w", "stepId": "s", "output": 1})
    claims = await _claim(store)
    histories = SharedHistories(store, list(claims.values()))
    assert (await histories.history("w")).steps == {"s": 1}


async def test_a_date_of_javascript_that_python_lacks_is_read(
    store: MongoStore, raw: Database[Document]
) -> None:
    never = DatetimeMS(8_640_000_000_000_000)
    due = {"workflowId": "w", "handlerId": "h", "status": "idle", "timeoutAt": NOW, "failures": 0}
    raw.workflows.insert_one(due | {"input": never})
    assert (await _claim(store))["w"].workflow.input == never


# Reading -----------------------------------------------------------------------------------------

NAMED = {
    name: fields for name, fields in (UNREADABLE | NEVER_DUE).items() if "workflowId" not in fields
}


@pytest.mark.parametrize("name", NAMED)
async def test_an_error_about_an_unreadable_document_names_it(
    store: MongoStore, raw: Database[Document], name: str
) -> None:
    insert(raw, named(name, NAMED[name]))
    bluestreak = Bluestreak(store)
    await bluestreak.init()
    reads_of_it = [bluestreak.find_workflow]
    if "input" not in NAMED[name]:  # which waiting does not read
        reads_of_it.append(bluestreak.wait)
    for ask in reads_of_it:
        with pytest.raises(CorruptDocument, match=f"^workflows document '{name}': '") as raised:
            await ask(name)
        assert raised.value.document_id == name


UNREADABLE_RECORDS: dict[str, tuple[str, Document]] = {
    "output no UUID": ("steps", {"stepId": "s", "output": NO_UUID}),
    "output no UTF-8": ("steps", {"stepId": "s", "output": ["placeholder"]}),
    "another step": ("steps", {"stepId": "t", "output": {"id": NO_UUID}}),
    "no wakeUpAt": ("naps", {"napId": "n"}),
    "wakeUpAt null": ("naps", {"napId": "n", "wakeUpAt": None}),
    "wakeUpAt text": ("naps", {"napId": "n", "wakeUpAt": "tomorrow"}),
    "wakeUpAt array": ("naps", {"napId": "n", "wakeUpAt": [NOW]}),
    "wakeUpAt after Python": ("naps", {"napId": "n", "wakeUpAt": DatetimeMS(2**62)}),
    "workflowId array": ("steps", {"workflowId": ["bad"], "stepId": "s", "output": 1}),
}


@pytest.mark.parametrize("name", UNREADABLE_RECORDS)
async def test_a_record_that_cannot_be_read_aborts_its_workflow_before_a_step_is_called_again(
    store: MongoStore, raw: Database[Document], name: str, caplog: pytest.LogCaptureFixture
) -> None:
    collection, record = UNREADABLE_RECORDS[name]
    insert(raw, named("bad", {"status": "running"}), named("good", {"status": "running"}))
    raw.get_collection(collection, codec_options=RAW).insert_one(
        encoded({"workflowId": "bad"} | record)
    )
    before = stored(raw)
    bluestreak = engine(store)
    await bluestreak.init()
    async with polling(bluestreak):
        assert await bluestreak.wait("good") == "good is done"
        with pytest.raises(WorkflowAborted, match=f"CorruptDocument: {collection} document .*bad"):
            await bluestreak.wait("bad")
    assert len([line for line in caplog.messages if f"{collection} document" in line]) <= 1
    assert raw.steps.count_documents({"workflowId": "bad", "stepId": "s"}) <= 1
    assert len(before & stored(raw)) == 1, "the record was not changed"


@pytest.mark.parametrize(
    ("collection", "field", "record"),
    [("steps", "stepId", {"output": NO_UUID}), ("naps", "napId", {"wakeUpAt": None})],
)
async def test_an_error_about_an_unreadable_record_names_it(
    store: MongoStore, raw: Database[Document], collection: str, field: str, record: Document
) -> None:
    raw[collection].insert_one({"workflowId": "w", field: "x"} | record)
    find = store.find_step if collection == "steps" else store.find_nap
    with pytest.raises(CorruptDocument, match=f"^{collection} document 'w': "):
        await find("w", "x")


async def test_a_record_that_another_wrote_meanwhile_and_cannot_be_read_aborts_the_workflow(
    store: MongoStore, raw: Database[Document]
) -> None:
    bluestreak = Bluestreak(store, wait_retry_interval=0)
    calls: list[str] = []

    def step() -> None:
        calls.append("called")
        raw.steps.insert_one({"workflowId": "w", "stepId": "s", "output": NO_UUID})

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: None) -> None:
        with contextlib.suppress(CorruptDocument):
            await ctx.step("s", step)

    await bluestreak.init()
    await bluestreak.start("w", "h")
    async with polling(bluestreak):
        with pytest.raises(WorkflowAborted, match="CorruptDocument: steps document 'w'"):
            await bluestreak.wait("w")
    assert calls == ["called"]


FUTURE: dict[str, Document] = {
    "_id no UUID": {"_id": NO_UUID},
    "no UTF-8": {"note": "placeholder"},
    "timeoutAt array": {"timeoutAt": [NOW + SECOND, NOW + 2 * SECOND]},
}


@pytest.mark.parametrize("name", FUTURE)
async def test_an_unreadable_document_that_will_be_due_does_not_disturb_who_waits_for_work(
    store: MongoStore, raw: Database[Document], clock: ManualClock, name: str
) -> None:
    insert(raw, named(name, {"timeoutAt": NOW + SECOND} | FUTURE[name]))
    insert(raw, named("w", {"timeoutAt": NOW + LEASE}))
    bluestreak = engine(store)
    await bluestreak.init()
    async with polling(bluestreak):
        end = asyncio.create_task(bluestreak.wait("w", retries=1_000_000))
        await pass_time(clock, end.done)
        assert await end == "w is done"


# While a workflow runs ---------------------------------------------------------------------------

SPOILED: dict[str, Document] = {
    "status": {"status": "stuck"},
    "timeoutAt": {"timeoutAt": "then", "claim": "another"},
    "claims": {"claims": {}, "claim": "another"},
    "claimLog": {"claimLog": 1, "claim": "another"},
    "handlerId": {"handlerId": None, "claim": "another"},
}


@pytest.mark.parametrize("name", SPOILED)
async def test_a_workflow_that_is_spoiled_while_it_runs_costs_its_own_run_only(
    store: MongoStore, raw: Database[Document], name: str
) -> None:
    recording = RecordingStore(store)
    bluestreak = Bluestreak(recording)

    @bluestreak.handler("h")
    async def handle(ctx: Context, input: bool) -> str:
        if input:
            raw.workflows.update_one({"workflowId": ctx.workflow_id}, {"$set": SPOILED[name]})
        return "done"

    await bluestreak.init()
    async with polling(bluestreak):
        await bluestreak.start("spoiled", "h", True)
        await recording.until_begun("finish")
        await eventually(lambda: bluestreak.health().runs == 0)
        await bluestreak.start("w", "h", False)
        assert await bluestreak.wait("w") == "done"
    found = raw.workflows.find_one({"workflowId": "spoiled"})
    assert found is not None
    assert "result" not in found


async def test_news_of_unreadable_documents_does_not_end_the_stream(
    mongodb_url: str,
    empty_database: str,
    raw: Database[Document],
    clock: ManualClock,
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level(logging.INFO, "bluestreak_mongo.feed")
    store = MongoStore(mongodb_url, database=empty_database, clock=clock)
    recording = RecordingStore(store)
    bluestreak = engine(recording, poll_interval=timedelta(days=900), timeout_interval=3600)
    await bluestreak.init()
    async with polling(bluestreak):
        await bluestreak.start("w1", "h")
        await bluestreak.wait("w1")
        insert(raw, *(named(*each) for each in (UNREADABLE | NEVER_DUE).items()))
        raw.workflows.insert_one(
            {"workflowId": "w2", "handlerId": "h", "status": "idle", "timeoutAt": NOW}
        )
        # The clock stands still: it is heard of, or never claimed.
        await recording.until_returned("finish", 2)
    await bluestreak.close()
    assert [record for record in caplog.records if record.name == "bluestreak_mongo.feed"] == []
