"""What `init` refuses by name: other products, and collections that change or lose records."""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Any

import pytest
from pymongo.database import Database

from bluestreak_core import StoreRefused
from bluestreak_core.testing import ManualClock
from bluestreak_mongo import MongoStore
from bluestreak_mongo.inspection import check_server
from tests.mongo.arrange import Document, whole_life

HELLO = {"maxWireVersion": 21}
MAIN = "main.mongo.cosmos.azure.com:10255"
LOWER_CASE = {"locale": "en", "strength": 2}

# Products ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("hello", "build", "hosts", "product"),
    [
        ({"me": "a.cluster-x.eu-west-1.docdb.amazonaws.com:27017"}, {}, [], "Amazon DocumentDB"),
        ({}, {}, ["c.eu-west-1.docdb-elastic.amazonaws.com"], "Amazon DocumentDB"),
        ({"maxWireVersion": 13, "primary": "a.docdb.amazonaws.com:1"}, {}, [], "Amazon DocumentDB"),
        ({"hosts": [MAIN], "setName": "globaldb"}, {}, [], "Azure Cosmos DB"),
        ({}, {}, ["SHOP.mongo.Cosmos.Azure.com"], "Azure Cosmos DB"),
        ({"internal": {"documentdb_versions": ["0.1"]}}, {}, [], "DocumentDB on PostgreSQL"),
        ({"internal": {"cosmos_versions": ["1.2"]}}, {}, [], "DocumentDB on PostgreSQL"),
        ({}, {"ferretdb": {"version": "v2.7.0"}}, [], "FerretDB"),
        ({}, {"ferretdbVersion": "v1.24.0"}, [], "FerretDB"),
    ],
)
def test_a_product_that_is_not_mongodb_is_refused_by_its_name(
    hello: Document, build: Document, hosts: list[str], product: str
) -> None:
    with pytest.raises(StoreRefused, match=f"the server is {product}, which is not supported"):
        check_server(HELLO | hello, build, hosts)


@pytest.mark.parametrize(
    ("hello", "build", "hosts"),
    [
        ({}, {}, []),
        ({"me": "db-1:27017", "hosts": ["db-1:27017", "[::1]:27018"]}, {"version": "8.0.4"}, []),
        ({}, {}, ["cluster0-shard-00-00.abcde.mongodb.net", "docdb.amazonaws.com.example.org"]),
    ],
)
def test_mongodb_is_not_taken_for_another_product(
    hello: Document, build: Document, hosts: list[str]
) -> None:
    check_server(HELLO | hello, build, hosts)


# Collections that are there already --------------------------------------------------------------

Make = Callable[[Database[Document]], object]


def collection(name: str, **options: Any) -> Make:
    return lambda database: database.create_collection(name, **options)


def index(where: str, keys: Any, **options: Any) -> Make:
    return lambda database: database[where].create_index(keys, **options)


UNFIT: dict[str, tuple[Make, str]] = {
    "collation": (collection("workflows", collation=LOWER_CASE), "'workflows' .* a collation"),
    "capped": (collection("steps", capped=True, size=4096), "'steps' .* it is capped"),
    "validator": (collection("naps", validator={"x": 1}), "'naps' .* its validator may refuse"),
    "view": (collection("steps", viewOn="other", pipeline=[]), "'steps' .* it is a view"),
    "time series": (
        collection("naps", timeseries={"timeField": "savedAt"}),
        "'naps' .* it is a timeseries",
    ),
    "clustered and expiring": (
        collection(
            "workflows", clusteredIndex={"key": {"_id": 1}, "unique": True}, expireAfterSeconds=60
        ),
        "'workflows' .* it has expireAfterSeconds",
    ),
    "TTL index": (
        index("workflows", "finishedAt", expireAfterSeconds=60),
        "'workflows' .* its index 'finishedAt_1' deletes documents by itself",
    ),
    "an index of the same name": (
        index("steps", [("stepId", 1), ("workflowId", 1)], name="workflowId_1_stepId_1"),
        "'steps': .*workflowId_1_stepId_1",
    ),
    "an index that is not unique": (
        index("naps", [("workflowId", 1), ("napId", 1)]),
        "'naps': .*workflowId_1_napId_1",
    ),
    "the same id twice": (
        lambda database: database.workflows.insert_many([{"workflowId": "w"}, {"workflowId": "w"}]),
        "'workflows': .*E11000 duplicate key error",
    ),
}


@pytest.mark.server
@pytest.mark.asyncio
@pytest.mark.parametrize("name", UNFIT)
async def test_a_collection_that_changes_ids_or_loses_documents_is_refused_by_name(
    name: str, mongodb_url: str, fresh_database: Database[Document]
) -> None:
    make, reason = UNFIT[name]
    make(fresh_database)
    with pytest.raises(StoreRefused, match=reason):
        await MongoStore(mongodb_url, database=fresh_database.name).init()


HARMLESS: dict[str, Make] = {
    "a validator that warns": collection("naps", validator={"x": 1}, validationAction="warn"),
    "a validator that is off": collection("naps", validator={"x": 1}, validationLevel="off"),
    "clustered": collection("workflows", clusteredIndex={"key": {"_id": 1}, "unique": True}),
    "simple collation": collection("workflows", collation={"locale": "simple"}),
    "an index of the application": index("workflows", "input.customer"),
    "of another collection": collection("orders", capped=True, size=4096),
}


@pytest.mark.server
@pytest.mark.asyncio
@pytest.mark.parametrize("name", HARMLESS)
async def test_a_collection_whose_options_are_harmless_is_used(
    name: str, mongodb_url: str, fresh_database: Database[Document], clock: ManualClock
) -> None:
    HARMLESS[name](fresh_database)
    await whole_life(MongoStore(mongodb_url, database=fresh_database.name, clock=clock), clock)


@pytest.mark.server
@pytest.mark.asyncio
async def test_what_a_store_has_made_it_opens_again(
    mongodb_url: str, fresh_database: Database[Document], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, "bluestreak_mongo")
    for _ in range(2):
        store = MongoStore(mongodb_url, database=fresh_database.name)
        await store.init()
        await store.close()
    assert caplog.messages == []


@pytest.mark.parametrize("version", [17, 21])
def test_mongodb_6_and_newer_are_taken(version: int) -> None:
    check_server({"maxWireVersion": version}, {})


@pytest.mark.parametrize("version", [13, 16])
def test_an_older_mongodb_is_refused(version: int) -> None:
    with pytest.raises(StoreRefused, match=rf"wire version {version}, MongoDB 6\.0 .* speak 17"):
        check_server({"maxWireVersion": version}, {})
