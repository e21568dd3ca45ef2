"""What reaches the next generation of a workflow, and what does not; see `RestartContract`."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import replace
from typing import Any, Protocol

import pytest

from bluestreak_core.errors import ClaimLost
from bluestreak_core.machine import Transition
from bluestreak_core.model import (
    Attempt,
    Claim,
    FailedStep,
    History,
    Nap,
    NoMessage,
    Published,
    Step,
)
from bluestreak_core.store import (
    ENDED,
    Records,
    Store,
    SupportsForks,
    SupportsMessages,
    SupportsPruning,
    SupportsPublishing,
    SupportsRestart,
    SupportsSearch,
    SupportsTransactions,
)
from bluestreak_core.testing.contract.arrange import (
    ERROR,
    LEASE,
    NOW,
    PAID,
    SECOND,
    all_received,
    attempt,
    claimed,
    claims_at,
    found,
    id_of,
    looked,
    message,
    new,
    received,
    superseded,
    waiting,
)
from bluestreak_core.testing.contract.racing import LATER
from bluestreak_core.testing.contract.rule import Rules, rule


class Restarting(Store, SupportsRestart, Protocol):
    """A store that restarts workflows."""


class _Searching(Restarting, SupportsSearch, Protocol):
    """A store that has this power, too."""


class _Messaging(Restarting, SupportsMessages, Protocol):
    """A store that has this power, too."""


class _Publishing(Restarting, SupportsPublishing, Protocol):
    """A store that has this power, too."""


class _Forking(_Searching, SupportsForks, Protocol):
    """A store that has this power, too."""


class _Pruning(_Searching, SupportsPruning, Protocol):
    """A store that has this power, too."""


class _Transacting(Restarting, SupportsTransactions, Protocol):
    """A store that has this power, too."""


class GenerationContract(Rules):
    """The tests of records, messages, forks and deletion."""

    # Its records ----------------------------------------------------------------------------------

    @rule("SupportsRestart.restart", SupportsSearch)
    async def test_a_restarted_workflow_has_no_records(self, store: _Searching) -> None:
        claim = await claimed(store, "w")
        await record_each(store, claim, "old")
        await store.restart(claim, None, (), NOW + SECOND)
        assert await store.find_step("w", "s") is None
        assert await store.find_nap("w", "n") is None
        assert await store.records("w") == Records()
        (again,) = await claims_at(store, NOW + SECOND)
        assert await store.history([again]) == {"w": History()}

    @pytest.mark.parametrize("when", ["before the restart", "before the claim", "after it"])
    @pytest.mark.parametrize("who", ["the last one", "a stale one"])
    @rule("SupportsRestart.restart", SupportsSearch)
    async def test_records_of_the_last_generation_do_not_reach_the_next_one(
        self, store: _Searching, who: str, when: str
    ) -> None:
        stale, owner = await superseded(store, "w")
        late = owner if who == "the last one" else stale
        if when == "before the restart":
            await record_each(store, late, "old")
        await store.restart(owner, None, (), LATER)
        if when == "before the claim":
            await record_each(store, late, "late")
            assert await store.find_step("w", "s") is None
            assert await store.records("w") == Records()
        (claim,) = await claims_at(store, LATER)
        assert await store.history([claim]) == {"w": History()}
        for _ in range(2):
            step, nap, tried = await record_each(store, claim, "new")
        if when == "after it":
            await record_each(store, late, "late")
        expected = History(steps={"s": "new"}, naps={"n": NOW}, attempts={"t": tried})
        assert await store.history([claim]) == {"w": expected}
        assert await store.find_step("w", "s") == step
        assert await store.find_nap("w", "n") == nap
        assert await store.records("w") == Records(steps=(step,), naps=(nap,), attempts=(tried,))

    @rule("SupportsRestart.restart")
    async def test_a_record_of_the_last_generation_is_no_progress(self, store: Restarting) -> None:
        claim = await claimed(store, "w")
        await store.restart(claim, None, (), NOW)
        await claims_at(store, NOW)
        await claims_at(store, NOW + LEASE)
        before = await found(store, "w")
        assert before.crashes == 1
        await record_each(store, claim, "late")
        with pytest.raises(ClaimLost):
            await store.fail_step(
                claim, FailedStep(step_id="s", error=ERROR, attempts=1, failed_at=NOW)
            )
        assert await found(store, "w") == before

    @rule("SupportsRestart.restart", SupportsTransactions)
    async def test_the_last_generation_commits_nothing(self, store: _Transacting) -> None:
        async def write(session: Any) -> None:
            called.append(session)

        called: list[Any] = []
        stale, owner = await superseded(store, "w")
        await store.save_step(owner, "s", "old", NOW)
        await store.restart(owner, None, (), LATER)
        (again,) = await claims_at(store, LATER)
        for claim in (stale, owner):
            with suppress(ClaimLost):  # or its own record of before, which harms nobody
                await store.transact(claim, "s", write, lambda: NOW)
            with pytest.raises(ClaimLost):
                await store.transact(claim, "t", write, lambda: NOW)
        assert called == []
        assert await store.find_step("w", "t") is None
        for _ in range(2):
            await store.transact(again, "s", write, lambda: NOW)
        assert len(called) == 1
        assert (await store.history([again]))["w"].steps == {"s": None}

    # What stays -----------------------------------------------------------------------------------

    @rule("SupportsRestart.restart")
    async def test_the_generation_outlasts_the_end_and_a_retry(self, store: Restarting) -> None:
        claim = await claimed(store, "w")
        await store.restart(claim, "again", (), NOW)
        (again,) = await claims_at(store, NOW)
        await store.save_step(again, "s", 1, NOW)
        for event in (Transition.CANCEL, Transition.RETRY):
            await store.control("w", event, NOW)
        (retried,) = await claims_at(store, NOW)
        assert (retried.workflow.generation, retried.workflow.input) == (1, "again")
        assert (await store.history([retried]))["w"].steps == {"s": 1}

    @rule("SupportsRestart.restart", SupportsPublishing)
    async def test_what_was_published_stays(self, store: _Publishing) -> None:
        claim = await claimed(store, "w")
        first = Published(name="a", number=2, value="old", at=NOW)
        await store.publish(claim, (first,))
        await store.restart(claim, None, (), NOW)
        assert (await found(store, "w")).published == (first,)
        (again,) = await claims_at(store, NOW)
        second = Published(name="a", number=1, value="new", at=NOW, generation=1)
        await store.publish(again, (second,))
        assert (await found(store, "w")).published == (second,)

    @rule("SupportsRestart.restart", SupportsMessages)
    async def test_unread_messages_stay_and_received_ones_stay_received(
        self, store: _Messaging
    ) -> None:
        claim = await claimed(store, "w")
        for message_id in ("m1", "m2", "m3"):
            await store.send(message(message_id))
        assert id_of(await received(store, claim, "s")) == "m1"
        await store.restart(claim, None, ["m1"], NOW)
        assert not await store.send(message("m1"))
        (again,) = await claims_at(store, NOW)
        assert id_of(await received(store, again, "s")) == "m2"
        assert await all_received(store, again, PAID) == ["m3"]
        assert await looked(store, again, "t") == NoMessage(mail=4)

    @rule("SupportsRestart.restart", SupportsMessages)
    async def test_a_stale_run_takes_no_message_from_the_next_generation(
        self, store: _Messaging
    ) -> None:
        stale, owner = await superseded(store, "w")
        for message_id in ("m1", "m2"):
            await store.send(message(message_id))
        await store.restart(owner, None, (), LATER)
        for late in (stale, owner):
            with suppress(ClaimLost):  # a store may also keep the record where nobody reads it
                await store.receive(late, "s", [PAID], LATER, give_up=True)
        (claim,) = await claims_at(store, LATER)
        assert await all_received(store, claim, PAID) == ["m1", "m2"]

    @rule("SupportsRestart.restart", SupportsMessages)
    async def test_what_a_stale_run_has_received_unknown_to_the_last_one_is_received(
        self, store: _Messaging
    ) -> None:
        stale, owner = await superseded(store, "w")
        for message_id in ("m1", "m2", "m3"):
            await store.send(message(message_id))
        assert id_of(await received(store, owner, "s")) == "m1"
        assert id_of(await received(store, stale, "t")) == "m2"
        await store.restart(owner, None, ["m1"], LATER)
        (claim,) = await claims_at(store, LATER)
        assert await all_received(store, claim, PAID) == ["m2", "m3"]

    @rule("SupportsRestart.restart", SupportsMessages)
    async def test_a_message_that_the_last_one_has_passed_over_is_received(
        self, store: _Messaging
    ) -> None:
        stale, owner = await superseded(store, "w")
        for message_id in ("m1", "m2"):
            await store.send(message(message_id))
        assert id_of(await received(store, stale, "s")) == "m1"
        assert id_of(await received(store, owner, "t")) == "m2"
        await store.restart(owner, None, ["m2"], LATER)
        (claim,) = await claims_at(store, LATER)
        assert await all_received(store, claim, PAID) == ["m1"]

    @rule("#stale-callers", SupportsRestart, SupportsMessages)
    async def test_a_stale_restart_leaves_the_mailbox_alone(self, store: _Messaging) -> None:
        stale, owner = await superseded(store, "w")
        await store.send(message("m1"))
        assert id_of(await received(store, stale, "s")) == "m1"
        await store.restart(owner, None, (), LATER)
        with pytest.raises(ClaimLost):
            await store.restart(stale, None, ["m1"], LATER)
        (claim,) = await claims_at(store, LATER)
        assert await all_received(store, claim, PAID) == ["m1"]

    @rule("SupportsRestart.restart", SupportsMessages)
    async def test_a_restarted_workflow_waits_and_is_woken(self, store: _Messaging) -> None:
        claim = await waiting(store, "w")
        await store.send(message("m1"))
        (claim,) = await claims_at(store, NOW)
        await received(store, claim, "s")
        await store.restart(claim, None, ["m1"], NOW)
        (again,) = await claims_at(store, NOW)
        look = await looked(store, again, "s")
        assert look == NoMessage(mail=1)
        await store.park_until_message(again, LATER, [PAID], 1, NOW)
        assert (await found(store, "w")).waiting_for == (PAID,)
        await store.send(message("m2"))
        (woken,) = await claims_at(store, NOW)
        assert id_of(await received(store, woken, "s")) == "m2"

    # Forks and deletion ---------------------------------------------------------------------------

    @rule("SupportsForks.fork", SupportsRestart, SupportsSearch)
    async def test_a_fork_has_the_records_of_the_last_generation(self, store: _Forking) -> None:
        stale, owner = await superseded(store, "w")
        await store.save_step(owner, "s", "old", NOW)
        await store.restart(owner, "again", (), LATER)
        await record_each(store, stale, "late")
        (claim,) = await claims_at(store, LATER)
        await store.save_step(claim, "s", "new", LATER)
        await store.save_step(claim, "s2", 2, LATER + SECOND)
        for before, steps in ((None, ["s", "s2"]), ("s2", ["s"]), ("s", [])):
            await store.fork("w", f"fork before {before}", before, LATER + LEASE)
            forked = await found(store, f"fork before {before}")
            assert (forked.generation, forked.restarted_at, forked.input) == (0, None, "again")
            records = await store.records(f"fork before {before}")
            assert [step.step_id for step in records.steps] == steps
            assert records.naps == ()
        forks = await claims_at(store, LATER + LEASE)
        (whole,) = [fork for fork in forks if fork.workflow_id == "fork before None"]
        assert (await store.history([whole]))[whole.workflow_id].steps == {"s": "new", "s2": 2}

    @rule("SupportsPruning.prune", SupportsRestart, SupportsSearch)
    async def test_all_generations_are_deleted_with_the_workflow(self, store: _Pruning) -> None:
        claim = await claimed(store, "w")
        await record_each(store, claim, "old")
        await store.restart(claim, None, (), NOW)
        await record_each(store, claim, "late")
        (again,) = await claims_at(store, NOW)
        await record_each(store, again, "new")
        await store.finish(again, None, NOW)
        assert (await store.prune(LATER, ENDED, 10, LATER)).workflows == 1
        await store.create(new("w", created_at=LATER))
        assert await store.records("w") == Records()
        (next_one,) = await claims_at(store, LATER)
        assert await store.history([next_one]) == {"w": History()}
        assert next_one.workflow.generation == 0
        step, _, _ = await record_each(store, next_one, "next")
        assert await store.find_step("w", "s") == step


async def record_each(store: Store, claim: Claim, output: str) -> tuple[Step, Nap, Attempt]:
    """Record one of each; a store may also refuse it, for a claim of an earlier generation."""
    tried = replace(attempt(1, "t"), saved_at=NOW)
    for call in (
        store.save_step(claim, "s", output, NOW),
        store.save_nap(claim, "n", NOW, NOW),
        store.save_attempt(claim, tried),
    ):
        with suppress(ClaimLost):
            await call
    step = Step(workflow_id="w", step_id="s", output=output, saved_at=NOW)
    return step, Nap(workflow_id="w", nap_id="n", wake_up_at=NOW, saved_at=NOW), tried
