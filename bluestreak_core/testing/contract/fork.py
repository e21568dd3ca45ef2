"""What `SupportsForks` asks of a store, as a test suite; see `StoreContract`."""

from __future__ import annotations

from dataclasses import replace
from typing import Protocol

import pytest

from bluestreak_core.errors import StepNotRecorded, WorkflowNotFound
from bluestreak_core.model import (
    Attempt,
    Claim,
    ClaimRequest,
    FailedStep,
    History,
    Status,
    Workflow,
)
from bluestreak_core.store import Store, SupportsForks, SupportsSearch, supports
from bluestreak_core.testing.contract.arrange import ERROR, NOW, SECOND, found, new
from bluestreak_core.testing.contract.rule import Rules, rule

LATER = NOW + 60 * SECOND
LEASE = 3600 * SECOND
GIVEN_UP = FailedStep(step_id="given up", error=ERROR, attempts=2, failed_at=NOW + 3 * SECOND)


class Forking(Store, SupportsForks, Protocol):
    """A store with this power."""


class ForkContract(Rules):
    """The tests of a store that can fork workflows, as a part of `StoreContract`."""

    pytestmark = pytest.mark.asyncio

    @pytest.mark.parametrize(
        ("before", "steps", "naps", "given_up"),
        [
            (None, {"s1", "s2", "s4"}, {"n3"}, (GIVEN_UP,)),
            ("s1", set(), set(), ()),
            ("s2", {"s1"}, set(), ()),
            ("s4", {"s1", "s2"}, {"n3"}, (GIVEN_UP,)),
            ("given up", {"s1", "s2"}, {"n3"}, ()),
        ],
    )
    @rule("SupportsForks.fork")
    async def test_a_fork_has_what_was_recorded_before_a_step(
        self,
        store: Forking,
        before: str | None,
        steps: set[str],
        naps: set[str],
        given_up: tuple[FailedStep, ...],
    ) -> None:
        await _recorded(store, "w")
        assert await store.fork("w", "f", before, LATER)
        assert (await found(store, "f")).failed_steps == given_up
        history = await _history(store, "f")
        assert set(history.steps) == steps
        assert set(history.naps) == naps
        assert all(history.steps[step_id] == f"output of {step_id}" for step_id in steps)

    @rule("SupportsForks.fork")
    async def test_what_was_given_up_just_before_a_step_came_before_it(
        self, store: Forking
    ) -> None:
        await store.create(new("w"))
        (claim,) = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
        await store.fail_step(claim, GIVEN_UP)
        await store.save_step(claim, "next", 1, GIVEN_UP.failed_at)
        assert await store.fork("w", "f", "next", LATER)
        assert (await found(store, "f")).failed_steps == (GIVEN_UP,)
        assert (await _history(store, "f")).steps == {}

    @rule("SupportsForks.fork")
    async def test_a_fork_is_a_new_workflow_that_is_due(self, store: Forking) -> None:
        await _recorded(store, "w")
        await store.fork("w", "f", None, LATER)
        assert await found(store, "f") == Workflow(
            workflow_id="f",
            handler_id="h",
            input={"a": [1]},
            status=Status.IDLE,
            timeout_at=LATER,
            created_at=LATER,
            failed_steps=(GIVEN_UP,),
            forked_from="w",
        )

    @rule("SupportsForks.fork")
    async def test_a_fork_has_the_trace_of_its_source(self, store: Forking) -> None:
        await store.create(replace(new("w"), trace="00-trace"))
        await store.fork("w", "f", None, LATER)
        assert (await found(store, "f")).trace == "00-trace"

    @rule("SupportsForks.fork")
    async def test_records_keep_their_times(self, store: Forking) -> None:
        await _recorded(store, "w")
        await store.fork("w", "f", None, LATER)
        step, nap = await store.find_step("f", "s2"), await store.find_nap("f", "n3")
        assert step is not None
        assert nap is not None
        assert (step.saved_at, nap.saved_at) == (NOW + SECOND, NOW + 2 * SECOND)

    @rule("SupportsForks.fork")
    async def test_records_keep_their_order(self, store: Forking) -> None:
        await store.create(new("w"))
        (claim,) = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
        for step_id in ("c", "a", "b", "d"):
            await store.save_step(claim, step_id, step_id, NOW)
        await store.fork("w", "f", None, LATER)
        if supports(store, SupportsSearch):
            records = await store.records("f")
            assert [step.step_id for step in records.steps] == ["c", "a", "b", "d"]
        await store.fork("f", "g", "b", LATER)
        assert await store.find_step("g", "a") is not None
        assert await store.find_step("g", "d") is None

    @rule("SupportsForks.fork")
    async def test_failed_attempts_are_not_copied(self, store: Forking) -> None:
        await _recorded(store, "w")
        await store.fork("w", "f", None, LATER)
        assert (await _history(store, "f")).attempts == {}

    @rule("SupportsForks.fork")
    async def test_the_forked_workflow_stays_as_it_is(self, store: Forking) -> None:
        claim = await _recorded(store, "w")
        before = await found(store, "w")
        await store.fork("w", "f", "s4", LATER)
        assert await found(store, "w") == before
        assert set((await store.history([claim]))["w"].steps) == {"s1", "s2", "s4"}

    @pytest.mark.parametrize("new_id", ["w", "taken", "f"])
    @rule("SupportsForks.fork")
    async def test_an_id_that_exists_is_left_as_it_is(self, store: Forking, new_id: str) -> None:
        await _recorded(store, "w")
        await store.create(new("taken"))
        await store.fork("w", "f", "s2", LATER)
        before = await found(store, new_id)
        assert not await store.fork("w", new_id, None, LATER + SECOND)
        assert await found(store, new_id) == before

    @rule("SupportsForks.fork")
    async def test_what_cannot_be_forked_creates_nothing(self, store: Forking) -> None:
        await _recorded(store, "w")
        with pytest.raises(WorkflowNotFound):
            await store.fork("no such workflow", "f", None, LATER)
        for missing in ("no such step", "n3", "tried"):
            with pytest.raises(StepNotRecorded):
                await store.fork("w", "f", missing, LATER)
        assert await store.find_workflow("f") is None


async def _recorded(store: Store, workflow_id: str) -> Claim:
    """A running workflow with a record of each kind, a second apart."""
    await store.create(new(workflow_id, input={"a": [1]}))
    (claim,) = await store.claim(ClaimRequest(worker="worker", now=NOW, lease=LEASE, limit=1))
    await store.save_step(claim, "s1", "output of s1", NOW)
    await store.save_step(claim, "s2", "output of s2", NOW + SECOND)
    await store.save_nap(claim, "n3", LATER, NOW + 2 * SECOND)
    await store.fail_step(claim, GIVEN_UP)
    await store.save_step(claim, "s4", "output of s4", NOW + 4 * SECOND)
    await store.save_attempt(
        claim,
        Attempt(
            workflow_id=workflow_id,
            step_id="tried",
            round=0,
            number=1,
            error=ERROR,
            retry_at=LATER,
            saved_at=NOW + 5 * SECOND,
        ),
    )
    return claim


async def _history(store: Store, workflow_id: str) -> History:
    """The history that the next run of a due workflow starts from."""
    (claim,) = await store.claim(ClaimRequest(worker="worker", now=LATER, lease=LEASE, limit=1))
    assert claim.workflow_id == workflow_id
    return (await store.history([claim]))[workflow_id]
