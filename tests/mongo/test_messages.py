"""Messages on the server: what is stored, in how many commands, and what happens in between."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from pymongo.database import Database

from bluestreak_core import (
    Claim,
    CorruptDocument,
    NoMessage,
    Step,
    WorkflowEnded,
    WorkflowNotFound,
)
from bluestreak_core.model import ClaimRequest
from bluestreak_mongo import MongoStore
from tests.mongo.arrange import (
    LEASE,
    NOW,
    SECOND,
    Application,
    Document,
    claimed,
    message,
    new,
)

pytestmark = [pytest.mark.asyncio, pytest.mark.server]

FAR = NOW + 1000 * SECOND


async def received(store: MongoStore, claim: Claim, step_id: str, *names: str) -> Step:
    step = await store.receive(claim, step_id, names or ["paid"], NOW, give_up=False)
    assert isinstance(step, Step), "there was no message"
    return step


async def parked(store: MongoStore, workflow_id: str = "w") -> Claim:
    claim = await claimed(store, workflow_id)
    empty = await store.receive(claim, "s", ["paid"], NOW, give_up=False)
    assert isinstance(empty, NoMessage)
    await store.park_until_message(claim, FAR, ["paid"], empty.mail, NOW)
    return claim


def mail(raw: Database[Document]) -> dict[str, int]:
    found = raw.workflows.find()
    return {workflow["workflowId"]: workflow.get("mail", 0) for workflow in found}


@pytest.fixture
def store(application: Application) -> MongoStore:
    return application.store


async def test_a_message_is_stored_with_what_orders_it(
    store: MongoStore, raw: Database[Document]
) -> None:
    await claimed(store)
    await store.send(message("m", payload={"amount": 3}))
    (stored,) = raw.messages.find({}, {"_id": 0})
    assert stored == {
        "workflowId": "w",
        "workflowCreatedAt": int(NOW.timestamp() * 1000),
        "messageId": "m",
        "name": "paid",
        "payload": {"amount": 3},
        "sentAt": NOW,
        "place": int(NOW.timestamp() * 1000) * 2**20,
        "unread": True,
    }
    (workflow,) = raw.workflows.find()
    assert workflow["mail"] == 1


async def test_a_step_that_receives_is_a_step_to_others_and_the_message_is_read(
    store: MongoStore, raw: Database[Document]
) -> None:
    claim = await claimed(store)
    await store.send(message("m", payload=7))
    await received(store, claim, "s")
    (step,) = raw.steps.find({}, {"_id": 0})
    assert step == {
        "workflowId": "w",
        "workflowCreatedAt": int(NOW.timestamp() * 1000),
        "stepId": "s",
        "output": 7,
        "savedAt": NOW,
        "messageId": "m",
        "received": {"messageId": "m", "name": "paid", "sentAt": NOW},
    }
    (stored,) = raw.messages.find()
    assert "unread" not in stored


async def test_messages_of_one_instant_are_received_in_the_order_of_their_sender(
    store: MongoStore,
) -> None:
    claim = await claimed(store)
    for number in range(20):
        await store.send(message(f"m{number}", payload=number))
    steps = [await received(store, claim, f"s{number}") for number in range(20)]
    assert [step.output for step in steps] == list(range(20))


async def test_a_sender_whose_clock_goes_back_keeps_its_order(store: MongoStore) -> None:
    claim = await claimed(store)
    await store.send(message("first", payload=1))
    await store.send(replace(message("second", payload=2), sent_at=NOW - SECOND))
    assert (await received(store, claim, "s")).output == 1


async def test_many_sends_share_their_commands(application: Application) -> None:
    store, sent = application.store, application.sent
    await store.create_many([new(f"w{number}") for number in range(100)])
    sent.commands.clear()
    messages = [message("m", workflow_id=f"w{number}") for number in range(100)]
    assert await asyncio.gather(*map(store.send, messages)) == [True] * 100
    assert len(sent.commands) <= 12  # a read, an insert and an update for each group


async def test_workflows_that_wait_for_nothing_are_counted_up_together(
    application: Application, raw: Database[Document]
) -> None:
    store, sent = application.store, application.sent
    await store.create_many([new(name) for name in ("v", "w", "x")])
    sent.commands.clear()
    messages = [message(f"m{number}", workflow_id=name) for number, name in enumerate("vwwx")]
    assert await asyncio.gather(*map(store.send, messages)) == [True] * 4
    assert mail(raw) == {"v": 1, "w": 2, "x": 1}
    (update,) = sent.named("update")
    assert [(each["u"], each["multi"], each["hint"]) for each in update["updates"]] == [
        ({"$inc": {"mail": 1}}, True, {"_id": 1}),
        ({"$inc": {"mail": 2}}, True, {"_id": 1}),
    ]


async def test_a_workflow_that_is_parked_before_it_is_counted_with_others_is_woken(
    application: Application, raw: Database[Document]
) -> None:
    store, sent = application.store, application.sent
    await claimed(store)
    await store.create(new("v"))
    parked = {"status": "idle", "timeoutAt": FAR, "waitingFor": ["paid"]}
    sent.before["update"] = lambda: raw.workflows.update_one({"workflowId": "w"}, {"$set": parked})
    messages = [message("m", workflow_id=name) for name in ("v", "w")]
    assert await asyncio.gather(*map(store.send, messages)) == [True] * 2
    woken = raw.workflows.find_one({"workflowId": "w"}) or {}
    assert (woken["timeoutAt"], woken["mail"]) == (NOW, 1)
    assert "waitingFor" not in woken
    assert mail(raw)["v"] >= 1  # with what it was counted before


async def test_a_workflow_that_would_be_parked_after_it_was_counted_with_others_is_not(
    store: MongoStore, raw: Database[Document]
) -> None:
    claim = await claimed(store)
    await store.create(new("v"))
    empty = await store.receive(claim, "s", ["paid"], NOW, give_up=False)
    assert isinstance(empty, NoMessage)
    await asyncio.gather(*[store.send(message("m", workflow_id=name)) for name in ("v", "w")])
    await store.park_until_message(claim, FAR, ["paid"], empty.mail, NOW)
    workflow = raw.workflows.find_one({"workflowId": "w"}) or {}
    assert workflow["timeoutAt"] == NOW
    assert "waitingFor" not in workflow


async def test_a_workflow_that_was_parked_when_it_was_read_is_not_counted_with_others(
    application: Application, raw: Database[Document]
) -> None:
    store, sent = application.store, application.sent
    await parked(store)
    await store.create(new("v"))
    sent.commands.clear()
    await asyncio.gather(*[store.send(message("m", workflow_id=name)) for name in ("v", "w")])
    assert mail(raw) == {"v": 1, "w": 1}
    assert sorted(len(update["updates"]) for update in sent.named("update")) == [1, 1]


@pytest.mark.parametrize("end", [{"status": "finished"}, {"prunedAt": NOW}])
async def test_of_workflows_that_are_counted_together_one_that_has_just_ended_gets_none(
    application: Application, raw: Database[Document], end: Document
) -> None:
    store = application.store
    await store.create_many([new(name) for name in ("v", "w", "x")])
    application.sent.before["update"] = lambda: raw.workflows.update_one(
        {"workflowId": "w"}, {"$set": end}
    )
    messages = [message("m", workflow_id=name) for name in ("v", "w", "x")]
    answers = await asyncio.gather(*map(store.send, messages), return_exceptions=True)
    refusal = WorkflowEnded if "status" in end else WorkflowNotFound
    assert [type(answer) for answer in answers] == [bool, refusal, bool]
    assert mail(raw)["w"] == 0
    assert sorted(raw.messages.distinct("workflowId", {"unread": True})) == ["v", "x"]


async def test_a_message_to_a_workflow_that_is_replaced_by_another_is_not_counted_there(
    application: Application, raw: Database[Document]
) -> None:
    store = application.store
    await store.create_many([new("v"), new("w")])
    (document,) = raw.workflows.find({"workflowId": "w"}, {"_id": 0})

    def replace_it() -> None:
        raw.workflows.delete_one({"workflowId": "w"})
        raw.workflows.insert_one(document | {"createdAt": NOW + SECOND})

    application.sent.before["update"] = replace_it
    messages = [message("m", workflow_id=name) for name in ("v", "w")]
    answers = await asyncio.gather(*map(store.send, messages), return_exceptions=True)
    assert [type(answer) for answer in answers] == [bool, WorkflowEnded]
    assert mail(raw)["w"] == 0
    assert await store.find_unread("w", 10) == []


async def test_a_count_that_the_server_cannot_increase_keeps_no_message_back(
    application: Application, raw: Database[Document]
) -> None:
    store = application.store
    await store.create_many([new(name) for name in ("v", "w", "x")])
    application.sent.before["update"] = lambda: raw.workflows.update_one(
        {"workflowId": "w"}, {"$set": {"mail": None}}
    )
    messages = [message("m", workflow_id=name) for name in ("v", "w", "x")]
    assert await asyncio.gather(*map(store.send, messages)) == [True] * 3
    assert min(mail(raw).values()) >= 1


async def test_many_messages_to_one_workflow_are_counted_by_few_updates(
    application: Application, raw: Database[Document]
) -> None:
    store, sent = application.store, application.sent
    await store.create(new("w"))
    sent.commands.clear()
    messages = [message(f"m{number}") for number in range(100)]
    assert await asyncio.gather(*map(store.send, messages)) == [True] * 100
    assert raw.workflows.find_one({"workflowId": "w"}, {"mail": 1, "_id": 0}) == {"mail": 100}
    updates = sent.named("update")
    assert len(updates) <= 6
    assert all(len(update["updates"]) == 1 for update in updates)


async def test_a_message_that_another_step_has_received_is_passed_over_and_marked(
    store: MongoStore, raw: Database[Document]
) -> None:
    claim = await claimed(store)
    await store.send(message("m1", payload=1))
    await store.send(message("m2", payload=2))
    await received(store, claim, "s1")
    raw.messages.update_one({"messageId": "m1"}, {"$set": {"unread": True}})  # as if it had died
    assert (await received(store, claim, "s2")).output == 2
    assert raw.messages.count_documents({"unread": True}) == 0


async def test_a_repeat_whose_first_call_had_recorded_marks_the_message(
    store: MongoStore, raw: Database[Document]
) -> None:
    claim = await claimed(store)
    await store.send(message("m1", payload=1))
    await received(store, claim, "s1")
    raw.messages.update_one({"messageId": "m1"}, {"$set": {"unread": True}})
    assert (await received(store, claim, "s1")).output == 1
    assert raw.messages.count_documents({"unread": True}) == 0


async def test_a_workflow_that_finishes_just_before_a_message_is_counted_gets_none(
    application: Application, raw: Database[Document]
) -> None:
    store = application.store
    await claimed(store)
    application.sent.before["update"] = lambda: raw.workflows.update_one(
        {}, {"$set": {"status": "finished"}}
    )
    with pytest.raises(WorkflowEnded):
        await store.send(message())
    assert raw.messages.count_documents({"unread": True}) == 0
    with pytest.raises(WorkflowEnded):
        await store.send(message())


async def test_a_repeat_does_not_take_back_what_was_sent_before_the_workflow_finished(
    application: Application, raw: Database[Document]
) -> None:
    store = application.store
    await claimed(store)
    assert await store.send(message())
    application.sent.before["update"] = lambda: raw.workflows.update_one(
        {}, {"$set": {"status": "finished"}}
    )
    assert not await store.send(message())
    assert raw.messages.count_documents({"unread": True}) == 1
    assert not await store.send(message())


async def test_a_workflow_that_goes_just_before_a_message_is_counted_leaves_none_behind(
    application: Application, raw: Database[Document]
) -> None:
    store = application.store
    await claimed(store)
    application.sent.before["update"] = lambda: raw.workflows.delete_many({})
    with pytest.raises(WorkflowNotFound):
        await store.send(message())
    assert raw.messages.count_documents({"unread": True}) == 0


async def test_a_message_that_is_received_before_it_is_counted_was_sent(
    application: Application, raw: Database[Document]
) -> None:
    store = application.store
    await claimed(store)

    def receive_and_finish() -> None:
        found = raw.messages.find_one()
        assert found is not None
        owner = {key: found[key] for key in ("workflowId", "workflowCreatedAt", "messageId")}
        raw.steps.insert_one(owner | {"stepId": "s", "output": None})
        raw.workflows.update_one({}, {"$set": {"status": "finished"}})

    application.sent.before["update"] = receive_and_finish
    assert await store.send(message())


async def test_messages_of_a_deleted_workflow_do_not_reach_the_next_one_of_its_id(
    store: MongoStore, raw: Database[Document]
) -> None:
    await claimed(store)
    await store.send(message(payload="old"))
    raw.workflows.delete_many({})  # and its mailbox was forgotten
    await store.create(replace(new("w"), created_at=NOW + SECOND))
    (claim,) = await store.claim(
        ClaimRequest(worker="worker", now=NOW + SECOND, lease=LEASE, limit=1)
    )
    assert await store.send(message(payload="new"))
    assert (await received(store, claim, "s")).output == "new"
    assert await store.find_unread("w", 10) == []


async def test_what_waits_is_woken_and_no_longer_said_to_wait(
    store: MongoStore, raw: Database[Document]
) -> None:
    await parked(store)
    (workflow,) = raw.workflows.find()
    assert (workflow["status"], workflow["waitingFor"]) == ("idle", ["paid"])
    await store.send(replace(message(), sent_at=NOW + SECOND))
    (workflow,) = raw.workflows.find()
    assert workflow["timeoutAt"] == NOW + SECOND
    assert "waitingFor" not in workflow


async def test_a_name_may_be_one_that_the_server_would_read_as_an_expression(
    store: MongoStore, raw: Database[Document]
) -> None:
    claim = await claimed(store)
    empty = await store.receive(claim, "s", ["$status"], NOW, give_up=False)
    assert isinstance(empty, NoMessage)
    await store.park_until_message(claim, FAR, ["$status"], empty.mail, NOW)
    assert (await store.find_workflow("w") or new("w")).waiting_for == ("$status",)  # type: ignore[union-attr]
    await store.send(message(name="$status"))
    (workflow,) = raw.workflows.find()
    assert workflow["timeoutAt"] == NOW


async def test_a_mailbox_is_looked_into_once_if_nothing_was_counted_since_the_claim(
    application: Application,
) -> None:
    store, sent = application.store, application.sent
    await store.create(new("w"))
    await store.send(message("m", name="another"))
    claim = await claimed(store)
    for count, looks in ((1, 1), (2, 2)):
        sent.commands.clear()
        found = await store.receive(claim, "s", ["paid"], NOW, give_up=False)
        assert found == NoMessage(mail=count)
        assert sum(look["find"] == "messages" for look in sent.named("find")) == looks
        await store.send(message(f"m{count}", name="another"))


async def test_a_message_that_is_counted_just_after_the_first_look_is_received(
    application: Application, raw: Database[Document]
) -> None:
    store, sent = application.store, application.sent
    await store.create(new("w"))
    await store.send(message("m", name="another"))
    claim = await claimed(store)
    (stored,) = raw.messages.find({}, {"_id": 0})

    def deliver() -> None:
        raw.messages.insert_one({**stored, "messageId": "late", "name": "paid"})
        raw.workflows.update_one({}, {"$inc": {"mail": 1}})

    sent.before["find"] = lambda: sent.before.update(find=deliver)
    step = await received(store, claim, "s")
    assert step.receipt is not None
    assert step.receipt.message_id == "late"


@pytest.mark.parametrize("consumed", [0, 3000])
async def test_a_look_into_a_mailbox_reads_what_is_unread(
    store: MongoStore, raw: Database[Document], consumed: int
) -> None:
    claim = await claimed(store)
    await store.send(message("m"))
    (stored,) = raw.messages.find()
    read = {field: value for field, value in stored.items() if field not in ("_id", "unread")}
    raw.messages.insert_many(
        [read | {"messageId": f"read-{number}", "place": number} for number in range(consumed)]
        or [read | {"messageId": "read"}]
    )
    query = {
        "workflowId": "w",
        "workflowCreatedAt": stored["workflowCreatedAt"],
        "unread": True,
        "name": {"$in": ["late", "paid"]},
    }
    explained = raw.command(
        "explain",
        {"find": "messages", "filter": query, "sort": {"place": 1, "_id": 1}, "limit": 1},
        verbosity="executionStats",
    )
    assert explained["executionStats"]["totalKeysExamined"] <= 3
    assert explained["executionStats"]["totalDocsExamined"] == 1
    assert (await received(store, claim, "s", "late", "paid")).output is None


# Callbacks ----------------------------------------------------------------------------------------


async def test_a_message_that_came_too_late_is_not_found(
    store: MongoStore, raw: Database[Document]
) -> None:
    await claimed(store)
    await store.send(message())
    assert await store.find_message("w", "m") == message()
    raw.messages.update_one({}, {"$set": {"refused": True}})
    assert await store.find_message("w", "m") is None


async def test_beats_are_kept_in_the_workflow(store: MongoStore, raw: Database[Document]) -> None:
    await store.create(new("w"))
    (before,) = raw.workflows.find()
    for step_id, at in (("a", NOW), ("$beats", NOW + SECOND), ("a", NOW + SECOND), ("a", NOW)):
        await store.beat("w", step_id, at)
    (workflow,) = raw.workflows.find()
    assert workflow.pop("beats") == [
        {"stepId": "$beats", "at": NOW + SECOND},
        {"stepId": "a", "at": NOW + SECOND},
    ]
    assert workflow == before


async def test_a_beat_of_another_type_makes_its_workflow_unreadable(
    store: MongoStore, raw: Database[Document]
) -> None:
    await store.create(new("w"))
    for beats in ("now", ["now"], [{"stepId": "a"}], [{"stepId": 1, "at": NOW}]):
        raw.workflows.update_one({}, {"$set": {"beats": beats}})
        with pytest.raises(CorruptDocument, match="beats"):
            await store.find_workflow("w")


async def test_a_workflow_that_is_marked_for_deletion_has_no_beat(
    store: MongoStore, raw: Database[Document]
) -> None:
    await store.create(new("w"))
    raw.workflows.update_one({}, {"$set": {"prunedAt": NOW}})
    with pytest.raises(WorkflowNotFound):
        await store.beat("w", "s", NOW)
    assert "beats" not in (raw.workflows.find_one() or {})
