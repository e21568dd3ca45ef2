"""What `SupportsPublishing` asks of a store, as a test suite; see `StoreContract`."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Protocol

import pytest

from bluestreak_core import machine
from bluestreak_core.errors import ClaimLost, UnstorableValue
from bluestreak_core.machine import Transition
from bluestreak_core.model import Claim, Published, Workflow
from bluestreak_core.store import (
    ENDED,
    Store,
    SupportsForks,
    SupportsPruning,
    SupportsPublishing,
    require,
)
from bluestreak_core.testing.contract.arrange import (
    ENDINGS,
    LEASE,
    NOW,
    SECOND,
    claimed,
    claims_at,
    end,
    found,
    new,
    superseded,
)
from bluestreak_core.testing.contract.racing import LATER, MOVES, Move, Outcome, race
from bluestreak_core.testing.contract.rule import Rules, rule


class _Publishing(Store, SupportsPublishing, Protocol):
    """A store that publishes."""


class _Forking(_Publishing, SupportsForks, Protocol):
    """A store that has this power, too."""


class _Pruning(_Publishing, SupportsPruning, Protocol):
    """A store that has this power, too."""


def value(name: str, number: int, value: Any = None, at: datetime = NOW) -> Published:
    """A published value."""
    return Published(name=name, number=number, value=value, at=at)


SHOWN = (value("a", 1, "shown"),)


async def _publish(store: Store, claim: Claim) -> Outcome:
    try:
        await require(store, SupportsPublishing, "publish()").publish(claim, SHOWN)
    except ClaimLost:
        return ClaimLost
    return None


def _decide(workflow: Workflow, claim: Claim) -> tuple[Workflow, Outcome]:
    if machine.in_force(workflow, claim):
        return machine.publish(workflow, SHOWN), None
    return workflow, ClaimLost


PUBLISH = Move(name="publish", call=_publish, decide=_decide)


class PublishingContract(Rules):
    """The tests of a store that publishes, as a part of `StoreContract`."""

    pytestmark = pytest.mark.asyncio

    @rule("SupportsPublishing.publish")
    async def test_what_is_published_is_shown_with_its_workflow(self, store: _Publishing) -> None:
        claim = await claimed(store, "w")
        before = await found(store, "w")
        published = (value("a", 3, {"n": [1, None]}), value("b", 1, at=NOW + SECOND))
        await store.publish(claim, published)
        after = await found(store, "w")
        assert after == machine.publish(before, published)
        assert after.published == published
        assert await store.find_standing("w") == after.standing

    @rule("SupportsPublishing.publish")
    async def test_what_is_published_replaces_all_that_was(self, store: _Publishing) -> None:
        claim = await claimed(store, "w")
        await store.publish(claim, (value("a", 1), value("b", 1)))
        await store.publish(claim, (value("b", 2, "latest"), value("c", 1)))
        assert (await found(store, "w")).published == (value("b", 2, "latest"), value("c", 1))

    @rule("SupportsPublishing.publish")
    async def test_a_claim_brings_what_was_published(self, store: _Publishing) -> None:
        claim = await claimed(store, "w")
        await store.publish(claim, SHOWN)
        await store.release(claim, NOW)
        (again,) = await claims_at(store, NOW)
        assert again.workflow.published == SHOWN
        assert again.workflow == await found(store, "w")

    @pytest.mark.parametrize("event", ENDINGS)
    @rule("SupportsPublishing.publish")
    async def test_what_is_published_outlasts_the_claim(
        self, store: _Publishing, event: Transition
    ) -> None:
        claim = await claimed(store, "w")
        await store.publish(claim, SHOWN)
        await end(store, claim, event)
        assert (await found(store, "w")).published == SHOWN

    @rule("SupportsPublishing.publish")
    async def test_what_is_published_outlasts_a_cancellation_and_a_retry(
        self, store: _Publishing
    ) -> None:
        claim = await claimed(store, "w")
        await store.publish(claim, SHOWN)
        for event in (Transition.CANCEL, Transition.RETRY):
            await store.control("w", event, NOW)
            assert (await found(store, "w")).published == SHOWN

    @rule("#repeated-calls", SupportsPublishing)
    async def test_a_repeated_publish_changes_nothing(self, store: _Publishing) -> None:
        claim = await claimed(store, "w")
        await store.publish(claim, SHOWN)
        before = await found(store, "w")
        await store.publish(claim, SHOWN)
        assert await found(store, "w") == before

    @rule("#stale-callers", SupportsPublishing)
    async def test_a_stale_publish_is_refused(self, store: _Publishing) -> None:
        stale, owner = await superseded(store, "w")
        before = await found(store, "w")
        with pytest.raises(ClaimLost, match="claim 1 was superseded by claim 2"):
            await store.publish(stale, SHOWN)
        assert await found(store, "w") == before
        await store.publish(owner, SHOWN)
        assert (await found(store, "w")).published == SHOWN

    @pytest.mark.parametrize("event", ENDINGS)
    @rule("#stale-callers", SupportsPublishing)
    async def test_nothing_is_published_under_a_claim_that_has_ended(
        self, store: _Publishing, event: Transition
    ) -> None:
        claim = await claimed(store, "w")
        await end(store, claim, event)
        before = await found(store, "w")
        with pytest.raises(ClaimLost):
            await store.publish(claim, SHOWN)
        assert await found(store, "w") == before

    @rule("SupportsPublishing.publish")
    async def test_publishing_is_no_progress(self, store: _Publishing) -> None:
        _, owner = await superseded(store, "w")
        await store.publish(owner, SHOWN)
        after = await found(store, "w")
        assert (after.crashes, after.timeout_at) == (1, NOW + 2 * LEASE)

    @pytest.mark.parametrize("second", [PUBLISH, *MOVES], ids=str)
    @rule("#atomic-calls", SupportsPublishing)
    async def test_a_publish_comes_before_or_after_another_call(
        self, store: _Publishing, second: Move
    ) -> None:
        await race(store, claimed, PUBLISH, second)

    @rule("#values", SupportsPublishing)
    async def test_a_value_is_what_the_rules_say(self, store: _Publishing) -> None:
        claim = await claimed(store, "w")
        given = {"tuple": (1, 2), "at": NOW + SECOND / 3}
        stored, _ = store.value_rules().round_trip(given, "value")
        await store.publish(claim, (value("a", 1, stored),))
        stored["tuple"].append(3)
        (first,) = (await found(store, "w")).published
        assert first.value["tuple"] == [1, 2]
        first.value["tuple"].append(3)
        standing = await store.find_standing("w")
        assert standing is not None
        assert standing.published[0].value["tuple"] == [1, 2]
        standing.published[0].value["tuple"].append(3)
        (again,) = (await found(store, "w")).published
        assert store.value_rules().round_trip(given, "value")[0] == again.value

    @rule("SupportsPublishing.value_rules")
    async def test_the_rules_refuse_what_the_store_cannot_hold(self, store: _Publishing) -> None:
        with pytest.raises(UnstorableValue, match="'shown'"):
            store.value_rules().round_trip(object(), "value 'shown'")

    @rule("SupportsForks.fork", SupportsPublishing)
    async def test_a_fork_has_published_nothing(self, store: _Forking) -> None:
        claim = await claimed(store, "w")
        await store.publish(claim, SHOWN)
        await store.fork("w", "f", None, NOW)
        assert (await found(store, "f")).published == ()

    @rule("#deleted-workflows", SupportsPublishing, SupportsPruning)
    async def test_the_next_workflow_of_an_id_has_published_nothing(self, store: _Pruning) -> None:
        claim = await claimed(store, "w")
        await store.publish(claim, SHOWN)
        await store.finish(claim, None, NOW)
        await store.prune(LATER, ENDED, 10, LATER)
        await store.create(new("w", created_at=LATER))
        with pytest.raises(ClaimLost):
            await store.publish(claim, SHOWN)
        assert (await found(store, "w")).published == ()
