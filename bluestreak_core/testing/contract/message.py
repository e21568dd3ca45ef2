"""What `SupportsMessages` asks of a store, as a test suite; see `StoreContract`."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from contextlib import suppress
from dataclasses import replace
from datetime import datetime
from functools import partial
from typing import Any, Protocol, TypeVar

import pytest

from bluestreak_core import machine
from bluestreak_core.errors import ClaimLost, WorkflowEnded, WorkflowNotFound
from bluestreak_core.machine import Transition
from bluestreak_core.model import Claim, History, NoMessage, Status, Step, Workflow
from bluestreak_core.store import (
    ENDED,
    Store,
    SupportsForks,
    SupportsMessages,
    SupportsPruning,
    require,
)
from bluestreak_core.testing.contract.answering import AnsweringContract
from bluestreak_core.testing.contract.arrange import (
    NAMES,
    NOW,
    PAID,
    REFUSED,
    SECOND,
    Messaging,
    all_received,
    begun,
    claimed,
    claims_at,
    found,
    gather,
    id_of,
    ids_of,
    let_others_run,
    looked,
    message,
    new,
    received,
    superseded,
    waiting,
)
from bluestreak_core.testing.contract.awaiting import AwaitingContract
from bluestreak_core.testing.contract.racing import LATER, MOVES, ROUNDS, Move, Outcome, race
from bluestreak_core.testing.contract.receiving import ReceivingContract
from bluestreak_core.testing.contract.rule import rule
from bluestreak_core.testing.contract.sending import SendingContract

T = TypeVar("T")

TURNS = range(6)
"""The turns of the loop by which one call begins before the other, or before it is cancelled."""

CALLS: Mapping[str, Callable[[Messaging, Claim], Awaitable[Any]]] = {
    "send": lambda store, _: store.send(message("second")),
    "receive": lambda store, claim: store.receive(claim, "s", [PAID], NOW, give_up=False),
    "give up": lambda store, claim: store.receive(claim, "s", [REFUSED], NOW, give_up=True),
    "park": lambda store, claim: store.park_until_message(claim, LATER, [REFUSED], 1, NOW),
    "beat": lambda store, _: store.beat("w", "s", NOW),
    "release": lambda store, claim: store.park_until_message(claim, LATER, [REFUSED], 0, NOW),
}
"""The calls about messages that may be cancelled; the workflow has one unread message."""


class _Forking(Messaging, SupportsForks, Protocol):
    """A store that has this power, too."""


class _Pruning(Messaging, SupportsPruning, Protocol):
    """A store that has this power, too."""


# Calls that race, and the decisions of the state machine -----------------------------------------

SENT_AT = LATER - SECOND


async def _send(store: Store, claim: Claim) -> Outcome:
    mailboxes = require(store, SupportsMessages, "send()")
    try:
        return await mailboxes.send(message(to=claim.workflow_id, sent_at=SENT_AT))
    except WorkflowEnded:
        return WorkflowEnded


def _decide_send(workflow: Workflow, _: Claim) -> tuple[Workflow, Outcome]:
    is_new = workflow.mail == 0
    if is_new and workflow.status is Status.FINISHED:
        return workflow, WorkflowEnded
    return machine.deliver(workflow, [PAID], SENT_AT), is_new


async def _wait(store: Store, claim: Claim) -> Outcome:
    mailboxes = require(store, SupportsMessages, "park_until_message()")
    try:
        await mailboxes.park_until_message(claim, LATER, NAMES, 0, NOW)
    except ClaimLost:
        return ClaimLost
    return None


def _decide_wait(workflow: Workflow, claim: Claim) -> tuple[Workflow, Outcome]:
    if machine.in_force(workflow, claim):
        return machine.wait(workflow, LATER, NAMES, 0, NOW), None
    is_repeat = machine.has_ended_by(workflow, claim, Transition.PARK)
    return workflow, None if is_repeat else ClaimLost


SEND = Move(name="send", call=_send, decide=_decide_send)
WAIT = Move(name="park_until_message", call=_wait, decide=_decide_wait)


class MessageContract(ReceivingContract, SendingContract, AwaitingContract, AnsweringContract):
    """The tests of a store that keeps mailboxes, as a part of `StoreContract`."""

    pytestmark = pytest.mark.asyncio

    # Deleted and forked workflows ---------------------------------------------------------------

    @pytest.mark.parametrize("created_at", [NOW, NOW + SECOND])
    @rule("#deleted-workflows", SupportsMessages, SupportsPruning)
    async def test_mail_to_a_deleted_workflow_does_not_reach_the_next_one(
        self, store: _Pruning, created_at: datetime
    ) -> None:
        claim = await claimed(store, "w")
        for message_id in ("read", "unread"):
            await store.send(message(message_id))
        await received(store, claim, "s")
        await store.finish(claim, None, NOW)
        pruned = await store.prune(NOW + SECOND, ENDED, 10, NOW + SECOND)
        assert (pruned.workflows, pruned.steps, pruned.messages) == (1, 1, 2)
        with pytest.raises(WorkflowNotFound):
            await store.send(message("read"))
        await store.create(new("w", created_at=created_at))
        (again,) = await claims_at(store, created_at)
        assert list(await store.find_unread("w", 10)) == []
        assert await looked(store, again, "s") == NoMessage(mail=0)
        for message_id in ("unread", "read"):
            assert await store.send(message(message_id))
        assert await all_received(store, again, PAID) == ["unread", "read"]

    @rule("#deleted-workflows", SupportsMessages, SupportsPruning)
    async def test_a_claim_on_a_deleted_workflow_receives_nothing_from_the_next_one(
        self, store: _Pruning
    ) -> None:
        stale = await claimed(store, "w")
        await store.control("w", Transition.CANCEL, NOW)
        await store.prune(NOW + SECOND, ENDED, 10, NOW + SECOND)
        later = NOW + 2 * SECOND
        await store.create(new("w", created_at=later))
        (claim,) = await claims_at(store, later)
        await store.send(message())
        before = await found(store, "w")
        with suppress(ClaimLost):  # a store may also keep the record where nobody reads it
            await store.receive(stale, "s", [PAID], later, give_up=True)
        with pytest.raises(ClaimLost):
            await store.park_until_message(stale, LATER, NAMES, 0, later)
        assert await found(store, "w") == before
        assert await store.find_step("w", "s") is None
        assert id_of(await received(store, claim, "s")) == "m"

    @rule("SupportsForks.fork", SupportsMessages)
    async def test_a_fork_begins_with_an_empty_mailbox(self, store: _Forking) -> None:
        claim = await claimed(store, "w")
        for message_id in ("m1", "m2"):
            await store.send(message(message_id))
        step = await received(store, claim, "s1")
        given_up = await store.receive(claim, "s2", [REFUSED], NOW, give_up=True)
        assert isinstance(given_up, Step)
        await store.fork("w", "f", None, NOW)
        assert (await found(store, "f")).mail == 0
        assert list(await store.find_unread("f", 10)) == []
        (fork,) = await claims_at(store, NOW)
        assert (await store.history([fork]))["f"] == (await store.history([claim]))["w"]
        assert await looked(store, fork, "s1") == replace(step, workflow_id="f")
        assert await looked(store, fork, "s2") == replace(given_up, workflow_id="f")
        assert await looked(store, fork, "s3") == NoMessage(mail=0)
        assert await store.send(message("m1", to="f"))
        assert await all_received(store, fork, PAID) == ["m1"]
        assert await all_received(store, claim, PAID) == ["m2"]

    @rule("SupportsForks.fork", SupportsMessages)
    async def test_a_fork_before_a_receive_does_not_get_its_message(self, store: _Forking) -> None:
        claim = await claimed(store, "w")
        await store.send(message())
        await received(store, claim, "s")
        await store.fork("w", "f", "s", NOW)
        (fork,) = await claims_at(store, NOW)
        assert await store.history([fork]) == {"f": History()}
        assert await looked(store, fork, "s") == NoMessage(mail=0)

    @rule("SupportsForks.fork", SupportsMessages)
    async def test_a_fork_of_a_waiting_workflow_is_due(self, store: _Forking) -> None:
        await waiting(store, "w")
        await store.fork("w", "f", None, NOW)
        assert (await found(store, "f")).waiting_for == ()
        assert [claim.workflow_id for claim in await claims_at(store, NOW)] == ["f"]

    # Racing calls -------------------------------------------------------------------------------

    @pytest.mark.parametrize("second", [SEND, WAIT, *MOVES], ids=str)
    @rule("#atomic-calls", SupportsMessages)
    async def test_a_message_to_a_running_workflow_comes_before_or_after_another_call(
        self, store: Messaging, second: Move
    ) -> None:
        await race(store, claimed, SEND, second)

    @pytest.mark.parametrize("second", [SEND, *MOVES], ids=str)
    @rule("#atomic-calls", SupportsMessages)
    async def test_a_message_to_a_waiting_workflow_comes_before_or_after_another_call(
        self, store: Messaging, second: Move
    ) -> None:
        def begin(_: Store, workflow_id: str) -> Awaitable[Claim]:
            return waiting(store, workflow_id, until=LATER)

        await race(store, begin, SEND, second)

    @pytest.mark.parametrize("second", [WAIT, *MOVES], ids=str)
    @rule("#atomic-calls", SupportsMessages)
    async def test_a_wait_for_a_message_begins_before_or_after_another_call(
        self, store: Messaging, second: Move
    ) -> None:
        await race(store, claimed, WAIT, second)

    @pytest.mark.parametrize("turns", TURNS)
    @rule("SupportsMessages.park_until_message")
    async def test_no_workflow_is_parked_beside_a_message_that_it_waits_for(
        self, store: Messaging, turns: int
    ) -> None:
        for number in range(ROUNDS):
            claim = await claimed(store, f"w{number}")
            await asyncio.gather(
                _after(turns, partial(store.send, message(to=claim.workflow_id))),
                _after(TURNS[-1] - turns, partial(_look_and_park, store, claim)),
            )
            workflow = await found(store, claim.workflow_id)
            if workflow.status is Status.IDLE:
                assert machine.is_due(workflow, NOW)
                (claim,) = await claims_at(store, NOW)
            assert id_of(await received(store, claim, "s", *NAMES)) == "m"
            await store.finish(claim, None, NOW)

    @rule("SupportsMessages.receive")
    async def test_no_two_steps_receive_the_same_message(self, store: Messaging) -> None:
        claim = await claimed(store, "w")
        sent = [f"m{number}" for number in range(8)]
        assert all(await gather(*(store.send(message(message_id)) for message_id in sent)))
        looks = await gather(*(looked(store, claim, f"s{number}") for number in range(10)))
        assert sorted(id_of(step) for step in looks if isinstance(step, Step)) == sent
        assert [look for look in looks if isinstance(look, NoMessage)] == 2 * [NoMessage(mail=8)]

    @rule("SupportsMessages.receive")
    async def test_messages_that_come_during_a_look_are_each_received_once(
        self, store: Messaging
    ) -> None:
        claim = await claimed(store, "w")
        sent = [f"m{number}" for number in range(8)]
        looks, _ = await asyncio.gather(
            gather(*(looked(store, claim, f"s{number}") for number in range(8))),
            gather(*(store.send(message(message_id)) for message_id in sent)),
        )
        at_once = [id_of(step) for step in looks if isinstance(step, Step)]
        assert sorted(at_once + await all_received(store, claim, PAID)) == sent

    @rule("SupportsMessages.send")
    async def test_messages_of_each_sender_keep_their_order(self, store: Messaging) -> None:
        claim = await claimed(store, "w")

        async def send_all(sender: str) -> None:
            for number in (3, 1, 2):
                await store.send(message(f"{sender}{number}", NAMES[number % 2]))

        await gather(*map(send_all, "abc"))
        listed = ids_of(await store.find_unread("w", 10))
        for sender in "abc":
            own = [message_id for message_id in listed if message_id.startswith(sender)]
            assert own == [f"{sender}{number}" for number in (3, 1, 2)]
        assert await all_received(store, claim, *NAMES) == listed

    @rule("SupportsMessages.send")
    async def test_of_racing_messages_of_one_id_one_is_new(self, store: Messaging) -> None:
        claim = await claimed(store, "w")
        answers = await gather(*(store.send(message()) for _ in range(5)))
        assert sorted(answers) == [False, False, False, False, True]
        assert (await found(store, "w")).mail == 5
        assert await all_received(store, claim, PAID) == ["m"]

    @rule("SupportsMessages.receive")
    async def test_racing_attempts_of_a_step_receive_one_message(self, store: Messaging) -> None:
        stale, owner = await superseded(store, "w")
        for message_id in ("m1", "m2"):
            await store.send(message(message_id))
        steps = await gather(*(looked(store, claim, "s") for claim in [stale, owner] * 3))
        step = await received(store, owner, "s")
        assert steps == [step] * 6
        left = await all_received(store, owner, PAID)
        assert sorted([id_of(step), *left]) == ["m1", "m2"]

    @pytest.mark.parametrize("turns", TURNS)
    @rule("SupportsMessages.receive")
    async def test_a_message_that_comes_too_late_is_left(
        self, store: Messaging, turns: int
    ) -> None:
        claim = await claimed(store, "w")
        step, _ = await asyncio.gather(
            _after(turns, lambda: store.receive(claim, "s", [PAID], NOW, give_up=True)),
            _after(TURNS[-1] - turns, lambda: store.send(message())),
        )
        assert isinstance(step, Step)
        assert await looked(store, claim, "s") == step
        assert step.receipt is not None
        left = ["m"] if step.receipt.timed_out else []
        assert await all_received(store, claim, PAID) == left

    # Cancelled calls ----------------------------------------------------------------------------

    @pytest.mark.parametrize("turns", TURNS)
    @pytest.mark.parametrize("name", CALLS)
    @rule("#cancelled-calls", SupportsMessages)
    async def test_nothing_of_a_cancelled_call_about_messages_goes_on(
        self, store: Messaging, name: str, turns: int
    ) -> None:
        claim = await claimed(store, "w")
        await store.send(message())
        async with begun(CALLS[name](store, claim), turns=turns):
            pass
        left = await _all_there_is(store, claim)
        await let_others_run()
        assert await _all_there_is(store, claim) == left

    @pytest.mark.parametrize("turns", TURNS)
    @rule("SupportsMessages.send")
    async def test_a_repeat_completes_a_message_that_was_cut_off(
        self, store: Messaging, turns: int
    ) -> None:
        await waiting(store, "w")
        async with begun(store.send(message()), turns=turns):
            pass
        await store.send(message())
        (claim,) = await claims_at(store, NOW)
        assert await all_received(store, claim, PAID) == ["m"]

    @pytest.mark.parametrize("turns", TURNS)
    @rule("SupportsMessages.receive")
    async def test_a_repeat_completes_a_receive_that_was_cut_off(
        self, store: Messaging, turns: int
    ) -> None:
        claim = await claimed(store, "w")
        await store.send(message())
        async with begun(looked(store, claim, "s1"), turns=turns):
            pass
        assert id_of(await received(store, claim, "s1")) == "m"
        assert await looked(store, claim, "s2") == NoMessage(mail=1)
        assert list(await store.find_unread("w", 10)) == []


async def _after(turns: int, call: Callable[[], Awaitable[T]]) -> T:
    """Make a call after so many turns of the loop."""
    for _ in range(turns):
        await asyncio.sleep(0)
    return await call()


async def _look_and_park(store: Messaging, claim: Claim) -> None:
    """What a run does that waits for a message."""
    look = await looked(store, claim, "s", *NAMES)
    await asyncio.sleep(0)
    if isinstance(look, NoMessage):
        await store.park_until_message(claim, LATER, NAMES, look.mail, NOW)


async def _all_there_is(store: Messaging, claim: Claim) -> list[Any]:
    unread = list(await store.find_unread("w", 10))
    return [await found(store, "w"), await store.history([claim]), unread]
