"""Deleting what has ended: broken off anywhere, and with others who come in between anywhere."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from pymongo import AsyncMongoClient, MongoClient
from pymongo.database import Database
from pymongo.errors import DuplicateKeyError
from pymongo.monitoring import CommandStartedEvent
from typing_extensions import override

from bluestreak_core import (
    Bluestreak,
    Pruned,
    Status,
    StoreRefused,
    TransitionRefused,
    WorkflowNotFound,
)
from bluestreak_core.machine import Transition
from bluestreak_core.store import ENDED
from bluestreak_core.testing import ManualClock
from bluestreak_mongo import LocalMongo, MongoStore, pruning, transitions
from tests.mongo.arrange import AWARE, NOW, SECOND, Application, Document, Sent, claimed, new
from tests.mongo.javascript_worker import JavaScriptWorker
from tests.mongo.odd_documents import NO_UUID

pytestmark = [pytest.mark.asyncio, pytest.mark.server]

LATER = NOW + 10 * SECOND
COMMANDS = 9
"""Of a call that deletes something: two to find, one to mark, three to read, three to delete."""


async def ended(store: MongoStore, *names: str) -> None:
    """Workflows that have finished, each with two steps and a nap."""
    for name in names:
        claim = await claimed(store, name)
        for step_id in ("s1", "s2"):
            await store.save_step(claim, step_id, "old", NOW)
        await store.save_nap(claim, "n", NOW, NOW)
        await store.finish(claim, None, NOW)


def names_of(raw: Database[Document], collection: str) -> set[str]:
    return {document["workflowId"] for document in raw[collection].find()}


def check_whole(raw: Database[Document]) -> None:
    """Nothing is recorded for nobody, and what is not about to be deleted has all that it had."""
    workflows = {document["workflowId"]: document for document in raw.workflows.find()}
    assert names_of(raw, "steps") | names_of(raw, "naps") <= workflows.keys()
    for name, workflow in workflows.items():
        if workflow["status"] != "idle" and "prunedAt" not in workflow:
            assert raw.steps.count_documents({"workflowId": name}) == 2
            assert raw.naps.count_documents({"workflowId": name}) == 1


# Broken off --------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def failing() -> Iterator[str]:
    with LocalMongo(authorization=False, parameters={"enableTestCommands": "1"}) as server:
        yield server.url


@contextmanager
def from_command(client: MongoClient[Document], number: int) -> Iterator[None]:
    """Let the server refuse this command of a store's, and all that come after it."""
    data = {"failCommands": ["find", "update", "delete"], "errorCode": 13, "appName": "bluestreak"}
    point = {"configureFailPoint": "failCommand", "mode": {"skip": number}, "data": data}
    client.admin.command(point)
    try:
        yield
    finally:
        client.admin.command({"configureFailPoint": "failCommand", "mode": "off"})


@pytest.mark.parametrize("number", range(COMMANDS))
async def test_what_was_broken_off_is_gone_on_with_by_whatever_comes_next(
    failing: str, clock: ManualClock, number: int
) -> None:
    database = f"test-{uuid4().hex[:12]}"
    store = MongoStore(failing, database=database, clock=clock)
    await store.init()
    with MongoClient[Document](failing) as client:
        raw = client.get_database(database, codec_options=AWARE)
        await ended(store, "w1", "w2")
        with from_command(client, number), pytest.raises(StoreRefused):
            await store.prune(LATER, ENDED, 10, LATER)
        check_whole(raw)
        marked = raw.workflows.count_documents({"prunedAt": LATER})
        assert marked == (0 if number < 3 else 2)
        # Of other states, and of what ended before anything did.
        await store.prune(NOW - SECOND, [Status.CANCELLED], 10, LATER)
        assert names_of(raw, "workflows") == (set() if marked else {"w1", "w2"})
        check_whole(raw)
        await store.prune(LATER, ENDED, 10, LATER)
        assert [*raw.workflows.find(), *raw.steps.find(), *raw.naps.find()] == []
        client.drop_database(raw.name)
    await store.close()


# Others in between -------------------------------------------------------------------------------


class Interrupting(Sent):
    """Does something just before a store sends one of its commands."""

    def __init__(self, number: int, action: Callable[[], object]) -> None:
        super().__init__()
        self.left = number
        """How many commands are still sent before that; negative once it is done."""
        self._action = action
        self.is_armed = False

    @override
    def started(self, event: CommandStartedEvent) -> None:
        super().started(event)
        if self.is_armed and event.command_name in {"find", "update", "delete"}:
            self.left -= 1
            if self.left == -1:
                self._action()


async def interrupted(
    raw: Database[Document], url: str, number: int, action: Callable[[], object]
) -> Pruned:
    """What a prune has deleted that something was done in the middle of."""
    sent = Interrupting(number, action)
    async with AsyncMongoClient[Document](url, event_listeners=[sent]) as client:
        store = MongoStore.from_database(client[raw.name], clock=ManualClock())
        await store.init()
        await ended(store, "w")
        sent.is_armed = True
        pruned = await store.prune(LATER, ENDED, 10, LATER)
        assert sent.left < 0
        await store.close()
    return pruned


@pytest.mark.parametrize("number", range(COMMANDS))
async def test_what_is_retried_in_between_keeps_its_steps_or_is_refused(
    mongodb_url: str, raw: Database[Document], number: int
) -> None:
    retried: list[int] = []

    def retry() -> None:
        raw.workflows.update_one({"workflowId": "w"}, {"$set": {"status": "aborted"}})
        ((accepted, update),) = transitions.control(Transition.RETRY, LATER, None)
        done = raw.workflows.update_one({"workflowId": "w"} | accepted, update)
        retried.append(done.modified_count)

    pruned = await interrupted(raw, mongodb_url, number, retry)
    if retried == [1]:
        assert number < 3
        assert pruned == Pruned()
        assert raw.steps.count_documents({"workflowId": "w"}) == 2
    else:
        assert pruned == Pruned(workflows=1, steps=2, naps=1)
        assert names_of(raw, "steps") == set()


@pytest.mark.parametrize("number", range(COMMANDS))
async def test_an_id_cannot_be_started_again_before_all_of_the_old_one_is_gone(
    mongodb_url: str, raw: Database[Document], number: int
) -> None:
    def start() -> None:
        with suppress(DuplicateKeyError):
            raw.workflows.insert_one({"workflowId": "w", "status": "idle"})
            assert raw.steps.count_documents({}) == 0

    await interrupted(raw, mongodb_url, number, start)
    assert raw.workflows.count_documents({}) == 0


@pytest.mark.parametrize("number", range(COMMANDS))
async def test_a_late_prune_takes_nothing_from_a_new_workflow_of_the_same_id(
    mongodb_url: str, raw: Database[Document], number: int
) -> None:
    def finish_and_start_again() -> None:
        for name in ("steps", "naps", "workflows"):
            raw[name].delete_many({"workflowId": "w"})
        key: dict[str, Any] = {"workflowId": "w"}
        raw.workflows.insert_one(key | {"status": "idle", "handlerId": "h", "timeoutAt": NOW})
        raw.steps.insert_one({"workflowId": "w", "stepId": "s1", "output": "new"})
        raw.naps.insert_one({"workflowId": "w", "napId": "n", "wakeUpAt": NOW})

    pruned = await interrupted(raw, mongodb_url, number, finish_and_start_again)
    assert pruned.workflows == 0
    assert [step["output"] for step in raw.steps.find()] == ["new"]
    assert raw.naps.count_documents({}) == 1
    assert raw.workflows.count_documents({}) == 1


FORK_COMMANDS = 8
"""Of a fork, those that read or update."""


@pytest.mark.parametrize("number", range(FORK_COMMANDS))
async def test_a_fork_of_what_is_being_deleted_is_whole_or_is_none(
    mongodb_url: str, raw: Database[Document], number: int
) -> None:
    def begin_to_prune() -> None:
        raw.workflows.update_one({"workflowId": "w"}, transitions.mark(LATER))
        raw.steps.delete_one({"workflowId": "w"})

    sent = Interrupting(number, begin_to_prune)
    async with AsyncMongoClient[Document](mongodb_url, event_listeners=[sent]) as client:
        store = MongoStore.from_database(client[raw.name], clock=ManualClock())
        await store.init()
        await ended(store, "w")
        sent.is_armed = True
        if number == FORK_COMMANDS - 1:
            assert await store.fork("w", "fork", None, LATER)
            assert raw.steps.count_documents({"workflowId": "fork"}) == 2
        else:
            with pytest.raises(WorkflowNotFound, match="'w'"):
                await store.fork("w", "fork", None, LATER)
            for event in (Transition.RETRY, Transition.RESUME):
                with pytest.raises((TransitionRefused, WorkflowNotFound)):
                    await store.control("fork", event, LATER)
            await store.prune(LATER, ENDED, 10, LATER)
            assert [*raw.workflows.find(), *raw.steps.find(), *raw.naps.find()] == []
        await store.close()
    assert sent.left < 0


DESCRIBE_COMMANDS = 4
"""Of a description: the workflow, its steps, its naps, and the workflow again."""


@pytest.mark.parametrize("number", range(DESCRIBE_COMMANDS))
async def test_what_is_being_deleted_is_not_described_without_some_of_its_records(
    mongodb_url: str, raw: Database[Document], number: int
) -> None:
    def begin_to_prune() -> None:
        raw.workflows.update_one({"workflowId": "w"}, transitions.mark(LATER))
        raw.steps.delete_one({"workflowId": "w"})

    sent = Interrupting(number, begin_to_prune)
    async with AsyncMongoClient[Document](mongodb_url, event_listeners=[sent]) as client:
        store = MongoStore.from_database(client[raw.name], clock=ManualClock())
        async with Bluestreak(store) as bluestreak:
            await ended(store, "w")
            sent.is_armed = True
            with pytest.raises(WorkflowNotFound, match="'w'"):
                await bluestreak.describe("w")
    assert sent.left < 0


@pytest.mark.parametrize("number", range(COMMANDS))
async def test_two_at_once_delete_each_workflow_once(
    mongodb_url: str, raw: Database[Document], number: int
) -> None:
    def other() -> None:
        for name in ("steps", "naps"):
            raw[name].delete_many({"workflowId": "w"})

    pruned = await interrupted(raw, mongodb_url, number, other)
    assert pruned.workflows == 1
    assert raw.workflows.count_documents({}) == 0


# What is marked ----------------------------------------------------------------------------------


async def test_nothing_can_be_done_with_what_is_marked(
    application: Application, raw: Database[Document]
) -> None:
    store = application.store
    await ended(store, "w")
    raw.workflows.update_one({"workflowId": "w"}, transitions.mark(LATER))
    raw.workflows.update_one({"workflowId": "w"}, {"$set": {"status": "aborted"}})
    before = raw.workflows.find_one()
    with pytest.raises(TransitionRefused, match="'retry' is refused while 'pruned'"):
        await store.control("w", Transition.RETRY, LATER)
    assert not await store.create(new("w"))
    assert raw.workflows.find_one() == before
    found = await store.find_workflow("w")
    assert found is not None
    assert found.pruned_at == LATER


async def test_what_was_left_behind_counts_towards_the_limit(
    application: Application, raw: Database[Document]
) -> None:
    await ended(application.store, "w1", "w2", "w3", "w4")
    raw.workflows.update_one({"workflowId": "w3"}, transitions.mark(NOW))
    pruned = await application.store.prune(LATER, ENDED, 2, LATER)
    assert pruned == Pruned(workflows=2, steps=4, naps=2)
    left = raw.workflows.find({"prunedAt": None})
    assert {workflow["workflowId"] for workflow in left} == names_of(raw, "workflows")
    assert len(names_of(raw, "workflows") & {"w1", "w2", "w4"}) == 2


async def test_a_workflow_of_the_other_library_ended_with_its_last_lease(
    application: Application, raw: Database[Document]
) -> None:
    finished = {"handlerId": "h", "input": None, "failures": 0.0, "status": "finished"}
    for number in range(3):
        timeout_at = NOW + number * SECOND
        raw.workflows.insert_one(finished | {"workflowId": f"w{number}", "timeoutAt": timeout_at})
        raw.steps.insert_one({"workflowId": f"w{number}", "stepId": "s", "output": 1})
    pruned = await application.store.prune(NOW + 2 * SECOND, ENDED, 10, LATER)
    assert pruned == Pruned(workflows=2, steps=2)
    assert names_of(raw, "workflows") == names_of(raw, "steps") == {"w2"}


async def test_what_the_other_library_moves_after_it_was_marked_is_deleted_later(
    application: Application, raw: Database[Document], clock: ManualClock
) -> None:
    await claimed(application.store)
    await application.store.control("w", Transition.CANCEL, NOW)
    raw.workflows.update_one({"workflowId": "w"}, transitions.mark(NOW))
    await JavaScriptWorker(application.database, clock).step("w", "s", lambda: 1)
    year = NOW + timedelta(days=365)
    assert await application.store.prune(year, ENDED, 10, year) == Pruned(workflows=1, steps=1)


async def test_what_cannot_be_read_is_not_deleted_and_keeps_nothing_else_from_it(
    application: Application, raw: Database[Document], caplog: pytest.LogCaptureFixture
) -> None:
    unreadable: list[Document] = [{"workflowId": 7}, {"workflowId": {"$gt": ""}}, {}]
    for document in unreadable * 2:
        old = {"status": "finished", "timeoutAt": NOW - timedelta(days=1)}
        with suppress(DuplicateKeyError):
            raw.workflows.insert_one(old | document)
    await ended(application.store, "w1", "w2", "w3")
    assert (await application.store.prune(LATER, ENDED, 2, LATER)).workflows == 2
    assert (await application.store.prune(LATER, ENDED, 2, LATER)).workflows == 1
    assert (await application.store.prune(LATER, ENDED, 2, LATER)).workflows == 0
    assert raw.workflows.count_documents({}) == 3
    assert raw.steps.count_documents({}) == 0
    assert caplog.text.count("it is not deleted") == 3


async def test_a_workflow_whose_records_cannot_be_read_keeps_no_other_from_being_deleted(
    application: Application, raw: Database[Document], caplog: pytest.LogCaptureFixture
) -> None:
    store = application.store
    await ended(store, "w1", "w2", "w3")
    for name in ("steps", "naps"):
        raw[name].insert_one({"_id": NO_UUID, "workflowId": "w1", "stepId": "?", "napId": "?"})
    assert (await store.prune(LATER, ENDED, 1, LATER)).workflows == 1
    assert (await store.prune(LATER, ENDED, 1, LATER)).workflows == 1
    assert (await store.prune(LATER, ENDED, 1, LATER)).workflows == 0
    assert names_of(raw, "workflows") == {"w1"}
    assert caplog.text.count("cannot be decoded") == 1
    for name in ("steps", "naps"):
        raw[name].delete_one({"_id": NO_UUID})
    mended_by = LATER + timedelta(minutes=11)
    assert (await store.prune(mended_by, ENDED, 1, mended_by)).workflows == 1
    check_whole(raw)


async def test_records_are_deleted_in_parts_of_a_bounded_size(
    application: Application, raw: Database[Document], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(pruning, "RECORDS_AT_ONCE", 3)
    await ended(application.store, "w1", "w2", "w3", "w4")
    application.sent.commands.clear()
    pruned = await application.store.prune(LATER, ENDED, 10, LATER)
    assert pruned == Pruned(workflows=4, steps=8, naps=4)
    for read in application.sent.named("find")[2:]:
        assert read.get("limit") in {3, None}
    for delete in application.sent.named("delete")[:-1]:
        assert len(delete["deletes"][0]["q"]["_id"]["$in"]) <= 3
    assert [*raw.workflows.find(), *raw.steps.find(), *raw.naps.find()] == []


async def test_a_long_id_with_many_records_is_deleted(
    application: Application, raw: Database[Document]
) -> None:
    name = "\U0001f426" * 512
    await ended(application.store, name)
    raw.steps.insert_many(
        {"workflowId": name, "stepId": f"more {number}", "output": None} for number in range(10_000)
    )
    pruned = await application.store.prune(LATER, ENDED, 10, LATER)
    assert pruned == Pruned(workflows=1, steps=10_002, naps=1)
