"""How every store with mailboxes takes messages; a part of `MessageContract`."""

from __future__ import annotations

from dataclasses import replace
from typing import Any, Protocol

import pytest

from bluestreak_core import machine
from bluestreak_core.errors import (
    InvalidArgument,
    UnstorableValue,
    Unsupported,
    ValueTooLarge,
    WorkflowEnded,
    WorkflowNotFound,
)
from bluestreak_core.machine import Transition
from bluestreak_core.model import Claim, NoMessage
from bluestreak_core.store import (
    MAX_VALUE_BYTES,
    Store,
    SupportsMessages,
    SupportsTransactions,
    supports,
)
from bluestreak_core.testing.contract.arrange import (
    ENDINGS,
    LEASE,
    MS,
    NOW,
    PAID,
    REFUSED,
    SECOND,
    Messaging,
    all_received,
    claimed,
    claims_at,
    end,
    found,
    id_of,
    ids_of,
    looked,
    message,
    new,
    received,
    waiting,
)
from bluestreak_core.testing.contract.rule import rule
from bluestreak_core.testing.contract.transaction import Application, ApplicationRules
from bluestreak_core.testing.contract.value import UNSTORABLE

NOT_WAITING = [
    *(event for event in ENDINGS if event is not Transition.FINISH),
    *(Transition.CANCEL, Transition.PAUSE),
]
"""What has happened last to a workflow that waits for no message, and has not finished."""
WHAT = "payload of message 'paid' to workflow 'w'"
"""The name of a payload in the error that refuses it."""


class _Transacting(Messaging, SupportsTransactions, Protocol):
    """A store that has this power, too."""


class SendingContract(ApplicationRules):
    """The tests of `send`, `send_in` and `find_unread`.

    With `SupportsTransactions`, they need the fixture `application`.
    """

    @rule("SupportsMessages.send")
    async def test_a_repeated_message_is_received_once(self, store: Messaging) -> None:
        claim = await claimed(store, "w")
        assert await store.send(message(payload="first"))
        assert not await store.send(message(payload="second"))
        assert (await received(store, claim, "s1")).output == "first"
        assert not await store.send(message(payload="third"))
        assert await looked(store, claim, "s2") == NoMessage(mail=3)
        assert list(await store.find_unread("w", 10)) == []

    @rule("SupportsMessages.send")
    async def test_one_message_id_serves_many_workflows(self, store: Messaging) -> None:
        first, second = await claimed(store, "w"), await claimed(store, "w:x")
        assert await store.send(message("m", payload=1))
        assert await store.send(message("m", payload=2, to="w:x"))
        assert await store.send(message("x:m", payload=3))
        assert (await received(store, second, "s")).output == 2
        assert [(await received(store, first, step_id)).output for step_id in "st"] == [1, 3]

    @rule("SupportsMessages.send")
    async def test_a_message_to_a_workflow_that_does_not_exist_is_refused(
        self, store: Messaging
    ) -> None:
        with pytest.raises(WorkflowNotFound, match="'w'"):
            await store.send(message())
        claim = await claimed(store, "w")
        assert await looked(store, claim, "s") == NoMessage(mail=0)
        assert await store.send(message())

    @rule("SupportsMessages.send")
    async def test_a_message_to_a_finished_workflow_is_refused(self, store: Messaging) -> None:
        claim = await claimed(store, "w")
        await store.send(message("before"))
        await store.finish(claim, "result", NOW)
        before = await found(store, "w")
        with pytest.raises(WorkflowEnded, match="'w'"):
            await store.send(message("after"))
        assert await found(store, "w") == before
        assert ids_of(await store.find_unread("w", 10)) == ["before"]

    @pytest.mark.parametrize("is_read", [True, False])
    @rule("SupportsMessages.send")
    async def test_a_message_that_came_before_the_end_may_be_repeated_after_it(
        self, store: Messaging, *, is_read: bool
    ) -> None:
        claim = await claimed(store, "w")
        await store.send(message())
        if is_read:
            await received(store, claim, "s")
        await store.finish(claim, "result", NOW)
        before = await found(store, "w")
        assert not await store.send(message(sent_at=NOW - SECOND))
        after = await found(store, "w")
        assert replace(after, mail=before.mail) == before

    @pytest.mark.parametrize("event", [Transition.ABORT, Transition.CANCEL])
    @rule("SupportsMessages.send")
    async def test_mail_is_kept_for_a_retry(self, store: Messaging, event: Transition) -> None:
        claim = await claimed(store, "w")
        await store.send(message("m2"))
        await _move(store, claim, event)
        assert await store.send(message("m1"))
        await store.control("w", Transition.RETRY, NOW + 3 * SECOND)
        assert not await store.send(message("m2"))
        (again,) = await claims_at(store, NOW + 3 * SECOND)
        assert await all_received(store, again, PAID) == ["m2", "m1"]

    @rule("SupportsMessages.send")
    async def test_a_message_leaves_a_running_workflow_to_its_claim(self, store: Messaging) -> None:
        claim = await claimed(store, "w")
        await store.send(message())
        assert await found(store, "w") == replace(claim.workflow, mail=1)
        assert await claims_at(store, NOW + LEASE - MS) == []
        assert await store.renew([claim], NOW, LEASE) == []

    @pytest.mark.parametrize("event", NOT_WAITING)
    @rule("SupportsMessages.send")
    async def test_a_message_is_only_counted_if_the_workflow_waits_for_none(
        self, store: Messaging, event: Transition
    ) -> None:
        claim = await claimed(store, "w")
        await _move(store, claim, event)
        before = await found(store, "w")
        assert await store.send(message())
        assert await found(store, "w") == replace(before, mail=1)

    @rule("SupportsMessages.send")
    async def test_a_message_does_not_start_a_workflow_before_its_time(
        self, store: Messaging
    ) -> None:
        await store.create(replace(new("w"), start_at=NOW + LEASE))
        assert await store.send(message())
        assert await claims_at(store, NOW + LEASE - MS) == []
        (claim,) = await claims_at(store, NOW + LEASE)
        assert id_of(await received(store, claim, "s")) == "m"

    @rule("SupportsMessages.find_unread")
    async def test_unread_messages_are_listed_in_order_without_their_payloads(
        self, store: Messaging
    ) -> None:
        claim = await claimed(store, "w")
        sent = [
            message("c", PAID, 1),
            message("b", REFUSED, 2),
            message("a", PAID, 3),
            message("d", PAID, 4, sent_at=NOW + MS),
        ]
        for each in sent:
            await store.send(each)
        listed = [replace(each, payload=None) for each in sent]
        assert list(await store.find_unread("w", 10)) == listed
        assert list(await store.find_unread("w", 3)) == listed[:3]
        await received(store, claim, "s", REFUSED)
        assert ids_of(await store.find_unread("w", 2)) == ["c", "a"]
        assert list(await store.find_unread("no such workflow", 10)) == []

    @pytest.mark.parametrize("name", UNSTORABLE)
    @rule("#values", SupportsMessages)
    async def test_an_unstorable_payload_is_refused(self, store: Messaging, name: str) -> None:
        value, path, type_name = UNSTORABLE[name]
        await waiting(store, "w")
        before = await found(store, "w")
        with pytest.raises(UnstorableValue, match=WHAT) as refused:
            await store.send(message(payload=value))
        assert (refused.value.path, refused.value.type_name) == (path, type_name)
        assert await found(store, "w") == before
        assert list(await store.find_unread("w", 10)) == []

    @rule("#values", SupportsMessages)
    async def test_a_payload_that_is_too_large_is_refused(self, store: Messaging) -> None:
        await waiting(store, "w")
        before = await found(store, "w")
        with pytest.raises(ValueTooLarge, match=WHAT) as refused:
            await store.send(message(payload="x" * (MAX_VALUE_BYTES - 4)))
        assert (refused.value.size, refused.value.limit) == (MAX_VALUE_BYTES + 1, MAX_VALUE_BYTES)
        assert await found(store, "w") == before
        assert list(await store.find_unread("w", 10)) == []

    # Inside a transaction of the caller's ------------------------------------------------------

    @rule("SupportsMessages.send_in", SupportsTransactions)
    async def test_a_message_is_sent_when_the_caller_commits(
        self, store: _Transacting, application: Application
    ) -> None:
        await waiting(store, "w")
        before = await found(store, "w")
        async with application.transaction() as session:
            await application.write(session, "entry")
            assert await store.send_in(session, message("m2"))
            assert await store.send_in(session, message("m1"))
            assert list(await store.find_unread("w", 10)) == []
            assert await found(store, "w") == before
        assert await found(store, "w") == machine.deliver(before, [PAID, PAID], NOW)
        assert await application.entries() == ["entry"]
        (claim,) = await claims_at(store, NOW)
        assert await all_received(store, claim, PAID) == ["m2", "m1"]

    @rule("SupportsMessages.send_in", SupportsTransactions)
    async def test_a_message_is_not_sent_where_the_caller_rolls_back(
        self, store: _Transacting, application: Application
    ) -> None:
        await waiting(store, "w")
        before = await found(store, "w")

        async def fail() -> None:
            async with application.transaction() as session:
                await store.send_in(session, message())
                raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await fail()
        assert await found(store, "w") == before
        assert list(await store.find_unread("w", 10)) == []
        assert await store.send(message())

    @rule("SupportsMessages.send_in", SupportsTransactions)
    async def test_a_message_that_a_transaction_repeats_is_received_once(
        self, store: _Transacting, application: Application
    ) -> None:
        claim = await claimed(store, "w")
        await store.send(message("old"))
        async with application.transaction() as session:
            assert not await store.send_in(session, message("old"))
            assert await store.send_in(session, message("new"))
            assert not await store.send_in(session, message("new"))
        assert not await store.send(message("new"))
        assert await all_received(store, claim, PAID) == ["old", "new"]

    @rule("SupportsMessages.send_in", SupportsTransactions)
    async def test_a_message_that_is_refused_is_refused_in_a_transaction(
        self, store: _Transacting, application: Application
    ) -> None:
        claim = await claimed(store, "w")
        with pytest.raises(WorkflowNotFound, match="'no such workflow'"):
            async with application.transaction() as session:
                await store.send_in(session, message(to="no such workflow"))
        with pytest.raises(UnstorableValue, match=WHAT):
            async with application.transaction() as session:
                await store.send_in(session, message(payload=object()))
        await store.send(message("before"))
        await store.finish(claim, None, NOW)
        async with application.transaction() as session:
            assert not await store.send_in(session, message("before"))
        with pytest.raises(WorkflowEnded, match="'w'"):
            async with application.transaction() as session:
                await store.send_in(session, message("after"))
        assert ids_of(await store.find_unread("w", 10)) == ["before"]

    @rule("SupportsMessages.send_in", SupportsTransactions)
    async def test_a_transaction_may_send_to_the_workflow_that_it_creates(
        self, store: _Transacting, application: Application
    ) -> None:
        async with application.transaction() as session:
            assert await store.create_in(session, new("w"))
            assert await store.send_in(session, message(payload="payload"))
        (claim,) = await claims_at(store, NOW)
        assert claim.workflow.mail == 1
        assert (await received(store, claim, "s")).output == "payload"

    @rule("SupportsMessages.send_in", SupportsTransactions)
    async def test_a_message_is_sent_with_the_step_of_a_transaction(
        self, store: _Transacting, application: Application
    ) -> None:
        claim, other = await claimed(store, "w"), await claimed(store, "other")

        async def send(session: Any) -> bool:
            await application.write(session, "entry")
            return await store.send_in(session, message(to="other"))

        async def fail(session: Any) -> None:
            await send(session)
            raise ZeroDivisionError

        with pytest.raises(ZeroDivisionError):
            await store.transact(claim, "s", fail, lambda: NOW)
        assert await looked(store, other, "s") == NoMessage(mail=0)
        for _ in range(2):
            assert await store.transact(claim, "s", send, lambda: NOW) is True
        assert await application.entries() == ["entry"]
        assert await all_received(store, other, PAID) == ["m"]

    @rule("SupportsMessages.send_in", SupportsTransactions)
    async def test_a_message_is_sent_only_in_a_session_under_way(
        self, store: _Transacting, application: Application
    ) -> None:
        await store.create(new("w"))
        async with application.transaction() as over:
            pass
        for bad in (over, None, "session", object()):
            with pytest.raises(InvalidArgument, match="session"):
                await store.send_in(bad, message())
        assert list(await store.find_unread("w", 10)) == []

    @rule("SupportsMessages.send_in")
    async def test_a_store_without_transactions_sends_in_none(self, store: Messaging) -> None:
        if not supports(store, SupportsTransactions):
            await store.create(new("w"))
            with pytest.raises(Unsupported):
                await store.send_in(object(), message())
            assert list(await store.find_unread("w", 10)) == []


async def _move(store: Store, claim: Claim, event: Transition) -> None:
    if event in machine.CONTROL:
        await store.control(claim.workflow_id, event, NOW + SECOND)
    else:
        await end(store, claim, event)
