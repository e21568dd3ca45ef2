"""How every store with mailboxes lets workflows wait for messages; a part of `MessageContract`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import Protocol

import pytest

from bluestreak_core import machine
from bluestreak_core.errors import ClaimLost
from bluestreak_core.machine import Transition
from bluestreak_core.model import Claim, NoMessage, Status
from bluestreak_core.store import Query, Store, SupportsMessages, SupportsSearch
from bluestreak_core.testing.contract.arrange import (
    LEASE,
    LONG,
    MS,
    NAMES,
    NOW,
    PAID,
    REFUSED,
    SECOND,
    Messaging,
    begun,
    claimed,
    claims_at,
    found,
    id_of,
    looked,
    message,
    new,
    received,
    waiting,
)
from bluestreak_core.testing.contract.rule import Rules, rule

LATER = NOW + LEASE


class _Searching(Messaging, SupportsSearch, Protocol):
    """A store that has this power, too."""


class AwaitingContract(Rules):
    """The tests of `park_until_message` and `wait_for_message`, and of what wakes a workflow."""

    @rule("SupportsMessages.park_until_message")
    async def test_a_workflow_that_waits_for_a_message_is_parked(self, store: Messaging) -> None:
        claim = await claimed(store, "w")
        await store.send(message(name="other"))
        before = await found(store, "w")
        await store.park_until_message(claim, LATER + MS, NAMES, 1, NOW)
        after = await found(store, "w")
        assert after == machine.wait(before, LATER + MS, NAMES, 1, NOW)
        assert (after.waiting_for, after.timeout_at) == (NAMES, LATER + MS)
        assert await claims_at(store, LATER) == []
        (again,) = await claims_at(store, LATER + MS)
        assert (again.workflow.waiting_for, again.workflow.crashes) == ((), 0)
        assert await found(store, "w") == again.workflow

    @rule("SupportsMessages.park_until_message")
    async def test_a_workflow_is_released_if_mail_has_come_since_the_look(
        self, store: Messaging
    ) -> None:
        claim = await claimed(store, "w")
        look = await looked(store, claim, "s", *NAMES)
        assert isinstance(look, NoMessage)
        await store.send(message())
        before = await found(store, "w")
        await store.park_until_message(claim, LATER, NAMES, look.mail, NOW + SECOND)
        assert await found(store, "w") == machine.release(before, NOW + SECOND)
        (again,) = await claims_at(store, NOW + SECOND)
        assert id_of(await received(store, again, "s", *NAMES)) == "m"

    @pytest.mark.parametrize("meanwhile", ["nothing", "mail before", "mail after", "a claim"])
    @rule("SupportsMessages.park_until_message")
    async def test_a_repeated_wait_changes_nothing(self, store: Messaging, meanwhile: str) -> None:
        claim = await claimed(store, "w")
        if meanwhile == "mail before":
            await store.send(message())
        await store.park_until_message(claim, LATER, NAMES, 0, NOW)
        if meanwhile == "mail after":
            await store.send(message())
        elif meanwhile == "a claim":
            assert len(await claims_at(store, LATER)) == 1
        before = await found(store, "w")
        await store.park_until_message(claim, LATER, NAMES, 0, NOW + SECOND)
        assert await found(store, "w") == before

    @pytest.mark.parametrize("mail", [0, 1])
    @pytest.mark.parametrize("by", [Transition.CLAIM, Transition.FINISH, Transition.PAUSE])
    @rule("SupportsMessages.park_until_message")
    async def test_a_stale_caller_cannot_wait(
        self, store: Messaging, by: Transition, mail: int
    ) -> None:
        claim = await claimed(store, "w")
        await store.send(message())
        match by:
            case Transition.CLAIM:
                assert len(await claims_at(store, LATER)) == 1
            case Transition.FINISH:
                await store.finish(claim, None, NOW)
            case _:
                await store.control("w", by, NOW)
        before = await found(store, "w")
        with pytest.raises(ClaimLost):
            await store.park_until_message(claim, LATER, NAMES, mail, NOW)
        assert await found(store, "w") == before

    # What wakes it -----------------------------------------------------------------------------

    @pytest.mark.parametrize("name", NAMES)
    @rule("SupportsMessages.send")
    async def test_a_message_wakes_the_workflow_that_waits_for_it(
        self, store: Messaging, name: str
    ) -> None:
        await waiting(store, "w")
        before = await found(store, "w")
        assert await store.send(message(name=name, sent_at=NOW + MS))
        assert await found(store, "w") == machine.deliver(before, [name], NOW + MS)
        assert await claims_at(store, NOW) == []
        (again,) = await claims_at(store, NOW + MS)
        assert id_of(await received(store, again, "s", *NAMES)) == "m"

    @rule("SupportsMessages.send")
    async def test_a_repeated_message_wakes_all_the_same(self, store: Messaging) -> None:
        claim = await claimed(store, "w")
        await store.send(message())
        await received(store, claim, "s")
        await store.park_until_message(claim, LATER, NAMES, 1, NOW)
        before = await found(store, "w")
        assert before.waiting_for == NAMES
        assert not await store.send(message())
        assert await found(store, "w") == machine.deliver(before, [PAID], NOW)
        assert len(await claims_at(store, NOW)) == 1

    @rule("SupportsMessages.send")
    async def test_a_message_of_another_name_does_not_wake(self, store: Messaging) -> None:
        await waiting(store, "w")
        before = await found(store, "w")
        await store.send(message(name="other"))
        assert await found(store, "w") == replace(before, mail=1)
        assert await claims_at(store, LATER - MS) == []

    @rule("SupportsMessages.send")
    async def test_a_message_does_not_put_off_what_is_due(self, store: Messaging) -> None:
        await waiting(store, "w", until=LATER)
        await store.send(message(sent_at=LATER + SECOND))
        workflow = await found(store, "w")
        assert (workflow.timeout_at, workflow.waiting_for) == (LATER, ())
        assert len(await claims_at(store, LATER)) == 1

    @rule("SupportsMessages.send")
    async def test_a_paused_workflow_that_a_message_wakes_is_due_once_it_is_resumed(
        self, store: Messaging
    ) -> None:
        await waiting(store, "w")
        await store.control("w", Transition.PAUSE, NOW)
        before = await found(store, "w")
        assert before.waiting_for == NAMES
        await store.send(message())
        assert await found(store, "w") == machine.deliver(before, [PAID], NOW)
        assert await claims_at(store, LATER) == []
        await store.control("w", Transition.RESUME, NOW)
        assert len(await claims_at(store, NOW)) == 1

    @rule("Store.control", SupportsMessages)
    async def test_a_workflow_goes_on_waiting_after_a_pause(self, store: Messaging) -> None:
        await waiting(store, "w", until=LATER)
        await store.control("w", Transition.PAUSE, NOW)
        await store.control("w", Transition.RESUME, NOW)
        assert await claims_at(store, LATER - MS) == []
        resumed = await found(store, "w")
        assert (resumed.waiting_for, resumed.timeout_at) == (NAMES, LATER)
        await store.send(message())
        assert len(await claims_at(store, NOW)) == 1

    @rule("Store.control", SupportsMessages)
    async def test_a_cancelled_workflow_waits_for_no_message(self, store: Messaging) -> None:
        await waiting(store, "w")
        await store.control("w", Transition.CANCEL, NOW, "why")
        before = await found(store, "w")
        assert (before.status, before.waiting_for) == (Status.CANCELLED, ())
        await store.send(message(sent_at=NOW - SECOND))
        assert await found(store, "w") == replace(before, mail=1)

    @rule("SupportsSearch.find_page", SupportsMessages)
    async def test_a_workflow_is_found_by_the_messages_that_it_waits_for(
        self, store: _Searching
    ) -> None:
        another = await claimed(store, "waiting for another")
        for name in ("claimed", "woken", "waiting"):
            await waiting(store, name)
        await store.send(message(to="claimed"))
        assert len(await claims_at(store, NOW)) == 1
        await store.send(message(to="woken"))
        await store.create(new("new", created_at=LATER))
        await store.park_until_message(another, LATER, [REFUSED], 0, NOW)
        for name, expected in (
            (PAID, {"waiting": NAMES}),
            (REFUSED, {"waiting": NAMES, "waiting for another": (REFUSED,)}),
            ("Paid", {}),
        ):
            page = await store.find_page(Query(waiting_for=name), None, 10)
            found_by_name = {summary.workflow_id: summary.waiting_for for summary in page}
            assert found_by_name == expected

    # Hints -------------------------------------------------------------------------------------

    @rule("SupportsMessages.wait_for_message")
    async def test_a_message_ends_a_wait_for_it(self, store: Messaging) -> None:
        await store.create(new("w"))
        async with (
            begun(_until_mail(store, "w")) as waiting,
            begun(store.send(message()), turns=1) as sending,
        ):
            await waiting
            assert await sending

    @rule("SupportsMessages.wait_for_message")
    async def test_a_message_between_a_look_and_the_wait_ends_the_wait(
        self, store: Messaging
    ) -> None:
        await store.create(new("w"))
        await store.send(message())
        assert await store.wait_for_message("w", 0, LONG)
        await store.send(message())
        assert await store.wait_for_message("w", 1, LONG)

    @rule("SupportsMessages.wait_for_message")
    async def test_a_wait_for_a_message_times_out(self, store: Messaging) -> None:
        await store.create(new("w"))
        assert await _comes_to_rest(store, "w", 0)
        await store.send(message())
        assert await _comes_to_rest(store, "w", 1)
        assert isinstance(await store.wait_for_message("none", 0, timedelta(0)), bool)

    @rule("Store.wait_for_work", SupportsMessages)
    async def test_a_workflow_that_a_message_wakes_ends_a_wait_for_work(
        self, store: Messaging
    ) -> None:
        now = store.clock.now()
        await store.create(new("w", created_at=now))
        (claim,) = await claims_at(store, now)
        await store.park_until_message(claim, now + LONG, NAMES, 0, now)
        assert await claims_at(store, now) == []
        async with begun(_until_claimed(store)) as again:
            await store.send(message(sent_at=store.clock.now()))
            assert (await again).number == 2


async def _until_mail(store: Messaging, workflow_id: str) -> None:
    while (await found(store, workflow_id)).mail == 0:
        await store.wait_for_message(workflow_id, 0, LONG)
        await asyncio.sleep(0)  # for the time limit, if the wait returns at once each time


async def _comes_to_rest(store: Messaging, workflow_id: str, mail: int) -> bool:
    """Whether a wait for a message that has not come times out, after a few hints for nothing."""
    for _ in range(10):
        if not await store.wait_for_message(workflow_id, mail, timedelta(0)):
            return True
    return False


async def _until_claimed(store: Store) -> Claim:
    while not (claims := await claims_at(store, store.clock.now())):
        await store.wait_for_work(2 * LONG)
    return claims[0]
