"""Children on the server: what is stored, in how many commands, and beside JavaScript workers."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from pymongo.database import Database

from bluestreak_core import (
    Bluestreak,
    Context,
    CorruptDocument,
    FailedChild,
    FailedStep,
    NewWorkflow,
    OnParentEnd,
    Parent,
    Status,
)
from bluestreak_core.machine import Transition
from bluestreak_core.testing import ManualClock, RecordingStore
from bluestreak_mongo import MongoStore
from tests.mongo.arrange import (
    ERROR,
    NOW,
    Application,
    Document,
    claimed,
    new,
    polling,
)

pytestmark = [pytest.mark.asyncio, pytest.mark.server]

FAR = NOW + timedelta(days=1)
PARENT = Parent(workflow_id="w", created_at=NOW)


def child(workflow_id: str, on_end: OnParentEnd = OnParentEnd.CANCEL) -> NewWorkflow:
    return replace(new(workflow_id), parent=replace(PARENT, on_end=on_end))


@pytest.fixture
def store(application: Application) -> MongoStore:
    return application.store


# What is stored -----------------------------------------------------------------------------------


async def test_a_child_is_stored_with_its_parent(
    store: MongoStore, raw: Database[Document]
) -> None:
    await store.create(child("c", OnParentEnd.ABANDON))
    (stored,) = raw.workflows.find()
    assert stored["parent"] == {"workflowId": "w", "createdAt": NOW, "onEnd": "abandon"}
    assert stored["unsettled"] is True
    await store.control("c", Transition.CANCEL, NOW)
    (seen,) = await store.find_unsettled(10)
    await store.settle(seen)
    (stored,) = raw.workflows.find()
    assert "unsettled" not in stored


async def test_a_failed_child_is_stored_as_a_step_that_was_given_up(
    store: MongoStore, raw: Database[Document]
) -> None:
    claim = await claimed(store)
    failed = FailedChild(workflow_id="c", status=Status.CANCELLED)
    await store.fail_step(
        claim, FailedStep(step_id="s", error=ERROR, attempts=0, failed_at=NOW, child=failed)
    )
    (stored,) = raw.workflows.find()
    assert stored["failedSteps"][0]["child"] == {"workflowId": "c", "status": "cancelled"}


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("parent", "w"),
        ("parent.workflowId", 7),
        ("parent.createdAt", "today"),
        ("parent.onEnd", "adopt"),
        ("parent.onEnd", None),
        ("unsettled", "yes"),
    ],
)
async def test_a_parent_that_neither_library_writes_is_refused(
    store: MongoStore, raw: Database[Document], field: str, value: object
) -> None:
    await store.create(child("c"))
    raw.workflows.update_one({}, {"$set": {field: value}})
    with pytest.raises(CorruptDocument, match=field.partition(".")[0]):
        await store.find_workflow("c")


async def test_an_unreadable_end_is_passed_over_and_logged(
    store: MongoStore, raw: Database[Document], caplog: pytest.LogCaptureFixture
) -> None:
    await store.create_many([child("bad"), child("good")])
    for workflow_id in ("bad", "good"):
        await store.control(workflow_id, Transition.CANCEL, NOW)
    raw.workflows.update_one({"workflowId": "bad"}, {"$set": {"handlerId": 7}})
    assert [seen.workflow_id for seen in await store.find_unsettled(10)] == ["good"]
    assert "its relatives are not seen to" in caplog.text


# In how many commands -----------------------------------------------------------------------------


async def test_the_ends_of_many_children_reach_their_parent_in_few_commands(
    application: Application, raw: Database[Document]
) -> None:
    store, sent = application.store, application.sent
    await store.create(new("w"))
    await store.create_many([child(f"c{number}") for number in range(100)])
    for number in range(100):
        await store.control(f"c{number}", Transition.CANCEL, NOW)
    ended = await store.find_unsettled(100)
    sent.commands.clear()
    await asyncio.gather(*(store.nudge("w", NOW, f"child/{n}", NOW) for n in range(100)))
    assert len(sent.commands) <= 4
    sent.commands.clear()
    await asyncio.gather(*map(store.settle, ended))
    assert len(sent.commands) <= 4
    assert raw.workflows.count_documents({"unsettled": True}) == 0
    assert await store.find_mail("w") == 100


async def test_parents_adopt_in_few_commands(application: Application) -> None:
    store, sent = application.store, application.sent
    claims = [await claimed(store, f"w{number}") for number in range(50)]
    sent.commands.clear()
    await asyncio.gather(*map(store.adopt, claims))
    assert len(sent.commands) <= 4
    workflows = [await store.find_workflow(claim.workflow_id) for claim in claims]
    assert all(workflow is not None and workflow.unsettled for workflow in workflows)


# Beside JavaScript workers ------------------------------------------------------------------------


async def test_a_parent_hears_of_a_child_that_a_javascript_worker_has_finished(
    application: Application, raw: Database[Document], clock: ManualClock
) -> None:
    """That library knows nothing of parents; a worker of this one looks for what it leaves."""
    recording = RecordingStore(application.store)
    bluestreak = Bluestreak(
        recording, unknown_handler="skip", park_after=0, poll_interval=60, timeout_interval=3600
    )

    @bluestreak.handler("parent")
    async def ask(ctx: Context, input: None) -> Any:
        return await ctx.child("ask", "javascript")

    await bluestreak.init()
    await bluestreak.start("w", "parent")
    async with polling(bluestreak):
        await recording.until_returned("park_until_message")
        raw.workflows.update_one(
            {"workflowId": "w/ask"}, {"$set": {"status": "finished", "result": 42}}
        )
        clock.advance(timedelta(seconds=60))
        assert await bluestreak.wait("w") == 42
