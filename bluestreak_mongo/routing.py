"""Writes to several workflows, of which a sharded cluster carries out each exactly once.

A router sends an update or a delete of many to all shards if it concerns more than one, and without
a version. While a chunk migrates, a document may then be changed twice, once or not at all, and the
count be wrong (https://jira.mongodb.org/browse/SERVER-20361). A write that names one workflow goes
to the one shard that owns it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pymongo import DeleteMany, UpdateMany, UpdateOne
from pymongo.asynchronous.collection import AsyncCollection
from pymongo.errors import BulkWriteError, OperationFailure, WriteConcernError, WriteError
from pymongo.results import BulkWriteResult

from bluestreak_mongo.schema import Document

Write = UpdateOne | UpdateMany | DeleteMany


def is_router(hello: Mapping[str, Any]) -> bool:
    """Whether a server is a `mongos`, by what it says of itself."""
    return hello.get("msg") == "isdbgrid"


async def write_each(
    collection: AsyncCollection[Document], writes: Sequence[Write]
) -> BulkWriteResult:
    """Carry out some writes, each of which names one workflow; none keeps another from it.

    Raises what is wrong with the first that has failed.
    """
    try:
        return await collection.bulk_write(writes, ordered=False)
    except BulkWriteError as error:
        raise first_failure(error) from error


def first_failure(error: BulkWriteError) -> OperationFailure:
    """The error of the first part of a bulk that has failed, as if it had been sent alone."""
    refused = error.details["writeErrors"]
    if refused:
        return WriteError(refused[0]["errmsg"], refused[0]["code"], refused[0])
    unsure = error.details["writeConcernErrors"][0]
    return WriteConcernError(unsure["errmsg"], unsure["code"], unsure)
