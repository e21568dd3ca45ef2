"""A duplicate key says that an id is taken only where it is the key of the id."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from pymongo.database import Database

from bluestreak_core import Bluestreak, Context, UnstorableValue, WorkflowAborted
from bluestreak_core.model import ClaimRequest
from bluestreak_core.testing import ManualClock
from bluestreak_mongo import MongoStore
from tests.mongo.arrange import (
    ATTEMPT,
    CALLS,
    NOW,
    SECOND,
    Document,
    claimed,
    new,
    polling,
)

pytestmark = [pytest.mark.asyncio, pytest.mark.server]

COLLECTIONS = ("workflows", "steps", "naps")


@pytest.fixture
def raw(fresh_database: Database[Document]) -> Database[Document]:
    """A database in which the application has unique indexes, which are older than the store's."""
    for name in COLLECTIONS:
        fresh_database[name].create_index("tenant", unique=True, name="one_for_each_tenant")
    return fresh_database


@pytest_asyncio.fixture
async def store(
    mongodb_url: str, raw: Database[Document], clock: ManualClock
) -> AsyncIterator[MongoStore]:
    store = MongoStore(mongodb_url, database=raw.name, clock=clock)
    await store.init()
    yield store
    await store.close()


def take(raw: Database[Document], *collections: str) -> None:
    """Have documents that lack the tenant refused from now on, by one that lacks it too."""
    for name in collections:
        raw[name].insert_one({"workflowId": "the application's own"})


def counts(raw: Database[Document]) -> list[int]:
    return [raw[name].count_documents({}) for name in COLLECTIONS]


REFUSED = {
    "create": ("workflows", "input of workflow 'w2'"),
    "create_many": ("workflows", "input of workflow 'w2'"),
    "fork": ("workflows", "input of workflow 'f'"),
    "save_step": ("steps", "output of step 's' of workflow 'w'"),
    "save_nap": ("naps", "nap 'n' of workflow 'w'"),
    "save_attempt": ("naps", "attempt of step 's' of workflow 'w'"),
    "transact": ("steps", "output of step 's' of workflow 'w'"),
}


@pytest.mark.parametrize("call", REFUSED)
async def test_an_index_of_the_applications_that_refuses_a_document_is_named(
    store: MongoStore, raw: Database[Document], call: str
) -> None:
    claim = await claimed(store)
    collection, what = REFUSED[call]
    raw.workflows.update_one({"workflowId": "w"}, {"$set": {"tenant": 1}})
    take(raw, collection)
    before = counts(raw)
    with pytest.raises(UnstorableValue, match=r"E11000 .* index: one_for_each_tenant") as refused:
        await CALLS[call](store, claim)
    assert refused.value.what == what
    assert counts(raw) == before
    raw[collection].drop_index("one_for_each_tenant")
    assert await CALLS[call](store, claim)


async def test_a_copy_of_a_record_that_is_refused_ends_the_fork_until_it_is_repeated(
    store: MongoStore, raw: Database[Document]
) -> None:
    claim = await claimed(store)
    await store.save_step(claim, "s", 1, NOW)
    raw.workflows.update_many({}, {"$set": {"tenant": 1}})
    with pytest.raises(UnstorableValue, match="one_for_each_tenant"):
        await store.fork("w", "f", None, NOW)
    raw.steps.drop_index("one_for_each_tenant")
    assert await store.fork("w", "f", None, NOW)
    assert raw.steps.count_documents({"workflowId": "f"}) == 1


async def test_an_id_that_is_taken_is_taken_whichever_index_says_no(
    store: MongoStore, raw: Database[Document]
) -> None:
    assert await store.create(new("w"))
    assert not await store.create(new("w"))
    raw.workflows.update_one({}, {"$set": {"tenant": 1}})
    assert await store.create_many([new("w"), new("w2")]) == [False, True]
    assert await store.create_many([new("w"), new("w2")]) == [False, False]
    raw.workflows.delete_one({"workflowId": "w2"})
    (claim,) = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=SECOND, limit=1))
    assert await store.save_step(claim, "s", "first", NOW) == "first"
    assert await store.save_step(claim, "s", "second", NOW) == "first"
    both = (store.save_step(claim, "s", value, NOW) for value in ("third", "fourth"))
    assert await asyncio.gather(*both) == ["first", "first"]
    assert await store.save_nap(claim, "n", NOW, NOW) == NOW
    assert await store.save_nap(claim, "n", NOW + SECOND, NOW) == NOW
    raw.naps.delete_many({})
    assert await store.save_attempt(claim, ATTEMPT) == ATTEMPT
    assert await store.save_attempt(claim, ATTEMPT) == ATTEMPT


async def test_an_output_that_another_one_records_meanwhile_is_returned_whichever_index_says_no(
    store: MongoStore, raw: Database[Document]
) -> None:
    claim = await claimed(store)

    async def be_overtaken(session: Any) -> str:
        await store.save_step(claim, "s", "first", NOW)
        return "second"

    assert await store.transact(claim, "s", be_overtaken, lambda: NOW) == "first"


async def test_an_index_that_takes_different_ids_for_the_same_does_not_make_them_so(
    store: MongoStore, raw: Database[Document]
) -> None:
    for name in COLLECTIONS:
        raw[name].drop_index("one_for_each_tenant")
    loose = {"locale": "en", "strength": 1}
    keys = {"workflows": ["workflowId"], "steps": ["workflowId", "stepId"]}
    for name, fields in keys.items():
        raw[name].create_index(
            [(field, 1) for field in fields], unique=True, name="loose", collation=loose
        )
    claim = await claimed(store)
    with pytest.raises(UnstorableValue, match="index: loose"):
        await store.create(new("W"))
    await store.save_step(claim, "s", 1, NOW)
    with pytest.raises(UnstorableValue, match="index: loose"):
        await store.save_step(claim, "S", 2, NOW)


async def test_a_start_that_an_index_refuses_is_an_error_and_no_workflow_that_was_there(
    mongodb_url: str, raw: Database[Document]
) -> None:
    take(raw, "workflows")
    async with Bluestreak(MongoStore(mongodb_url, database=raw.name)) as bluestreak:

        @bluestreak.handler("h")
        async def handle(ctx: Context, input: None) -> None:
            """Nothing to do."""

        with pytest.raises(UnstorableValue, match="index: one_for_each_tenant"):
            await bluestreak.start("w", "h")
        with pytest.raises(UnstorableValue, match="index: one_for_each_tenant"):
            await bluestreak.start("w", "h", strict=True)


async def test_a_workflow_whose_record_an_index_refuses_is_aborted_at_once(
    mongodb_url: str, raw: Database[Document]
) -> None:
    take(raw, "steps")
    called: list[str] = []
    async with Bluestreak(MongoStore(mongodb_url, database=raw.name)) as bluestreak:

        @bluestreak.handler("h")
        async def handle(ctx: Context, input: None) -> None:
            await ctx.step("charge", called.append, "charged")

        async with polling(bluestreak):
            await bluestreak.start("w", "h")
            with pytest.raises(WorkflowAborted, match="index: one_for_each_tenant"):
                await bluestreak.wait("w")
    assert called == ["charged"]
