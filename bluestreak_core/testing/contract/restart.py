"""What `SupportsRestart` asks of a store, as a test suite; see `StoreContract`."""

from __future__ import annotations

from collections.abc import Awaitable

import pytest

from bluestreak_core import machine
from bluestreak_core.errors import ClaimLost, UnstorableValue, ValueTooLarge
from bluestreak_core.machine import Transition
from bluestreak_core.model import (
    Claim,
    FailedStep,
    History,
    Status,
    Workflow,
)
from bluestreak_core.store import (
    MAX_VALUE_BYTES,
    Store,
    SupportsRestart,
    require,
)
from bluestreak_core.testing.contract.arrange import (
    ENDINGS,
    ERROR,
    LEASE,
    MS,
    NOW,
    SECOND,
    begun,
    claimed,
    claims_at,
    end,
    failure,
    found,
    let_others_run,
    superseded,
)
from bluestreak_core.testing.contract.generation import GenerationContract, Restarting, record_each
from bluestreak_core.testing.contract.racing import LATER, MOVES, Move, Outcome, race
from bluestreak_core.testing.contract.rule import rule

TURNS = range(8)
"""The turns of the loop after which a restart is cancelled."""


async def _restart(store: Store, claim: Claim) -> Outcome:
    try:
        await require(store, SupportsRestart, "restart()").restart(claim, "again", (), LATER)
    except ClaimLost:
        return ClaimLost
    return None


def _decide(workflow: Workflow, claim: Claim) -> tuple[Workflow, Outcome]:
    if machine.in_force(workflow, claim):
        return machine.restart(workflow, "again", LATER), None
    is_repeat = machine.has_ended_by(workflow, claim, Transition.RESTART)
    return workflow, None if is_repeat else ClaimLost


RESTART = Move(name="restart", call=_restart, decide=_decide)


class RestartContract(GenerationContract):
    """The tests of a store that restarts workflows, as a part of `StoreContract`."""

    pytestmark = pytest.mark.asyncio

    # The workflow ---------------------------------------------------------------------------------

    @rule("SupportsRestart.restart")
    async def test_a_restarted_workflow_is_due_with_its_new_input(self, store: Restarting) -> None:
        claim = await claimed(store, "w", "first")
        before = await found(store, "w")
        await store.restart(claim, {"a": (1,)}, (), NOW + SECOND)
        after = await found(store, "w")
        assert after == machine.restart(before, {"a": [1]}, NOW + SECOND)
        assert (after.status, after.timeout_at) == (Status.IDLE, NOW + SECOND)
        assert (after.input, after.generation) == ({"a": [1]}, 1)
        assert (after.created_at, after.restarted_at) == (NOW, NOW + SECOND)
        assert await store.find_standing("w") == after.standing
        (again,) = await claims_at(store, NOW + SECOND)
        assert again.workflow == await found(store, "w")
        assert (again.workflow.crashes, again.number) == (0, 2)

    @rule("SupportsRestart.restart")
    async def test_a_restart_forgets_failures_and_crashes(self, store: Restarting) -> None:
        claim = await claimed(store, "w")
        await store.fail(claim, failure(NOW), NOW)
        await claims_at(store, NOW)
        (owner,) = await claims_at(store, NOW + LEASE)
        given_up = FailedStep(step_id="s", error=ERROR, attempts=1, failed_at=NOW)
        await store.fail_step(owner, given_up)
        await store.restart(owner, None, (), NOW + LEASE)
        after = await found(store, "w")
        assert (after.failures, after.crashes, after.error) == (0, 0, None)
        assert (after.failed_steps, after.claims) == ((), 3)

    @rule("SupportsRestart.restart")
    async def test_each_generation_begins_later_than_the_last(self, store: Restarting) -> None:
        claim = await claimed(store, "w")
        for number in (1, 2, 3):
            await store.restart(claim, number, (), NOW)
            assert (await found(store, "w")).restarted_at == NOW + number * MS
            (claim,) = await claims_at(store, NOW)
            await store.save_step(claim, "s", number, NOW)
            assert (await store.history([claim]))["w"].steps == {"s": number}

    @rule("#values", SupportsRestart)
    async def test_an_input_that_cannot_be_stored_restarts_nothing(self, store: Restarting) -> None:
        claim = await claimed(store, "w", "first")
        await store.save_step(claim, "s", 1, NOW)
        before = await found(store, "w")
        with pytest.raises(UnstorableValue, match="input of workflow 'w'"):
            await store.restart(claim, object(), (), NOW)
        with pytest.raises(ValueTooLarge, match="input of workflow 'w'"):
            await store.restart(claim, "x" * MAX_VALUE_BYTES, (), NOW)
        assert await found(store, "w") == before
        assert (await store.history([claim]))["w"].steps == {"s": 1}

    @rule("#values", SupportsRestart)
    async def test_a_new_input_takes_the_room_of_the_last_one(self, store: Restarting) -> None:
        largest = "x" * (MAX_VALUE_BYTES - 5)
        claim = await claimed(store, "w", largest)
        await store.restart(claim, None, (), NOW)
        (again,) = await claims_at(store, NOW)
        await store.finish(again, largest, NOW)
        assert (await found(store, "w")).result == largest

    # Repeated, stale and racing calls -------------------------------------------------------------

    @rule("#repeated-calls", SupportsRestart)
    async def test_a_repeated_restart_changes_nothing(self, store: Restarting) -> None:
        claim = await claimed(store, "w")
        await store.restart(claim, "again", (), NOW + SECOND)
        before = await found(store, "w")
        await store.restart(claim, "again", (), NOW + 2 * SECOND)
        assert await found(store, "w") == before
        (owner,) = await claims_at(store, NOW + SECOND)
        await store.save_step(owner, "s", 1, NOW)
        await store.restart(claim, "again", (), NOW + SECOND)
        assert await found(store, "w") == owner.workflow
        assert (await store.history([owner]))["w"].steps == {"s": 1}

    @rule("#stale-callers", SupportsRestart)
    async def test_a_stale_restart_is_refused(self, store: Restarting) -> None:
        stale, owner = await superseded(store, "w")
        await store.save_step(owner, "s", 1, NOW)
        before = await found(store, "w")
        with pytest.raises(ClaimLost, match="claim 1 was superseded by claim 2"):
            await store.restart(stale, "again", (), NOW)
        assert await found(store, "w") == before
        assert (await store.history([owner]))["w"].steps == {"s": 1}

    @pytest.mark.parametrize("event", ENDINGS)
    @rule("#stale-callers", SupportsRestart)
    async def test_the_last_generation_cannot_end_the_next_one(
        self, store: Restarting, event: Transition
    ) -> None:
        stale, owner = await superseded(store, "w")
        await store.restart(owner, None, (), LATER)
        (again,) = await claims_at(store, LATER)
        with pytest.raises(ClaimLost):
            await end(store, stale, event)
        assert await store.renew([stale, owner], LATER, LEASE) == [stale, owner]
        assert await found(store, "w") == again.workflow

    @pytest.mark.parametrize("second", [RESTART, *MOVES], ids=str)
    @rule("#atomic-calls", SupportsRestart)
    async def test_a_restart_comes_before_or_after_another_call(
        self, store: Restarting, second: Move
    ) -> None:
        def begin(store: Store, workflow_id: str) -> Awaitable[Claim]:
            return claimed(store, workflow_id)

        await race(store, begin, RESTART, second)

    @pytest.mark.parametrize("turns", TURNS)
    @rule("#cancelled-calls", SupportsRestart)
    async def test_a_repeat_completes_a_restart_that_was_cut_off(
        self, store: Restarting, turns: int
    ) -> None:
        claim = await claimed(store, "w")
        await record_each(store, claim, "old")
        async with begun(store.restart(claim, "again", (), NOW), turns=turns):
            pass
        after = await found(store, "w")
        assert after.generation in (0, 1)
        await let_others_run()
        assert await found(store, "w") == after
        await store.restart(claim, "again", (), NOW)
        (again,) = await claims_at(store, NOW)
        assert (again.workflow.input, again.workflow.generation) == ("again", 1)
        assert await store.history([again]) == {"w": History()}
