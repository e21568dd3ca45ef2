"""What a server and its collections must be, looked at when a store is opened."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from pymongo.asynchronous.database import AsyncDatabase
from pymongo.errors import OperationFailure

from bluestreak_core.errors import StoreRefused
from bluestreak_mongo.driver_error import shown
from bluestreak_mongo.schema import MESSAGES, NAPS, STEPS, WORKFLOWS, Document

logger = logging.getLogger(__name__)

OLDEST_WIRE_VERSION = 17
"""MongoDB 6.0."""

_COLLECTIONS = (WORKFLOWS, STEPS, NAPS, MESSAGES)
_UNAUTHORIZED = 13
_HOSTS = {
    ".docdb.amazonaws.com": "Amazon DocumentDB",
    ".docdb-elastic.amazonaws.com": "Amazon DocumentDB",
    ".cosmos.azure.com": "Azure Cosmos DB",
}


def check_server(
    hello: Mapping[str, Any], build: Mapping[str, Any], hosts: Iterable[str] = ()
) -> None:
    """Refuse what is not MongoDB, as far as it can be known by its answers, and what is too old.

    `build` is the answer to `buildInfo`; `hosts` are those that the driver has found.
    """
    product = _other_product(hello, build, hosts)
    if product is not None:
        raise StoreRefused(
            f"the server is {product}, which is not supported: "
            "it lacks what the guarantees rest on, or does not say when it does"
        )
    version = hello["maxWireVersion"]
    if version < OLDEST_WIRE_VERSION:
        raise StoreRefused(
            f"the server speaks wire version {version}, "
            f"MongoDB 6.0 and newer speak {OLDEST_WIRE_VERSION} and above"
        )


def _other_product(
    hello: Mapping[str, Any], build: Mapping[str, Any], hosts: Iterable[str]
) -> str | None:
    if "ferretdb" in build or "ferretdbVersion" in build:
        return "FerretDB"
    named = [hello.get("me"), hello.get("primary"), *hello.get("hosts", ())]
    names = [*hosts, *(str(host).rpartition(":")[0] for host in named if host)]
    for ending, product in _HOSTS.items():
        if any(name.lower().endswith(ending) for name in names):
            return product
    internal = hello.get("internal")
    if isinstance(internal, Mapping) and internal.keys() & {
        "documentdb_versions",
        "cosmos_versions",
    }:
        return "DocumentDB on PostgreSQL"
    return None


async def build_info(database: AsyncDatabase[Document]) -> Mapping[str, Any]:
    """What the server says of its program; nothing if it does not say it."""
    try:
        answer: Mapping[str, Any] = await database.command("buildInfo")
    except OperationFailure:  # a strict Stable API, for one
        return {}
    return answer


async def check_collections(database: AsyncDatabase[Document]) -> None:
    """Refuse collections that are there already and would change ids, or lose documents.

    A user without the privilege to list collections can work all the same.
    """
    try:
        found = await database.command("listCollections", filter={"name": {"$in": _COLLECTIONS}})
        for collection in found["cursor"]["firstBatch"]:
            _refuse(collection["name"], _unfit_options(collection))
            indexes = await database.command("listIndexes", collection["name"])
            _refuse(collection["name"], _unfit_indexes(indexes["cursor"]["firstBatch"]))
    except OperationFailure as error:
        if error.code != _UNAUTHORIZED:
            raise
        logger.info("collections that are there already are not looked at: %s", shown(error))


def _refuse(collection: str, faults: Iterator[str]) -> None:
    for fault in faults:
        raise StoreRefused(f"collection {collection!r} cannot be used: {fault}")


def _unfit_options(collection: Mapping[str, Any]) -> Iterator[str]:
    kind, options = collection.get("type", "collection"), collection.get("options", {})
    if kind != "collection":
        yield f"it is a {kind}"
    if options.get("capped"):
        yield "it is capped, and would drop its oldest documents"
    if options.get("collation", {}).get("locale", "simple") != "simple":
        yield "it has a collation, by which different ids may be equal"
    if "expireAfterSeconds" in options:
        yield "it has expireAfterSeconds, and would delete documents by itself"
    is_strict = options.get("validationLevel") != "off"
    if options.get("validator") and is_strict and options.get("validationAction") != "warn":
        yield "its validator may refuse documents; with the validationAction 'warn' it may stay"


def _unfit_indexes(indexes: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    for index in indexes:
        if "expireAfterSeconds" in index:
            yield f"its index {index['name']!r} deletes documents by itself, by expireAfterSeconds"
