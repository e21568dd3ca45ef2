"""A fork is several writes: broken off after any of them, it is completed by the same call."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from pymongo.database import Database

from bluestreak_core import Status, Step
from bluestreak_core.testing import ManualClock
from bluestreak_mongo import MongoStore
from tests.mongo.conftest import NOW, SECOND, Document, claimed

pytestmark = [pytest.mark.asyncio, pytest.mark.server]


async def _source(store: MongoStore, steps: int) -> None:
    claim = await claimed(store, input={"n": 1})
    for number in range(steps):
        await store.save_step(claim, f"s{number:04}", number, NOW + number * SECOND)
    await store.save_nap(claim, "n", NOW + SECOND, NOW)
    await store.finish(claim, "done", NOW)


def _break_off(raw: Database[Document], kept: int) -> None:
    """As if the process had died when it had copied so many records."""
    raw.workflows.update_one({"workflowId": "f"}, {"$set": {"status": "paused"}})
    for step in list(raw.steps.find({"workflowId": "f"}).sort("stepId"))[kept:]:
        raw.steps.delete_one({"_id": step["_id"]})
    if kept == 0:
        raw.naps.delete_many({"workflowId": "f"})


def _records(raw: Database[Document], workflow_id: str) -> list[dict[str, Any]]:
    found = [
        *raw.steps.find({"workflowId": workflow_id}),
        *raw.naps.find({"workflowId": workflow_id}),
    ]
    without = [{k: v for k, v in one.items() if k not in ("_id", "workflowId")} for one in found]
    return sorted(without, key=lambda one: one.get("stepId", ""))


@pytest_asyncio.fixture
async def store(mongodb_url: str, empty_database: str) -> AsyncIterator[MongoStore]:
    store = MongoStore(mongodb_url, database=empty_database, clock=ManualClock())
    await store.init()
    yield store
    await store.close()


@pytest.mark.parametrize("kept", [0, 1, 3])
async def test_a_fork_that_was_broken_off_is_completed_by_the_same_call(
    store: MongoStore, raw: Database[Document], kept: int
) -> None:
    await _source(store, 3)
    await store.fork("w", "f", None, NOW)
    _break_off(raw, kept)
    assert list(await store.claim("worker", NOW + SECOND, SECOND, 1, None)) == []
    assert await store.fork("w", "f", None, NOW + SECOND)
    assert _records(raw, "f") == _records(raw, "w")
    (claim,) = await store.claim("worker", NOW + SECOND, SECOND, 1, None)
    assert claim.workflow_id == "f"
    assert not await store.fork("w", "f", None, NOW + SECOND)


async def test_a_workflow_that_somebody_has_paused_is_no_fork_that_was_broken_off(
    store: MongoStore, raw: Database[Document]
) -> None:
    await _source(store, 1)
    await store.fork("w", "f", None, NOW)
    (claim,) = await store.claim("worker", NOW, SECOND, 1, None)
    await store.release(claim, NOW)
    _break_off(raw, 1)
    assert not await store.fork("w", "f", None, NOW)
    workflow = await store.find_workflow("f")
    assert workflow is not None
    assert workflow.status is Status.PAUSED


async def test_many_records_are_copied(store: MongoStore, raw: Database[Document]) -> None:
    await _source(store, 1)
    rows = [
        {"workflowId": "w", "stepId": f"t{n:04}", "output": n, "savedAt": NOW} for n in range(1200)
    ]
    raw.steps.insert_many(rows)
    assert await store.fork("w", "f", "t1100", NOW)
    assert raw.steps.count_documents({"workflowId": "f"}) == 1101
    last = await store.find_step("f", "t1099")
    assert last == Step(workflow_id="f", step_id="t1099", output=1099, saved_at=NOW)


async def test_what_javascript_has_recorded_is_ordered_by_its_key(
    store: MongoStore, raw: Database[Document]
) -> None:
    await store.finish(await claimed(store), None, NOW)
    for step_id in ("a", "b", "c"):
        raw.steps.insert_one({"workflowId": "w", "stepId": step_id, "output": step_id})
    assert await store.fork("w", "f", "c", NOW)
    assert {step["stepId"] for step in raw.steps.find({"workflowId": "f"})} == {"a", "b"}
