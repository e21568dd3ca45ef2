"""doctor, on a real server, and what it makes of the answers of others."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from pymongo import MongoClient

from bluestreak_cli.diagnosis import (
    judge_clock,
    judge_deployment,
    judge_privileges,
)
from bluestreak_cli.grade import Grade
from bluestreak_cli.workforce import judge_workers
from bluestreak_core import Bluestreak, WorkerRecord, WorkerState
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


def test_it_needs_a_database_or_an_application() -> None:
    assert "--mongo URL" in error_of("doctor", "--app", "", code=2)


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


def test_an_application_without_a_worker_is_told_to_start_one() -> None:
    assert printed("doctor") == (
        "warning  workers: none is alive\n         -> start one with 'bluestreak worker'\n"
    )


def test_an_application_whose_worker_has_its_handlers_is_fine(bluestreak: Bluestreak) -> None:
    async def look() -> list[WorkerRecord]:
        async with bluestreak, asyncio.TaskGroup() as tasks:
            tasks.create_task(bluestreak.poll())
            while not (workers := await bluestreak.workers()):  # noqa: ASYNC110 - in memory
                await asyncio.sleep(0)
            bluestreak.stop()
        return workers

    found = list(judge_workers(bluestreak.handlers, asyncio.run(look())))
    assert [str(one) for one in found] == [
        "ok       workers: 1 worker with 100 free slots",
        "ok       handlers: each has a worker",
    ]


def test_handlers_that_no_worker_takes_are_named() -> None:
    workers = [_worker("pay", "ship"), _worker("pack", state=WorkerState.DRAINING)]
    found = list(judge_workers(["pay", "ship", "pack", "tell"], workers))
    assert [one.grade for one in found] == [Grade.OK, Grade.WARNING]
    assert found[1].message == "no worker has 'pack', 'tell'"
    many = [f"h{number}" for number in range(9)]
    assert "'h4' and 4 more" in list(judge_workers(many, workers))[1].message


def test_workers_that_drain_or_are_full_take_nothing() -> None:
    (found,) = judge_workers(["pay"], [_worker("pay", state=WorkerState.DRAINING)])
    assert (found.grade, found.message) == (Grade.WARNING, "all that are alive drain")
    found, _ = judge_workers(["pay"], [_worker("pay", runs=10)])
    assert (found.grade, found.message) == (Grade.WARNING, "1 worker with 0 free slots")


def _worker(
    *handlers: str, state: WorkerState = WorkerState.POLLING, runs: int = 0
) -> WorkerRecord:
    return WorkerRecord(
        name="w",
        host="h",
        pid=1,
        bluestreak_version="1",
        python_version="3",
        started_at=NOW,
        seen_at=NOW,
        until=NOW,
        state=state,
        max_concurrency=10,
        runs=runs,
        handlers=handlers,
    )
