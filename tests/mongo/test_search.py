"""Searches among documents that others have written."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from bson import ObjectId
from motor.motor_asyncio import AsyncIOMotorClient
from pymongo.database import Database

from bluestreak_core import Bluestreak, Count, Order, Query, Status
from bluestreak_core.query import ENDED
from bluestreak_core.testing import ManualClock
from bluestreak_mongo import MongoStore, listing
from tests.mongo.conftest import NOW, SECOND, Application, Document, claimed, new
from tests.mongo.strays import NEVER_DUE, ODD, UNREADABLE, named
from tests.mongo.test_foreign_documents import insert, strays_logged

pytestmark = [pytest.mark.asyncio, pytest.mark.server]


async def _listed(bluestreak: Bluestreak, **arguments: Any) -> list[str]:
    return [one.workflow_id async for one in bluestreak.list(**arguments)]


async def _in_pages_of_one(bluestreak: Bluestreak, **arguments: Any) -> list[str]:
    found, after = [], None
    while page := [one async for one in bluestreak.list(limit=1, after=after, **arguments)]:
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


async def test_what_the_other_library_recorded_is_told_by_its_key(
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
    insert(raw, *(named(*stray) for stray in (UNREADABLE | NEVER_DUE | ODD).items()))
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
    logged = strays_logged(caplog)
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


async def test_a_page_is_full_however_many_strays_are_before_it(
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


async def test_strays_are_counted_as_far_as_they_have_a_status(
    application: Application, raw: Database[Document]
) -> None:
    insert(raw, *(named(*stray) for stray in (UNREADABLE | NEVER_DUE).items()))
    await application.store.create(new("w", handler_id="mine"))
    assert (await application.store.count(Count.HANDLER_ID))["mine"] == 1
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
    assert len(strays_logged(caplog)) == 3


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
        assert dict(await store.count(Count.STATUS)) == {"finished": 1, "running": 1}
        later = NOW + timedelta(days=1)
        assert (await store.prune(later, ENDED, 10, later)).workflows == 1
    finally:
        client.close()
