"""What is refused, or not done exactly once, in sharded collections is known to the tests."""

from __future__ import annotations

from typing import Any

import pytest
from pymongo.errors import BulkWriteError, WriteConcernError, WriteError

from bluestreak_mongo.routing import first_failure
from tests.mongo.sharding import faults

BY_ID = {"workflowId": "w"}
BY_STATE = {"status": "idle"}
UPDATE = {"$set": {"status": "running"}}


def update(q: dict[str, Any], **options: Any) -> dict[str, Any]:
    return {"update": "workflows", "updates": [{"q": q, "u": UPDATE, **options}]}


def delete(q: dict[str, Any], limit: int) -> dict[str, Any]:
    return {"delete": "steps", "deletes": [{"q": q, "limit": limit}]}


def unique_index(*fields: str) -> dict[str, Any]:
    return {"indexes": [{"key": dict.fromkeys(fields, 1), "unique": True}]}


@pytest.mark.parametrize(
    ("command", "fault"),
    [
        ({"findAndModify": "workflows", "query": BY_STATE}, "ShardKeyNotFound"),
        ({"findAndModify": "workflows", "query": {"workflowId": {"$in": ["w"]}}}, "ShardKeyNotFo"),
        (update(BY_STATE), "neither the shard key nor _id"),
        (update({"_id": 1}), "sent to all shards"),
        (update({"workflowId": {"$in": ["v", "w"]}}, multi=True), "twice, once or not at all"),
        (update(BY_STATE, upsert=True), "an upsert"),
        (update(BY_ID, collation={"locale": "de"}), "collation"),
        ({"updates": [{"q": BY_ID, "u": {"$set": {"workflowId": "v"}}}]}, "changes the shard key"),
        (delete({"stepId": "s"}, limit=1), "neither the shard key nor _id"),
        (delete({"workflowId": {"$in": ["v", "w"]}}, limit=0), "twice, once or not at all"),
        ({"insert": "naps", "documents": [BY_ID, {"napId": "n"}]}, "no shard key"),
        ({"createIndexes": "steps", **unique_index("stepId", "workflowId")}, "unique index"),
        ({"aggregate": "steps", "pipeline": [{"$lookup": {}}]}, "nobody has looked at"),
        ({"find": "steps", "readConcern": {"level": "available"}}, "left behind"),
        ({"find": "steps", "$readPreference": {"mode": "secondary"}}, "from a secondary"),
        (update(BY_ID) | {"readConcern": {"level": "snapshot"}}, "refused in a snapshot"),
        ({"createIndexes": "steps", "indexes": [], "autocommit": False}, "in a transaction"),
    ],
)
def test_what_a_cluster_would_not_do_is_a_fault(command: dict[str, Any], fault: str) -> None:
    name = "update" if "updates" in command else next(iter(command))
    (found,) = faults(name, command)
    assert fault in found


@pytest.mark.parametrize(
    "command",
    [
        {"findAndModify": "workflows", "query": BY_ID | BY_STATE},
        update(BY_ID | BY_STATE),
        update({"$and": [BY_STATE, {"workflowId": {"$eq": "w"}}]}, upsert=True),
        update(BY_ID, multi=True),
        delete(BY_ID, limit=0),
        {"insert": "naps", "documents": [BY_ID]},
        {"createIndexes": "steps", **unique_index("workflowId", "stepId")},
        {"find": "steps", "readConcern": {"level": "snapshot"}},
        update(BY_ID) | {"readConcern": {"level": "snapshot"}, "autocommit": False},
    ],
)
def test_what_a_cluster_would_do_is_no_fault(command: dict[str, Any]) -> None:
    name = "update" if "updates" in command else next(iter(command))
    assert list(faults(name, command)) == []


def test_a_part_of_a_bulk_that_has_failed_is_reported_as_if_it_had_been_sent_alone() -> None:
    refused = {"index": 1, "code": 2, "errmsg": "The field must be an array"}
    unsure = {"code": 64, "errmsg": "waiting for replication timed out"}
    error = first_failure(
        BulkWriteError({"writeErrors": [refused], "writeConcernErrors": [unsure]})
    )
    assert (type(error), error.code, error.details) == (WriteError, 2, refused)
    error = first_failure(BulkWriteError({"writeErrors": [], "writeConcernErrors": [unsure]}))
    assert (type(error), error.code, error.details) == (WriteConcernError, 64, unsure)
