"""Restarts on the server: what is stored, and what happens in between."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from pymongo.database import Database

from bluestreak_core import (
    Claim,
    ClaimLost,
    History,
    Status,
    Step,
    StoreUnavailable,
    TransitionRefused,
)
from bluestreak_core.model import ClaimRequest
from bluestreak_core.testing import ManualClock
from bluestreak_mongo import MongoStore
from tests.mongo.arrange import (
    ATTEMPT,
    LEASE,
    NOW,
    SECOND,
    Application,
    Document,
    claimed,
    message,
)
from tests.mongo.javascript_worker import JavaScriptWorker

pytestmark = [pytest.mark.asyncio, pytest.mark.server]

BEGUN = int(NOW.timestamp() * 1000)
AGAIN = NOW + SECOND
RESTARTED: Document = {
    "$set": {"status": "idle", "generation": 1, "restartedAt": AGAIN, "timeoutAt": AGAIN}
}
"""What another worker does to a workflow behind our back."""


@pytest.fixture
def store(application: Application) -> MongoStore:
    return application.store


async def claim_again(store: MongoStore) -> Claim:
    request = ClaimRequest(worker="worker", now=AGAIN, lease=LEASE, limit=1)
    (claim,) = await store.claim(request)
    return claim


async def recorded(store: MongoStore, claim: Claim, output: str) -> None:
    await store.save_step(claim, "s", output, NOW)
    await store.save_nap(claim, "n", NOW, NOW)
    await store.save_attempt(claim, ATTEMPT)


# What is stored -----------------------------------------------------------------------------------


async def test_a_generation_and_its_records_are_stored_with_when_it_began(
    store: MongoStore, raw: Database[Document]
) -> None:
    claim = await claimed(store, input="first")
    await recorded(store, claim, "old")
    await store.restart(claim, "second", [], AGAIN)
    (workflow,) = raw.workflows.find()
    assert (workflow["input"], workflow["status"], workflow["timeoutAt"]) == (
        *("second", "idle"),
        AGAIN,
    )
    assert (workflow["generation"], workflow["restartedAt"]) == (1, AGAIN)
    assert workflow["createdAt"] == NOW
    assert raw.steps.count_documents({}) == raw.naps.count_documents({}) == 0
    await recorded(store, await claim_again(store), "new")
    (step,) = raw.steps.find({}, {"_id": 0})
    assert step == {
        "workflowId": "w",
        "workflowCreatedAt": BEGUN + 1000,
        "stepId": f"s\0{BEGUN + 1000}",
        "output": "new",
        "savedAt": NOW,
    }
    begun = str(BEGUN + 1000)
    ids = {nap["napId"] for nap in raw.naps.find()}
    assert ids == {"\0".join(["n", begun]), "\0".join(["s", "0", "1", begun])}


async def test_a_workflow_that_never_restarts_is_stored_as_before(
    store: MongoStore, raw: Database[Document]
) -> None:
    await recorded(store, await claimed(store), "output")
    (workflow,), (step,) = raw.workflows.find(), raw.steps.find()
    assert not {"generation", "restartedAt", "published"} & workflow.keys()
    assert (step["stepId"], step["workflowCreatedAt"]) == ("s", BEGUN)


async def test_a_restart_takes_few_commands(application: Application) -> None:
    store, sent = application.store, application.sent
    claim = await claimed(store)
    await recorded(store, claim, "old")
    sent.commands.clear()
    await store.restart(claim, None, [], AGAIN)
    assert sent.names == ["find", "update", *(2 * ["find", "find", "delete"])]


# Interrupted and late deletions -------------------------------------------------------------------


async def test_a_history_deletes_what_an_interrupted_restart_has_left(
    store: MongoStore, raw: Database[Document]
) -> None:
    claim = await claimed(store)
    await recorded(store, claim, "old")
    raw.workflows.update_one({}, RESTARTED)  # and its worker died
    again = await claim_again(store)
    assert raw.steps.count_documents({}) + raw.naps.count_documents({}) == 3
    assert await store.history([again]) == {"w": History()}
    assert raw.steps.count_documents({}) + raw.naps.count_documents({}) == 0


async def test_records_that_come_late_are_passed_over_and_deleted(
    store: MongoStore, raw: Database[Document]
) -> None:
    claim = await claimed(store)
    await store.restart(claim, None, [], AGAIN)
    again = await claim_again(store)
    await recorded(store, again, "new")
    await recorded(store, claim, "late")
    assert raw.steps.count_documents({}) == 2
    found = await store.find_step("w", "s")
    assert found == Step(workflow_id="w", step_id="s", output="new", saved_at=NOW)
    (history,) = (await store.history([again])).values()
    assert (history.steps, history.naps, history.attempts) == (
        *({"s": "new"}, {"n": NOW}),
        {"s": ATTEMPT},
    )
    assert raw.steps.count_documents({}) == 1
    assert raw.naps.count_documents({}) == 2


async def test_the_next_restart_deletes_what_is_left(
    store: MongoStore, raw: Database[Document]
) -> None:
    claim = await claimed(store)
    await store.restart(claim, None, [], AGAIN)
    again = await claim_again(store)
    await recorded(store, claim, "late")
    await recorded(store, again, "new")
    await store.restart(again, None, [], AGAIN)
    assert raw.steps.count_documents({}) + raw.naps.count_documents({}) == 0


async def test_thousands_of_records_are_deleted(store: MongoStore, raw: Database[Document]) -> None:
    claim = await claimed(store)
    steps = [store.save_step(claim, f"s{number}", number, NOW) for number in range(2500)]
    await asyncio.gather(*steps)
    other = await claimed(store, "other")
    await store.save_step(other, "s", 1, NOW)
    await store.restart(claim, None, [], AGAIN)
    assert [step["workflowId"] for step in raw.steps.find()] == ["other"]


@pytest.mark.parametrize("when", ["find", "delete"])
async def test_a_stalled_deletion_spares_the_next_workflow_of_the_id(
    application: Application, raw: Database[Document], when: str
) -> None:
    """One that the JavaScript library has created, whose records do not name their workflow."""
    store = application.store
    claim = await claimed(store)
    await recorded(store, claim, "old")
    raw.workflows.update_one({}, RESTARTED)
    again = await claim_again(store)

    def replace_workflow() -> None:
        for collection in (raw.workflows, raw.steps, raw.naps):
            collection.delete_many({})
        raw.workflows.insert_one({"workflowId": "w", "handlerId": "h", "status": "idle"})
        raw.steps.insert_one({"workflowId": "w", "stepId": "s", "output": "next"})
        raw.naps.insert_one({"workflowId": "w", "napId": "n", "wakeUpAt": NOW})

    if when == "find":  # the read of the records that are to be deleted
        history = await _history_of_stale_read(store, application, again, replace_workflow)
    else:
        application.sent.before["delete"] = replace_workflow
        history = await store.history([again])
    assert history == {"w": History()}
    assert raw.steps.count_documents({"output": "next"}) == 1
    assert raw.naps.count_documents({"napId": "n", "workflowCreatedAt": None}) == 1


async def _history_of_stale_read(
    store: MongoStore, application: Application, claim: Claim, meanwhile: Any
) -> Any:
    """The first two reads are those of the history, the third one is that of what is to go."""
    sent = application.sent

    def later(count: int) -> None:
        sent.before["find"] = meanwhile if count == 0 else (lambda: later(count - 1))

    later(2)
    return await store.history([claim])


# Messages -----------------------------------------------------------------------------------------


async def test_a_received_message_that_was_not_marked_is_not_received_again(
    store: MongoStore, raw: Database[Document]
) -> None:
    claim = await claimed(store)
    await store.send(message("m1", payload=1))
    await store.send(message("m2", payload=2))
    await store.receive(claim, "s", ["paid"], NOW, give_up=False)
    raw.messages.update_one({"messageId": "m1"}, {"$set": {"unread": True}})  # its worker died
    await store.restart(claim, None, ["m1"], AGAIN)
    assert [unread.message_id for unread in await store.find_unread("w", 10)] == ["m2"]
    step = await store.receive(await claim_again(store), "s", ["paid"], NOW, give_up=False)
    assert isinstance(step, Step)
    assert step.output == 2


@pytest.mark.parametrize("command", ["insert", "find"])
async def test_a_run_that_is_overtaken_by_a_restart_leaves_the_message(
    application: Application, raw: Database[Document], command: str
) -> None:
    """Before it records what it receives, or before it would mark the message."""
    store, sent = application.store, application.sent
    claim = await claimed(store)
    await store.send(message("m", payload=7))

    def restart() -> None:
        raw.workflows.update_one({}, RESTARTED)

    def arm() -> None:
        sent.before["find"] = restart

    sent.before["insert"] = restart if command == "insert" else arm
    with pytest.raises(ClaimLost, match="has been deleted or has restarted"):
        await store.receive(claim, "s", ["paid"], NOW, give_up=False)
    assert [unread.message_id for unread in await store.find_unread("w", 10)] == ["m"]
    again = await claim_again(store)
    step = await store.receive(again, "s", ["paid"], NOW, give_up=False)
    assert isinstance(step, Step)
    assert step.output == 7
    assert await store.find_unread("w", 10) == []


async def test_a_message_that_an_earlier_generation_received_was_sent(
    application: Application, raw: Database[Document]
) -> None:
    """It is received before it is counted, and its workflow restarts and finishes in between."""
    store = application.store
    await claimed(store)

    def mark_and_finish() -> None:
        raw.messages.update_one({"messageId": "m"}, {"$unset": {"unread": 1}})
        raw.workflows.update_one({}, RESTARTED)
        raw.workflows.update_one({}, {"$set": {"status": "finished"}})

    application.sent.before["update"] = mark_and_finish
    assert await store.send(message("m"))
    (stored,) = raw.messages.find()
    assert "refused" not in stored


# Forks --------------------------------------------------------------------------------------------


async def test_a_fork_whose_source_restarts_meanwhile_is_discarded(
    application: Application, raw: Database[Document]
) -> None:
    store = application.store
    claim = await claimed(store)
    await recorded(store, claim, "old")
    application.sent.before["getMore"] = application.sent.before["insert"] = lambda: (
        raw.workflows.update_one({"workflowId": "w"}, RESTARTED)
    )
    with pytest.raises(TransitionRefused, match="'fork' is refused while 'restarted'"):
        await store.fork("w", "f", None, NOW)
    application.sent.before.clear()
    forked = await store.find_workflow("f")
    assert forked is not None
    assert (forked.status, forked.pruned_at) == (Status.CANCELLED, NOW)


async def test_a_fork_that_was_broken_off_is_not_completed_after_a_restart(
    store: MongoStore, raw: Database[Document]
) -> None:
    claim = await claimed(store)
    await recorded(store, claim, "old")
    await store.fork("w", "f", None, NOW)
    place = {"before": None, "savedAt": NOW, "key": None}
    half = {"$set": {"status": "paused", "forking": place}}
    raw.workflows.update_one({"workflowId": "f"}, half)
    assert await store.fork("w", "f", None, NOW)  # the same call completes it
    raw.workflows.update_one({"workflowId": "f"}, half)
    await store.restart(claim, None, [], AGAIN)
    assert not await store.fork("w", "f", None, NOW)


async def test_a_fork_of_a_later_generation_is_completed(
    store: MongoStore, raw: Database[Document]
) -> None:
    claim = await claimed(store)
    await store.restart(claim, "again", [], AGAIN)
    await store.fork("w", "f", None, AGAIN)
    place = {"before": None, "savedAt": NOW, "key": None, "generation": 1}
    half = {"$set": {"status": "paused", "forking": place}}
    raw.workflows.update_one({"workflowId": "f"}, half)
    assert await store.fork("w", "f", None, AGAIN)
    forked = await store.find_workflow("f")
    assert forked is not None
    assert (forked.status, forked.input, forked.generation) == (Status.IDLE, "again", 0)


# Beside the JavaScript library --------------------------------------------------------------------


async def test_records_without_the_name_of_their_workflow_are_of_the_first_generation(
    store: MongoStore, raw: Database[Document]
) -> None:
    claim = await claimed(store)
    await store.restart(claim, None, [], AGAIN)
    again = await claim_again(store)
    raw.steps.insert_one({"workflowId": "w", "stepId": "s", "output": "foreign"})
    assert await store.find_step("w", "s") is None
    assert await store.save_step(again, "s", "own", NOW) == "own"
    assert (await store.history([again]))["w"].steps == {"s": "own"}
    assert raw.steps.count_documents({"output": "foreign"}) == 0


async def test_the_javascript_library_runs_a_restarted_workflow_from_the_top(
    application: Application, clock: ManualClock, raw: Database[Document]
) -> None:
    store = application.store
    claim = await claimed(store, input="first")
    await recorded(store, claim, "old")
    await store.restart(claim, "second", [], NOW)
    request = ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1)
    (again,) = await store.claim(request)
    await store.save_step(again, "s", "new", NOW)
    await store.release(again, NOW)
    clock.advance(SECOND)
    javascript = JavaScriptWorker(application.database, clock)
    assert await javascript.claim() == "w"
    assert await javascript.step("w", "s", lambda: "called again") == "called again"
    (workflow,) = raw.workflows.find()
    assert (workflow["input"], workflow["generation"]) == ("second", 1)
    assert (await store.history([again]))["w"].steps == {"s": "new"}


async def test_a_repeated_restart_leaves_alone_what_javascript_runs_under_its_token(
    store: MongoStore, raw: Database[Document]
) -> None:
    claim = await claimed(store)
    await store.restart(claim, "again", [], AGAIN)
    raw.workflows.update_one({}, {"$set": {"status": "running"}})
    (before,) = raw.workflows.find()
    with pytest.raises((ClaimLost, StoreUnavailable)):
        await store.restart(claim, "again", [], AGAIN)
    assert list(raw.workflows.find()) == [before]


async def test_a_workflow_that_javascript_created_restarts(
    store: MongoStore, raw: Database[Document]
) -> None:
    raw.workflows.insert_one(
        {"workflowId": "w", "handlerId": "h", "input": 1, "status": "idle", "timeoutAt": NOW}
        | {"failures": 0}
    )
    raw.steps.insert_one({"workflowId": "w", "stepId": "s", "output": "foreign"})
    (claim,) = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
    assert (await store.history([claim]))["w"].steps == {"s": "foreign"}
    await store.restart(claim, 2, [], AGAIN)
    again = await claim_again(store)
    assert again.workflow.restarted_at == AGAIN
    assert await store.history([again]) == {"w": History()}
    assert raw.steps.count_documents({}) == 0


async def test_what_a_cancelled_call_has_received_is_received_by_the_next_generation(
    application: Application,
) -> None:
    """Its run restarts without the message, though the mark was set before the call ended."""
    store = application.store
    claim = await claimed(store)
    await store.send(message(payload=1))
    await store.send(message("n", payload=2))
    await store.receive(claim, "known", ["paid"], NOW, give_up=False)
    receiving = asyncio.create_task(store.receive(claim, "s", ["paid"], NOW, give_up=False))
    loop = asyncio.get_running_loop()
    application.sent.before["update"] = lambda: loop.call_soon_threadsafe(receiving.cancel)
    with pytest.raises(asyncio.CancelledError):
        await receiving
    await store.restart(claim, None, ["m"], AGAIN)
    step = await store.receive(await claim_again(store), "s", ["paid"], NOW, give_up=False)
    assert isinstance(step, Step)
    assert step.output == 2


async def test_a_stale_restart_takes_no_message_from_the_next_generation(
    store: MongoStore,
) -> None:
    """It has received one under a claim that was overtaken, which the run after it did not know."""
    stale = await claimed(store)
    await store.send(message(payload=7))
    request = ClaimRequest(worker="worker", now=NOW + LEASE, lease=LEASE, limit=1)
    (claim,) = await store.claim(request)
    await store.receive(stale, "s", ["paid"], NOW, give_up=False)
    await store.restart(claim, None, [], AGAIN)
    with pytest.raises(ClaimLost):
        await store.restart(stale, None, ["m"], AGAIN)
    step = await store.receive(await claim_again(store), "s", ["paid"], NOW, give_up=False)
    assert isinstance(step, Step)
    assert step.output == 7
