"""How every store with mailboxes serves callbacks; a part of `MessageContract`."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import pytest

from bluestreak_core import machine
from bluestreak_core.errors import WorkflowEnded, WorkflowNotFound
from bluestreak_core.machine import Transition
from bluestreak_core.model import Beat, Claim, Workflow
from bluestreak_core.store import (
    ENDED,
    Store,
    SupportsForks,
    SupportsMessages,
    SupportsPruning,
    require,
)
from bluestreak_core.testing.contract.arrange import (
    ENDINGS,
    LEASE,
    MS,
    NAMES,
    NOW,
    SECOND,
    Messaging,
    claimed,
    claims_at,
    end,
    found,
    gather,
    message,
    new,
    received,
    waiting,
)
from bluestreak_core.testing.contract.racing import LATER, MOVES, Move, Outcome, race
from bluestreak_core.testing.contract.rule import Rules, rule

ODD_IDS = ("a", "A", "$a", "$$beat", "a.b", "a/b", "{}", "é", "x" * 512)


class _Forking(Messaging, SupportsForks, Protocol):
    """A store that has this power, too."""


class _Pruning(Messaging, SupportsPruning, Protocol):
    """A store that has this power, too."""


async def _beat(store: Store, claim: Claim) -> Outcome:
    mailboxes = require(store, SupportsMessages, "beat()")
    try:
        await mailboxes.beat(claim.workflow_id, "s", LATER)
    except WorkflowEnded:
        return WorkflowEnded
    return None


def _decide_beat(workflow: Workflow, _: Claim) -> tuple[Workflow, Outcome]:
    if workflow.status.ended:
        return workflow, WorkflowEnded
    return machine.beat(workflow, "s", LATER), None


BEAT = Move(name="beat", call=_beat, decide=_decide_beat)


class AnsweringContract(Rules):
    """The tests of `find_message` and `beat`."""

    # The answer that counts ---------------------------------------------------------------------

    @rule("SupportsMessages.find_message")
    async def test_a_message_is_found_whether_or_not_it_was_received(
        self, store: Messaging
    ) -> None:
        claim = await claimed(store, "w")
        sent = message("m", payload={"a": [1]}, sent_at=NOW + MS)
        await store.send(message("other"))
        await store.send(sent)
        assert await store.find_message("w", "m") == sent
        for step_id in "st":
            await received(store, claim, step_id)
        assert await store.find_message("w", "m") == sent
        await store.finish(claim, None, NOW)
        assert await store.find_message("w", "m") == sent

    @rule("SupportsMessages.find_message")
    async def test_a_message_that_was_not_sent_is_not_found(self, store: Messaging) -> None:
        await claimed(store, "w")
        await store.create(new("v"))
        await store.send(message("m"))
        for workflow_id, message_id in (("w", "M"), ("w", "paid"), ("v", "m"), ("x", "m")):
            assert await store.find_message(workflow_id, message_id) is None

    @pytest.mark.parametrize("is_read", [True, False])
    @rule("SupportsMessages.find_message")
    async def test_of_messages_of_one_id_the_first_is_found(
        self, store: Messaging, *, is_read: bool
    ) -> None:
        claim = await claimed(store, "w")
        first = message(payload="first")
        await store.send(first)
        if is_read:
            await received(store, claim, "s")
        await store.send(message(name="another", payload="second", sent_at=NOW + SECOND))
        assert await store.find_message("w", "m") == first

    @rule("SupportsMessages.find_message")
    async def test_a_message_that_was_refused_is_not_found(self, store: Messaging) -> None:
        claim = await claimed(store, "w")
        await store.finish(claim, None, NOW)
        with pytest.raises(WorkflowEnded):
            await store.send(message())
        assert await store.find_message("w", "m") is None

    @rule("#values", SupportsMessages)
    async def test_no_message_that_is_found_is_shared(self, store: Messaging) -> None:
        await claimed(store, "w")
        await store.send(message(payload={"list": [1]}))
        for _ in range(2):
            found_message = await store.find_message("w", "m")
            assert found_message is not None
            assert found_message.payload == {"list": [1]}
            found_message.payload["list"].append(2)

    @rule("#deleted-workflows", SupportsMessages, SupportsPruning)
    async def test_a_message_to_a_deleted_workflow_is_not_found(self, store: _Pruning) -> None:
        claim = await claimed(store, "w")
        await store.send(message())
        await store.finish(claim, None, NOW)
        await store.prune(NOW + SECOND, ENDED, 10, NOW + SECOND)
        assert await store.find_message("w", "m") is None
        await store.create(new("w", created_at=NOW + SECOND))
        assert await store.find_message("w", "m") is None

    # Signs of life ------------------------------------------------------------------------------

    @rule("SupportsMessages.beat")
    async def test_the_last_beat_of_each_step_is_kept(self, store: Messaging) -> None:
        await claimed(store, "w")
        expected = await found(store, "w")
        for step_id, at in (("a", NOW), ("b", NOW + MS), ("a", NOW + SECOND), ("c", NOW)):
            await store.beat("w", step_id, at)
            expected = machine.beat(expected, step_id, at)
            assert await found(store, "w") == expected
        assert {beat.step_id: beat.at for beat in expected.beats} == {
            "a": NOW + SECOND,
            "b": NOW + MS,
            "c": NOW,
        }

    @rule("SupportsMessages.beat")
    async def test_a_beat_that_comes_late_takes_nothing_back(self, store: Messaging) -> None:
        await claimed(store, "w")
        await store.beat("w", "s", NOW + SECOND)
        before = await found(store, "w")
        for at in (NOW + SECOND, NOW):
            await store.beat("w", "s", at)
        assert await found(store, "w") == before

    @rule("#ids", SupportsMessages)
    async def test_beats_of_any_ids_are_kept_apart(self, store: Messaging) -> None:
        await claimed(store, "w")
        for number, odd in enumerate(ODD_IDS):
            await store.beat("w", odd, NOW + number * MS)
        assert (await found(store, "w")).beats == tuple(
            Beat(step_id=odd, at=NOW + number * MS) for number, odd in enumerate(ODD_IDS)
        )

    @rule("SupportsMessages.beat")
    async def test_a_beat_wakes_nobody(self, store: Messaging) -> None:
        await waiting(store, "w")
        before = await found(store, "w")
        await store.beat("w", "s", NOW)
        assert await found(store, "w") == replace(before, beats=(Beat(step_id="s", at=NOW),))
        assert await claims_at(store, NOW + LEASE - MS) == []
        (claim,) = await claims_at(store, NOW + LEASE)
        assert claim.workflow.beats == (Beat(step_id="s", at=NOW),)

    @rule("SupportsMessages.beat")
    async def test_a_beat_leaves_a_running_workflow_to_its_claim(self, store: Messaging) -> None:
        claim = await claimed(store, "w")
        await store.beat("w", "s", NOW)
        assert await store.renew([claim], NOW, LEASE) == []
        await store.park_until_message(claim, NOW + LEASE, NAMES, 0, NOW)
        assert (await found(store, "w")).beats == (Beat(step_id="s", at=NOW),)

    @pytest.mark.parametrize("event", [*ENDINGS, Transition.CANCEL, Transition.PAUSE])
    @rule("SupportsMessages.beat")
    async def test_a_beat_for_a_workflow_that_has_ended_is_refused(
        self, store: Messaging, event: Transition
    ) -> None:
        claim = await claimed(store, "w")
        if event in machine.CONTROL:
            await store.control("w", event, NOW)
        else:
            await end(store, claim, event)
        before = await found(store, "w")
        if machine.target(event).ended:
            with pytest.raises(WorkflowEnded, match="'w'"):
                await store.beat("w", "s", NOW)
            assert await found(store, "w") == before
        else:
            await store.beat("w", "s", NOW)
            assert await found(store, "w") == machine.beat(before, "s", NOW)

    @rule("SupportsMessages.beat")
    async def test_a_beat_for_a_workflow_that_does_not_exist_is_refused(
        self, store: Messaging
    ) -> None:
        with pytest.raises(WorkflowNotFound, match="'w'"):
            await store.beat("w", "s", NOW)
        await store.create(new("w"))
        assert (await found(store, "w")).beats == ()

    @rule("SupportsForks.fork", SupportsMessages)
    async def test_a_fork_begins_without_beats(self, store: _Forking) -> None:
        await claimed(store, "w")
        await store.beat("w", "s", NOW)
        await store.fork("w", "f", None, NOW)
        assert (await found(store, "f")).beats == ()

    @pytest.mark.parametrize("second", [BEAT, *MOVES], ids=str)
    @rule("#atomic-calls", SupportsMessages)
    async def test_a_beat_comes_before_or_after_another_call(
        self, store: Messaging, second: Move
    ) -> None:
        await race(store, claimed, BEAT, second)

    @rule("#atomic-calls", SupportsMessages)
    async def test_no_beat_undoes_another(self, store: Messaging) -> None:
        await claimed(store, "w")
        await gather(*(store.beat("w", f"s{number % 4}", NOW + number * MS) for number in range(8)))
        beats = {beat.step_id: beat.at for beat in (await found(store, "w")).beats}
        assert beats == {f"s{number % 4}": NOW + number * MS for number in range(4, 8)}
