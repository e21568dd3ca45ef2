"""What `SupportsChildren` asks of a store, as a test suite; see `StoreContract`."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import datetime
from typing import Protocol

import pytest

from bluestreak_core import machine
from bluestreak_core.errors import ClaimLost
from bluestreak_core.machine import Transition
from bluestreak_core.model import (
    Claim,
    FailedChild,
    FailedStep,
    NewWorkflow,
    OnParentEnd,
    Parent,
    Status,
)
from bluestreak_core.store import (
    ENDED,
    Query,
    Store,
    SupportsChildren,
    SupportsForks,
    SupportsPruning,
    SupportsSearch,
)
from bluestreak_core.testing.contract.arrange import (
    ERROR,
    LEASE,
    MS,
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
    superseded,
)
from bluestreak_core.testing.contract.rule import Rules, rule

NAME = "child/c"
LATER = NOW + LEASE
ENDINGS = (Transition.FINISH, Transition.ABORT, Transition.CANCEL)
"""How a workflow may end."""


class _Parenting(Messaging, SupportsChildren, Protocol):
    """A store that knows children, and therefore keeps mailboxes."""


class _Pruning(_Parenting, SupportsPruning, Protocol):
    """A store that has this power, too."""


class _Searching(_Parenting, SupportsSearch, Protocol):
    """A store that has this power, too."""


class _Forking(_Parenting, SupportsForks, Protocol):
    """A store that has this power, too."""


def child(
    workflow_id: str,
    of: str = "w",
    *,
    on_end: OnParentEnd = OnParentEnd.CANCEL,
    parent_created_at: datetime | None = NOW,
) -> NewWorkflow:
    """A child to create, which no worker claims at NOW."""
    parent = Parent(workflow_id=of, created_at=parent_created_at, on_end=on_end)
    return replace(new(workflow_id, created_at=LATER), parent=parent)


async def _ended(store: Store, claim: Claim, event: Transition) -> None:
    """End a workflow by one of `ENDINGS`."""
    if event is Transition.CANCEL:
        await store.control(claim.workflow_id, event, NOW, "why")
    else:
        await end(store, claim, event)


class ChildrenContract(Rules):
    """The tests of a store that knows children, as a part of `StoreContract`."""

    pytestmark = pytest.mark.asyncio

    # Starting and finding them -----------------------------------------------------------------

    @pytest.mark.parametrize("on_end", OnParentEnd)
    @pytest.mark.parametrize("call", ["create", "create_many"])
    @rule("Store.create", SupportsChildren)
    async def test_a_child_keeps_its_parent(
        self, store: _Parenting, call: str, on_end: OnParentEnd
    ) -> None:
        given = child("c", on_end=on_end)
        if call == "create":
            assert await store.create(given)
        else:
            assert await store.create_many([given]) == [True]
        stored = await found(store, "c")
        assert stored == machine.create(given)
        assert (stored.parent, stored.unsettled) == (given.parent, True)
        standing = await store.find_standing("c")
        assert standing == stored.standing
        (claim,) = await claims_at(store, LATER)
        assert claim.workflow.parent == given.parent
        assert not await store.create(child("c", of="another"))
        assert (await found(store, "c")).parent == given.parent

    @rule("Store.create", SupportsChildren)
    async def test_a_workflow_that_is_no_child_has_no_parent(self, store: _Parenting) -> None:
        claim = await claimed(store, "w")
        assert (claim.workflow.parent, claim.workflow.unsettled) == (None, False)

    @rule("SupportsChildren.find_children")
    async def test_the_children_of_a_workflow_are_found(self, store: _Parenting) -> None:
        await claimed(store, "w")
        await gather(*(store.create(child(f"c{number}")) for number in range(5)))
        await store.create(child("c", of="another"))
        await store.create(child("grandchild", of="c0", parent_created_at=LATER))
        every = {f"c{number}" for number in range(5)}
        assert set(await store.find_children("w", NOW, 10)) == every
        some = await store.find_children("w", NOW, 3)
        assert len(set(some)) == 3
        assert set(some) < every
        assert await store.find_children("nobody", NOW, 10) == []

    @rule("SupportsChildren.find_children")
    async def test_only_children_that_are_to_end_with_their_parent_are_found(
        self, store: _Parenting
    ) -> None:
        await claimed(store, "w")
        await store.create(child("left", on_end=OnParentEnd.ABANDON))
        await store.create(child("of a former one", parent_created_at=NOW - MS))
        await store.create(child("undated", parent_created_at=None))
        await store.create(child("ours"))
        assert list(await store.find_children("w", NOW, 10)) == ["ours"]
        assert list(await store.find_children("w", None, 10)) == ["undated"]

    @pytest.mark.parametrize("event", ENDINGS)
    @rule("SupportsChildren.find_children")
    async def test_children_are_found_in_every_state_but_the_last(
        self, store: _Parenting, event: Transition
    ) -> None:
        await store.create(child("c"))
        (claim,) = await claims_at(store, LATER)
        assert list(await store.find_children("w", NOW, 10)) == ["c"]
        await store.control("c", Transition.PAUSE, LATER)
        assert list(await store.find_children("w", NOW, 10)) == ["c"]
        await store.control("c", Transition.RESUME, LATER)
        (claim,) = await claims_at(store, LATER)
        await _ended(store, claim, event)
        assert await store.find_children("w", NOW, 10) == []

    # Parents -----------------------------------------------------------------------------------

    @rule("SupportsChildren.adopt")
    async def test_a_parent_is_unsettled(self, store: _Parenting) -> None:
        claim = await claimed(store, "w")
        for _ in range(2):
            await store.adopt(claim)
            assert await found(store, "w") == machine.adopt(claim.workflow)
        await store.park(claim, LATER)
        (again,) = await claims_at(store, LATER)
        assert again.workflow.unsettled

    @pytest.mark.parametrize("by", ["a claim", *ENDINGS])
    @rule("SupportsChildren.adopt")
    async def test_a_stale_caller_cannot_have_children(self, store: _Parenting, by: str) -> None:
        if by == "a claim":
            claim, _ = await superseded(store, "w")
        else:
            claim = await claimed(store, "w")
            await _ended(store, claim, Transition(by))
        before = await found(store, "w")
        with pytest.raises(ClaimLost):
            await store.adopt(claim)
        assert await found(store, "w") == before

    @rule("SupportsChildren.adopt")
    async def test_a_stale_caller_hinders_nobody_beside_it(self, store: _Parenting) -> None:
        stale, _ = await superseded(store, "v")
        claim = await claimed(store, "w")
        outcomes = await asyncio.gather(
            *(store.adopt(one) for one in (claim, stale)), return_exceptions=True
        )
        assert outcomes[0] is None
        assert isinstance(outcomes[1], ClaimLost)
        assert (await found(store, "w")).unsettled

    @rule("SupportsChildren.find_mail")
    async def test_the_mail_of_a_workflow_is_counted(self, store: _Parenting) -> None:
        assert await store.find_mail("w") == 0
        await store.create(new("w"))
        assert await store.find_mail("w") == 0
        await store.send(message())
        await store.nudge("w", NOW, NAME, NOW)
        assert await store.find_mail("w") == 2
        assert (await found(store, "w")).mail == 2

    # The end of a child, as its parent hears of it -----------------------------------------------

    @rule("SupportsChildren.nudge")
    async def test_a_nudge_wakes_the_parent_that_waits_for_it(self, store: _Parenting) -> None:
        claim = await claimed(store, "w")
        await store.park_until_message(claim, LATER, ["child/b", NAME], 0, NOW)
        await store.nudge("w", NOW, "child/of no interest", NOW)
        assert await claims_at(store, NOW + SECOND) == []
        before = await found(store, "w")
        await store.nudge("w", NOW, NAME, NOW + MS)
        assert await found(store, "w") == machine.deliver(before, [NAME], NOW + MS)
        (again,) = await claims_at(store, NOW + MS)
        assert (again.workflow.waiting_for, again.workflow.mail) == ((), 2)

    @rule("SupportsMessages.park_until_message", SupportsChildren)
    async def test_no_parent_is_parked_past_a_nudge(self, store: _Parenting) -> None:
        claim = await claimed(store, "w")
        mail = await store.find_mail("w")
        await store.nudge("w", NOW, NAME, NOW)
        await store.park_until_message(claim, LATER, [NAME], mail, NOW)
        assert len(await claims_at(store, NOW)) == 1

    @rule("SupportsChildren.nudge")
    async def test_many_nudges_at_once_are_counted_each(self, store: _Parenting) -> None:
        claim = await claimed(store, "w")
        await store.park_until_message(claim, LATER, ["child/7"], 0, NOW)
        await gather(*(store.nudge("w", NOW, f"child/{n}", NOW) for n in range(20)))
        assert await store.find_mail("w") == 20
        assert len(await claims_at(store, NOW)) == 1

    @pytest.mark.parametrize("event", ENDINGS)
    @rule("SupportsChildren.nudge")
    async def test_a_nudge_to_a_workflow_that_may_be_retried_counts(
        self, store: _Parenting, event: Transition
    ) -> None:
        claim = await claimed(store, "w")
        await _ended(store, claim, event)
        before = await found(store, "w")
        await store.nudge("w", NOW, NAME, NOW)
        counted = 0 if event is Transition.FINISH else 1
        assert await found(store, "w") == replace(before, mail=counted)

    @rule("SupportsChildren.nudge")
    async def test_a_nudge_does_not_reach_another_workflow_of_the_same_id(
        self, store: _Parenting
    ) -> None:
        await store.nudge("w", NOW, NAME, NOW)
        await store.create(new("w"))
        for created_at in (NOW - MS, None):
            await store.nudge("w", created_at, NAME, NOW)
        assert (await found(store, "w")).mail == 0

    # Settling ----------------------------------------------------------------------------------

    @pytest.mark.parametrize("event", ENDINGS)
    @rule("SupportsChildren.find_unsettled")
    async def test_what_has_ended_is_found_until_it_is_settled(
        self, store: _Parenting, event: Transition
    ) -> None:
        claim = await claimed(store, "w")
        await store.adopt(claim)
        await store.create(child("c"))
        assert await store.find_unsettled(10) == []
        await _ended(store, claim, event)
        ended = await found(store, "w")
        (seen,) = await store.find_unsettled(10)
        assert seen == replace(ended.standing, result=None)
        for _ in range(2):
            await store.settle(seen)
            assert await found(store, "w") == machine.settle(ended)
            assert await store.find_unsettled(10) == []

    @rule("SupportsChildren.find_unsettled")
    async def test_no_more_are_found_than_were_asked_for(self, store: _Parenting) -> None:
        for number in range(5):
            await store.create(child(f"c{number}"))
            await store.control(f"c{number}", Transition.CANCEL, LATER)
        some = [seen.workflow_id for seen in await store.find_unsettled(3)]
        assert len(set(some)) == 3
        assert len(await store.find_unsettled(10)) == 5

    @rule("SupportsChildren.find_unsettled")
    async def test_what_concerns_nobody_is_not_found(self, store: _Parenting) -> None:
        claim = await claimed(store, "w")
        await store.finish(claim, None, NOW)
        assert await store.find_unsettled(10) == []

    @rule("SupportsChildren.settle")
    async def test_an_end_that_is_not_the_last_one_cannot_be_settled(
        self, store: _Parenting
    ) -> None:
        await store.create(child("c"))
        await store.control("c", Transition.CANCEL, LATER)
        (seen,) = await store.find_unsettled(10)
        await store.control("c", Transition.RETRY, LATER)
        before = await found(store, "c")
        await store.settle(seen)
        assert await found(store, "c") == before
        await store.control("c", Transition.CANCEL, LATER)
        before = await found(store, "c")
        await store.settle(seen)
        assert await found(store, "c") == before
        assert before.unsettled

    @rule("SupportsChildren.settle")
    async def test_what_has_not_ended_cannot_be_settled(self, store: _Parenting) -> None:
        await store.create(child("c"))
        before = await found(store, "c")
        await store.settle(before.standing)
        await store.settle(replace(before.standing, workflow_id="nobody"))
        assert await found(store, "c") == before

    @rule("Store.control", SupportsChildren)
    async def test_a_retried_workflow_is_unsettled(self, store: _Parenting) -> None:
        claim = await claimed(store, "w")
        await end(store, claim, Transition.ABORT)
        before = await found(store, "w")
        await store.control("w", Transition.RETRY, NOW)
        retried = await found(store, "w")
        assert retried == machine.control(before, Transition.RETRY, NOW, None)
        assert retried.unsettled

    @pytest.mark.parametrize("created_at", [NOW, NOW + MS])
    @rule("SupportsChildren.settle", SupportsPruning)
    async def test_what_is_unsettled_is_not_deleted(
        self, store: _Pruning, created_at: datetime
    ) -> None:
        await store.create(child("c"))
        await store.control("c", Transition.CANCEL, NOW)
        (seen,) = await store.find_unsettled(10)
        assert (await store.prune(NOW + SECOND, ENDED, 10, NOW + SECOND)).workflows == 0
        await store.settle(seen)
        assert (await store.prune(NOW + SECOND, ENDED, 10, NOW + SECOND)).workflows == 1
        # Of the next one of this id, nothing is seen.
        await store.create(replace(child("c"), created_at=created_at))
        await store.control("c", Transition.CANCEL, NOW)
        before = await found(store, "c")
        await store.settle(seen)
        assert await found(store, "c") == before

    # Elsewhere ---------------------------------------------------------------------------------

    @rule("Store.fail_step", SupportsChildren)
    async def test_a_failed_child_is_kept(self, store: _Parenting) -> None:
        claim = await claimed(store, "w")
        failed = FailedStep(
            step_id="s",
            error=ERROR,
            attempts=0,
            failed_at=NOW,
            child=FailedChild(workflow_id="c", status=Status.ABORTED),
        )
        await store.fail_step(claim, failed)
        assert (await found(store, "w")).failed_steps == (failed,)

    @rule("SupportsSearch.find_page", SupportsChildren)
    async def test_children_are_listed_by_their_parent(self, store: _Searching) -> None:
        await store.create(new("w"))
        for number in range(3):
            await store.create(child(f"c{number}"))
        await store.create(child("former", parent_created_at=NOW - SECOND))
        await store.create(child("other", of="c0"))
        page = await store.find_page(Query(parent="w"), None, 10)
        assert [each.workflow_id for each in page] == ["former", "c2", "c1", "c0"]
        assert [each.parent for each in page[1:]] == [child("c").parent] * 3
        of_status = Query(parent="w", statuses=frozenset([Status.CANCELLED]))
        await store.control("c1", Transition.CANCEL, LATER)
        page = await store.find_page(of_status, None, 10)
        assert [each.workflow_id for each in page] == ["c1"]

    @rule("SupportsForks.fork", SupportsChildren)
    async def test_a_fork_is_no_child_and_has_none(self, store: _Forking) -> None:
        await store.create(child("c"))
        await store.create(child("grandchild", of="c", parent_created_at=LATER))
        assert await store.fork("c", "fork", None, LATER)
        fork = await found(store, "fork")
        assert (fork.parent, fork.unsettled) == (None, False)
        assert await store.find_children("fork", LATER, 10) == []
