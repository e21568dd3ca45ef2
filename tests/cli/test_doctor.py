"""doctor, on a real server, and what it makes of the answers of others."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient

from bluestreak_cli.diagnosis import (
    Grade,
    judge_clock,
    judge_deployment,
    judge_privileges,
)
from bluestreak_mongo.schema.index import INDEXES
from tests.cli.arrange import document, error_of, printed

TOTAL = sum(map(len, INDEXES.values()))
NOW = datetime(2030, 1, 1, tzinfo=UTC)
Mongo = MongoClient[dict[str, object]]


@pytest.fixture
def new_database(mongodb: Mongo) -> Iterator[str]:
    name = f"doctor-{uuid4().hex[:12]}"
    yield name
    mongodb.drop_database(name)


def test_a_server_is_looked_at_and_nothing_is_changed(
    mongodb_url: str, mongodb: Mongo, new_database: str
) -> None:
    words = ("--mongo", mongodb_url, "--database", new_database)
    report = document("doctor", *words)
    found = {finding["subject"]: finding for finding in report["findings"]}
    assert report["healthy"]
    assert found["server"]["message"].startswith("MongoDB ")
    assert {"deployment", "clock", "privileges", "collections"} <= found.keys()
    assert found["indexes"]["message"].startswith(
        f"{TOTAL} of {TOTAL} are missing (workflows workflowId"
    )
    assert "'bluestreak count'" in found["indexes"]["remedy"]
    assert mongodb[new_database].list_collection_names() == []
    printed("count", *words)
    assert f"ok       indexes: all {TOTAL} are there\n" in printed("doctor", *words)


def test_a_collection_that_will_not_do_is_a_fault(
    mongodb_url: str, mongodb: Mongo, new_database: str
) -> None:
    mongodb[new_database].create_collection("steps", capped=True, size=4096)
    words = ("--mongo", mongodb_url, "--database", new_database)
    text = printed("doctor", *words, code=1)
    assert "fault    collections: collection 'steps' cannot be used: it is capped" in text
    assert "         -> change it, or take another database\n" in text
    assert not document("doctor", *words, code=1)["healthy"]


def test_it_looks_at_a_database_only() -> None:
    assert "--mongo URL" in error_of("doctor", code=2)


@pytest.mark.parametrize(
    ("hello", "grades", "said"),
    [
        ({"msg": "isdbgrid"}, ["ok"], "sharded"),
        ({}, ["warning"], "standalone"),
        ({"setName": "rs", "hosts": ["a"]}, ["warning"], "1 member "),
        ({"setName": "rs", "hosts": ["a", "b"], "passives": ["c"]}, ["ok"], "3 members "),
        ({"setName": "rs", "hosts": ["a", "b", "c"], "arbiters": ["d"]}, ["ok", "warning"], "rs"),
    ],
)
def test_what_a_deployment_lacks_is_named(
    hello: dict[str, Any], grades: list[str], said: str
) -> None:
    findings = list(judge_deployment(hello))
    assert [finding.grade for finding in findings] == grades
    assert said in findings[0].message
    assert all(bool(finding.remedy) == (finding.grade is not Grade.OK) for finding in findings)


@pytest.mark.parametrize(
    ("seconds", "grade", "said"),
    [(0.5, "ok", "agrees"), (12, "warning", "10.0 s ahead"), (-30, "warning", "30.0 s behind")],
)
def test_a_clock_is_compared_with_the_time_between_question_and_answer(
    seconds: float, grade: str, said: str
) -> None:
    server = NOW + timedelta(seconds=seconds)
    finding = judge_clock(server, NOW, NOW + timedelta(seconds=2))
    assert finding.grade == grade
    assert said in finding.message


def privilege(database: str, collection: str, *actions: str) -> dict[str, Any]:
    return {"resource": {"db": database, "collection": collection}, "actions": actions}


READ_WRITE = ("find", "insert", "update", "remove", "createIndex")


@pytest.mark.parametrize(
    ("privileges", "said"),
    [
        ([privilege("myapp", "", *READ_WRITE)], "all that a worker needs"),
        ([privilege("", "", *READ_WRITE)], "all that a worker needs"),
        ([{"resource": {"anyResource": True}, "actions": READ_WRITE}], "all that a worker needs"),
        (
            [privilege("myapp", "", "find", "insert", "createIndex")],
            "no update on workflows, update on messages",
        ),
        ([privilege("other", "", *READ_WRITE)], "no createIndex on workflows"),
        (
            [privilege("myapp", "", *READ_WRITE[:-1]), privilege("myapp", "naps", "createIndex")],
            "no createIndex on workflows, createIndex on steps, createIndex on messages",
        ),
    ],
)
def test_what_a_worker_may_not_do_is_named(privileges: list[Any], said: str) -> None:
    info = {"authenticatedUsers": [{"user": "w"}], "authenticatedUserPrivileges": privileges}
    assert said in judge_privileges("myapp", info).message


def test_a_url_without_a_user_is_pointed_out() -> None:
    info: dict[str, Any] = {"authenticatedUsers": [], "authenticatedUserPrivileges": []}
    assert "no user" in judge_privileges("myapp", info).message
