"""A document that nobody can read or change costs its own workflow only."""

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import timedelta
from typing import Any

import pytest
import pytest_asyncio
from bson import Binary
from bson.datetime_ms import DatetimeMS
from pymongo.database import Database

from bluestreak_core import Claim, CorruptDocument
from bluestreak_core.batch import Batch
from bluestreak_core.testing import ManualClock
from bluestreak_mongo import MongoStore
from tests.mongo.conftest import LEASE, NOW, Document, new

pytestmark = pytest.mark.asyncio

FOREIGN: list[Document] = [
    {"workflowId": "foreign", "handlerId": 5},
    {"workflowId": "foreign", "handlerId": "h", "failures": "many"},
    {"workflowId": "foreign", "handlerId": "h", "claimLog": None},
    {"workflowId": "foreign", "handlerId": "h", "claims": "many"},
    {"workflowId": None, "handlerId": "h"},
    {"handlerId": "h"},
]


@pytest_asyncio.fixture
async def store(mongodb_url: str, empty_database: str) -> AsyncIterator[MongoStore]:
    store = MongoStore(mongodb_url, database=empty_database, clock=ManualClock())
    await store.init()
    yield store
    await store.close()


async def _claim(store: MongoStore) -> dict[str, Claim]:
    claims = await store.claim("worker", NOW, LEASE, 10, None)
    return {claim.workflow_id: claim for claim in claims}


@pytest.mark.parametrize("document", FOREIGN, ids=str)
async def test_a_workflow_that_cannot_be_claimed_leaves_the_others_claimable(
    store: MongoStore, raw: Database[Document], document: Document, caplog: pytest.LogCaptureFixture
) -> None:
    due = {"status": "idle", "timeoutAt": NOW - timedelta(seconds=1)}
    raw.workflows.insert_one(due | document)
    for name in ("w1", "w2"):
        await store.create(new(name))
    assert (await _claim(store)).keys() == {"w1", "w2"}
    if document.get("workflowId"):
        assert "foreign" in caplog.text


@pytest.mark.parametrize(
    ("collection", "document"),
    [("naps", {"napId": "n", "wakeUpAt": None}), ("steps", {"stepId": 7, "output": 1})],
)
async def test_a_record_that_cannot_be_read_is_its_own_workflows_trouble(
    store: MongoStore, raw: Database[Document], collection: str, document: dict[str, Any]
) -> None:
    for name in ("bad", "good"):
        await store.create(new(name))
    for claim in (await _claim(store)).values():
        await store.release(claim, NOW)
    claims = await _claim(store)
    await store.save_step(claims["good"], "s", 1, NOW)
    raw[collection].insert_one({"workflowId": "bad"} | document)
    batch = Batch(store, list(claims.values()))
    assert (await batch.history("good")).steps == {"s": 1}
    with pytest.raises(CorruptDocument, match="'bad'"):
        await batch.history("bad")


@pytest.mark.parametrize(
    "document", [*FOREIGN[:4], {"workflowId": "foreign", "handlerId": "h", "claims": None}], ids=str
)
async def test_a_worker_that_hears_of_a_workflow_that_cannot_be_claimed_claims_the_others(
    store: MongoStore, raw: Database[Document], document: Document
) -> None:
    assert await _claim(store) == {}
    due = {"status": "idle", "timeoutAt": NOW - timedelta(seconds=1)}
    raw.workflows.insert_one(due | document)
    await store.create(new("w1"))  # the one that it hears of
    claimed = await _claim(store)
    await store.create(new("w2"))
    claimed |= await _claim(store)
    assert claimed.keys() >= {"w1", "w2"}
    await store.close()


async def test_a_workflow_that_cannot_be_decoded_leaves_the_others_claimable(
    store: MongoStore, raw: Database[Document], caplog: pytest.LogCaptureFixture
) -> None:
    no_uuid = Binary(b"short", subtype=4)
    due = {"status": "idle", "timeoutAt": NOW, "handlerId": "h", "failures": 0}
    raw.workflows.insert_one(due | {"workflowId": "foreign", "input": no_uuid})
    for name in ("w1", "w2"):
        await store.create(new(name))
    assert (await _claim(store)).keys() == {"w1", "w2"}
    assert "workflow 'foreign'" in caplog.text
    assert "it is left alone until its lease ends" in caplog.text


async def test_a_workflow_that_was_put_back_by_hand_keeps_its_steps(
    store: MongoStore, raw: Database[Document]
) -> None:
    raw.workflows.insert_one(
        {"workflowId": "w", "handlerId": "h", "status": "idle", "timeoutAt": NOW, "failures": 0}
    )
    raw.steps.insert_one({"workflowId": "w", "stepId": "s", "output": 1})
    claims = await _claim(store)
    batch = Batch(store, list(claims.values()))
    assert (await batch.history("w")).steps == {"s": 1}


async def test_a_date_of_javascript_that_python_lacks_is_read(
    store: MongoStore, raw: Database[Document]
) -> None:
    never = DatetimeMS(8_640_000_000_000_000)
    due = {"workflowId": "w", "handlerId": "h", "status": "idle", "timeoutAt": NOW, "failures": 0}
    raw.workflows.insert_one(due | {"input": never})
    assert (await _claim(store))["w"].workflow.input == never
