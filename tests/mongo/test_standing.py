"""What waiting reads: never the input, and for all who wait at once."""

from __future__ import annotations

import asyncio

import pytest
from pymongo import MongoClient
from pymongo.database import Database

from bluestreak_core import CorruptDocument, Standing, Status
from tests.mongo.arrange import NOW, Application, Document, claimed, new

pytestmark = [pytest.mark.asyncio, pytest.mark.server]


async def test_an_input_never_crosses_the_network_for_who_waits(
    application: Application, mongodb: MongoClient[Document]
) -> None:
    await application.store.create(new("w", input="x" * 1_000_000))

    def sent_by_server() -> int:
        sent: int = mongodb.admin.command("serverStatus")["network"]["bytesOut"]
        return sent

    before = sent_by_server()
    assert await application.store.find_standing("w") is not None
    assert sent_by_server() - before < 500_000


async def test_all_who_ask_at_once_share_a_read(application: Application) -> None:
    await application.store.create_many([new(f"w{number}") for number in range(20)])
    application.sent.commands.clear()
    ids = [f"w{number}" for number in range(25)]
    found = await asyncio.gather(*map(application.store.find_standing, ids * 2))
    idle = [
        Standing(workflow_id=workflow_id, handler_id="h", status=Status.IDLE, created_at=NOW)
        for workflow_id in ids[:20]
    ]
    assert found == [*idle, *[None] * 5] * 2
    assert application.sent.names == ["find"]


async def test_many_are_read_in_several_portions(application: Application) -> None:
    await application.store.create_many([new(f"w{number}") for number in range(600)])
    application.sent.commands.clear()
    ids = [f"w{number}" for number in range(600)]
    found = await asyncio.gather(*map(application.store.find_standing, ids))
    assert [standing and standing.workflow_id for standing in found] == ids
    assert application.sent.names == ["find"] * 3


async def test_who_asks_while_a_read_is_under_way_gets_a_later_one(
    application: Application,
) -> None:
    claim = await claimed(application.store)
    later: list[asyncio.Task[Standing | None]] = []

    def ask() -> None:
        find_standing = application.store.find_standing
        later.extend(asyncio.ensure_future(find_standing("w")) for _ in range(3))

    application.sent.commands.clear()
    application.sent.before["find"] = ask
    assert await application.store.find_standing("w") is not None
    await application.store.finish(claim, "done", NOW)
    found = await asyncio.gather(*later)
    assert len(application.sent.named("find")) == 2
    assert {standing is not None and standing.workflow_id for standing in found} == {"w"}


async def test_a_caller_who_leaves_takes_nothing_from_the_others(application: Application) -> None:
    await application.store.create(new("w"))
    for turns in range(15):
        first, second = (
            asyncio.create_task(application.store.find_standing("w")) for _ in range(2)
        )
        for _ in range(turns):
            await asyncio.sleep(0)
        first.cancel()
        assert await second is not None
        await asyncio.wait({first})


async def test_a_read_ends_with_its_last_caller(application: Application) -> None:
    before = asyncio.all_tasks()
    for turns in range(15):
        callers = [asyncio.create_task(application.store.find_standing("w")) for _ in range(2)]
        for _ in range(turns):
            await asyncio.sleep(0)
        for caller in callers:
            caller.cancel()
        await asyncio.wait(callers)
        assert asyncio.all_tasks() == before
        assert await application.store.find_standing("w") is None


async def test_a_document_that_cannot_be_read_is_an_error_for_who_asked_for_it(
    application: Application, raw: Database[Document]
) -> None:
    await application.store.create_many([new("w1"), new("w2"), new("w3")])
    raw.workflows.update_one({"workflowId": "w2"}, {"$set": {"handlerId": 7}})
    ids = ["w1", "w2", "w3"]
    find_standing = application.store.find_standing
    first, second, third = await asyncio.gather(*map(find_standing, ids), return_exceptions=True)
    assert isinstance(first, Standing)
    assert isinstance(third, Standing)
    assert isinstance(second, CorruptDocument)
    assert second.document_id == "w2"
