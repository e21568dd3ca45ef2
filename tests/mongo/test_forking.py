"""A fork is several writes: broken off after any of them, it is completed by the same call."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from typing import Any

import pytest
import pytest_asyncio
from pymongo.database import Database

from bluestreak_core import Claim, Status, Step, TransitionRefused
from bluestreak_core.machine import Transition
from bluestreak_core.model import ClaimRequest
from bluestreak_core.store import ENDED
from bluestreak_core.testing import ManualClock
from bluestreak_mongo import MongoStore, forking, transitions
from bluestreak_mongo.schema.failed_step import from_failed_step
from bluestreak_mongo.schema.step import from_step
from tests.mongo.arrange import FAILED_STEP, NOW, SECOND, Application, Document, claimed
from tests.mongo.explain import explained

pytestmark = [pytest.mark.asyncio, pytest.mark.server]


async def _source(store: MongoStore, steps: int) -> None:
    claim = await claimed(store, input={"n": 1})
    for number in range(steps):
        await store.save_step(claim, f"s{number:04}", number, NOW + number * SECOND)
    await store.save_nap(claim, "n", NOW + SECOND, NOW)
    await store.finish(claim, "done", NOW)


def _break_off(raw: Database[Document], kept: int) -> None:
    """As if the process had died when it had copied so many records."""
    mark = {"before": None, "savedAt": NOW + 3600 * SECOND, "key": None}
    broken_off = {"status": "paused", "forking": mark}
    raw.workflows.update_one({"workflowId": "f"}, {"$set": broken_off})
    for step in list(raw.steps.find({"workflowId": "f"}).sort("stepId"))[kept:]:
        raw.steps.delete_one({"_id": step["_id"]})
    if kept == 0:
        raw.naps.delete_many({"workflowId": "f"})


def _records(raw: Database[Document], workflow_id: str) -> list[dict[str, Any]]:
    found = [
        *raw.steps.find({"workflowId": workflow_id}),
        *raw.naps.find({"workflowId": workflow_id}),
    ]
    without = [
        {k: v for k, v in record.items() if k not in ("_id", "workflowId")} for record in found
    ]
    return sorted(without, key=lambda record: record.get("stepId", ""))


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
    assert (
        list(
            await store.claim(
                ClaimRequest(worker="worker", now=NOW + SECOND, lease=SECOND, limit=1)
            )
        )
        == []
    )
    assert await store.fork("w", "f", None, NOW + SECOND)
    assert _records(raw, "f") == _records(raw, "w")
    (claim,) = await store.claim(
        ClaimRequest(worker="worker", now=NOW + SECOND, lease=SECOND, limit=1)
    )
    assert claim.workflow_id == "f"
    assert not await store.fork("w", "f", None, NOW + SECOND)


async def test_a_fork_that_somebody_has_paused_is_none_that_was_broken_off(
    store: MongoStore, raw: Database[Document]
) -> None:
    await _source(store, 3)
    await store.fork("w", "f", "s0001", NOW)
    await store.control("f", Transition.PAUSE, NOW)
    before = raw.workflows.find_one({"workflowId": "f"})
    for same in ("s0001", None):
        assert not await store.fork("w", "f", same, NOW)
    assert raw.workflows.find_one({"workflowId": "f"}) == before
    assert raw.steps.count_documents({"workflowId": "f"}) == 1
    await store.control("f", Transition.RESUME, NOW)


@pytest.mark.parametrize("other", [("v", None), ("w", "s0002")])
async def test_only_the_same_call_completes_a_fork(
    store: MongoStore, raw: Database[Document], other: tuple[str, str | None]
) -> None:
    await _source(store, 3)
    await store.fork("w", "v", None, NOW)
    await store.fork("w", "f", None, NOW)
    _break_off(raw, 1)
    before = _records(raw, "f")
    assert not await store.fork(other[0], "f", other[1], NOW)
    assert _records(raw, "f") == before
    assert await store.fork("w", "f", None, NOW)


async def test_a_fork_that_was_broken_off_is_not_run_without_its_records(
    store: MongoStore, raw: Database[Document]
) -> None:
    await _source(store, 3)
    await store.fork("w", "f", None, NOW)
    _break_off(raw, 1)
    with pytest.raises(TransitionRefused, match="'resume' is refused while 'forking'"):
        await store.control("f", Transition.RESUME, NOW)
    with pytest.raises(TransitionRefused, match="'fork' is refused while 'forking'"):
        await store.fork("f", "g", None, NOW)
    await store.control("f", Transition.CANCEL, NOW)
    with pytest.raises(TransitionRefused, match="'retry' is refused while 'forking'"):
        await store.control("f", Transition.RETRY, NOW)
    assert not await store.fork("w", "f", None, NOW)
    assert (
        list(
            await store.claim(
                ClaimRequest(worker="worker", now=NOW + SECOND, lease=SECOND, limit=1)
            )
        )
        == []
    )
    assert (await store.prune(NOW + SECOND, ENDED, 10, NOW)).workflows == 2


async def test_a_fork_that_is_cancelled_meanwhile_is_new_all_the_same(
    application: Application, raw: Database[Document]
) -> None:
    store = application.store
    await _source(store, 1)

    def cancel() -> None:
        (accepted, update), *_ = transitions.control(Transition.CANCEL, NOW, "enough")
        assert raw.workflows.update_one({"workflowId": "f"} | accepted, update).matched_count

    application.sent.before["update"] = cancel
    assert await store.fork("w", "f", None, NOW)
    workflow = await store.find_workflow("f")
    assert workflow is not None
    assert workflow.status is Status.CANCELLED


async def test_of_several_at_once_one_has_forked(
    store: MongoStore, raw: Database[Document]
) -> None:
    await _source(store, 20)
    forked = await asyncio.gather(*(store.fork("w", "f", None, NOW) for _ in range(4)))
    assert sorted(forked) == [False, False, False, True]
    assert _records(raw, "f") == _records(raw, "w")


async def test_what_is_recorded_while_a_workflow_is_forked_is_in_no_part_in_the_fork(
    application: Application, raw: Database[Document]
) -> None:
    claim = await claimed(application.store)
    await application.store.save_step(claim, "m", 1, NOW)

    def go_on() -> None:
        for step_id in ("a", "z"):
            raw.steps.insert_one(
                {"workflowId": "w", "stepId": step_id, "output": 1, "savedAt": NOW + SECOND}
            )

    application.sent.before["insert"] = go_on
    assert await application.store.fork("w", "f", None, NOW)
    assert [step["stepId"] for step in raw.steps.find({"workflowId": "f"})] == ["m"]


async def test_a_fork_that_is_completed_later_has_what_there_was_when_it_was_begun(
    store: MongoStore, raw: Database[Document]
) -> None:
    claim = await claimed(store)
    await store.save_step(claim, "first", 1, NOW)
    await store.fork("w", "f", None, NOW)
    (first,) = raw.steps.find({"workflowId": "w"})
    mark = {"before": None, "savedAt": NOW, "key": first["_id"]}
    raw.workflows.update_one({"workflowId": "f"}, {"$set": {"status": "paused", "forking": mark}})
    await _give_up_and_compensate(store, claim)
    assert await store.fork("w", "f", None, NOW + 3 * SECOND)
    assert [step["stepId"] for step in raw.steps.find({"workflowId": "f"})] == ["first"]
    forked = await store.find_workflow("f")
    assert forked is not None
    assert forked.failed_steps == ()


async def _give_up_and_compensate(store: MongoStore, claim: Claim) -> None:
    failed = replace(FAILED_STEP, step_id="x", failed_at=NOW + SECOND)
    await store.fail_step(claim, failed)
    await store.save_step(claim, "compensate", 1, NOW + 2 * SECOND)


async def test_a_fork_with_a_compensation_has_what_was_given_up_before_it(
    application: Application, raw: Database[Document]
) -> None:
    claim = await claimed(application.store)
    failed = from_failed_step(replace(FAILED_STEP, step_id="x", failed_at=NOW + SECOND))

    def go_on() -> None:
        raw.workflows.update_one({}, {"$push": {"failedSteps": failed}})
        step = from_step(claim.workflow, "compensate", 1, NOW + 2 * SECOND)
        raw.steps.insert_one(step)

    # When the source has been read, and before its records are looked at.
    find_source_first = {"find": lambda: application.sent.before.update(find=go_on)}
    application.sent.before.update(find_source_first)
    assert await application.store.fork("w", "f", None, NOW)
    assert [step["stepId"] for step in raw.steps.find({"workflowId": "f"})] == ["compensate"]
    forked = await application.store.find_workflow("f")
    assert forked is not None
    assert [step.step_id for step in forked.failed_steps] == ["x"]


async def test_a_fork_reads_the_records_of_its_source_and_no_others(
    application: Application, raw: Database[Document]
) -> None:
    await _source(application.store, 1)
    for name, id_field in (("steps", "stepId"), ("naps", "napId")):
        raw[name].insert_many(
            {"workflowId": "w" if number < 150 else "v", id_field: f"{number}", "wakeUpAt": NOW}
            for number in range(3000)
        )
    application.sent.commands.clear()
    assert await application.store.fork("w", "f", None, NOW)
    copying = [find for find in application.sent.named("find") if "sort" in find]
    assert len(copying) == 2
    for find in copying:
        assert explained(raw, find)["executionStats"]["totalDocsExamined"] <= 151


async def test_large_records_are_copied_a_few_at_a_time(
    application: Application, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(forking, "BYTES_AT_ONCE", 1500)
    claim = await claimed(application.store)
    for number in range(6):
        await application.store.save_step(claim, f"s{number}", "x" * 1000, NOW)
    application.sent.commands.clear()
    assert await application.store.fork("w", "f", None, NOW)
    inserts = [insert for insert in application.sent.named("insert") if insert["insert"] == "steps"]
    assert [len(insert["documents"]) for insert in inserts] == [2, 2, 2]


async def test_many_records_are_copied(store: MongoStore, raw: Database[Document]) -> None:
    await _source(store, 1)
    # Each at an instant of its own: the order of keys starts anew after 16 million of them.
    rows = [
        {"workflowId": "w", "stepId": f"t{n:04}", "output": n, "savedAt": NOW + n * SECOND / 1000}
        for n in range(1200)
    ]
    raw.steps.insert_many(rows)
    assert await store.fork("w", "f", "t1100", NOW)
    assert raw.steps.count_documents({"workflowId": "f"}) == 1101
    last = await store.find_step("f", "t1099")
    assert last == Step(
        workflow_id="f", step_id="t1099", output=1099, saved_at=NOW + 1.099 * SECOND
    )


async def test_what_javascript_has_recorded_is_ordered_by_its_key(
    store: MongoStore, raw: Database[Document]
) -> None:
    await store.finish(await claimed(store), None, NOW)
    for step_id in ("a", "b", "c"):
        raw.steps.insert_one({"workflowId": "w", "stepId": step_id, "output": step_id})
    assert await store.fork("w", "f", "c", NOW)
    assert {step["stepId"] for step in raw.steps.find({"workflowId": "f"})} == {"a", "b"}


async def test_a_fork_of_a_fork_has_what_javascript_has_recorded_in_its_order(
    store: MongoStore, raw: Database[Document]
) -> None:
    await store.finish(await claimed(store), None, NOW)
    for step_id in ("c", "a", "b"):
        raw.steps.insert_one({"workflowId": "w", "stepId": step_id, "output": step_id})
    assert await store.fork("w", "f", "b", NOW)
    assert await store.fork("f", "g", "a", NOW)
    assert {step["stepId"] for step in raw.steps.find({"workflowId": "f"})} == {"a", "c"}
    assert {step["stepId"] for step in raw.steps.find({"workflowId": "g"})} == {"c"}
