"""Racing calls: each pair ends as if one came after the other; a part of `StoreContract`.

A store that reads, decides and writes without a lock, or without the guard in the condition of its
write, lets both succeed, or lets one undo the other.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, replace
from itertools import combinations_with_replacement

import pytest

from bluestreak_core import machine
from bluestreak_core.errors import ClaimLost, TransitionRefused
from bluestreak_core.machine import Transition
from bluestreak_core.model import Claim, ClaimRequest, Workflow
from bluestreak_core.store import Store
from bluestreak_core.testing.contract.arrange import ENDINGS, LEASE, NOW, claimed, end, ended, found
from bluestreak_core.testing.contract.rule import Rules, rule

ROUNDS = 5
"""How many workflows a pair races for; a store without a lock may be lucky once."""

LATER = NOW + LEASE
"""When the lease has run out, so that another worker may take over."""

Outcome = type[Exception] | bool | None
"""The outcome of a call: None, the error that it raised, or whether it got the claim."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """A call that moves a workflow, and the decision of the state machine."""

    name: str
    call: Callable[[Store, Claim], Awaitable[Outcome]]
    decide: Callable[[Workflow, Claim], tuple[Workflow, Outcome]]

    def __str__(self) -> str:
        return self.name


def _ending(event: Transition) -> Move:
    async def call(store: Store, claim: Claim) -> Outcome:
        try:
            await end(store, claim, event)
        except ClaimLost:
            return ClaimLost
        return None

    def decide(workflow: Workflow, claim: Claim) -> tuple[Workflow, Outcome]:
        if machine.in_force(workflow, claim):
            return ended(workflow, event), None
        return workflow, None if machine.has_ended_by(workflow, claim, event) else ClaimLost

    return Move(name=event.value, call=call, decide=decide)


def _control(event: Transition) -> Move:
    async def call(store: Store, claim: Claim) -> Outcome:
        try:
            await store.control(claim.workflow_id, event, LATER)
        except TransitionRefused:
            return TransitionRefused
        return None

    def decide(workflow: Workflow, _: Claim) -> tuple[Workflow, Outcome]:
        if event not in machine.TRANSITIONS[workflow.status]:
            return workflow, TransitionRefused
        return machine.control(workflow, event, LATER, None), None

    return Move(name=event.value, call=call, decide=decide)


async def _renew(store: Store, claim: Claim) -> Outcome:
    return await store.renew([claim], LATER, LEASE) == []


def _decide_renew(workflow: Workflow, claim: Claim) -> tuple[Workflow, Outcome]:
    if machine.in_force(workflow, claim):
        return machine.renew(workflow, LATER, LEASE), True
    return workflow, False


async def _claim(store: Store, _: Claim) -> Outcome:
    return (
        len(await store.claim(ClaimRequest(worker="other", now=LATER, lease=LEASE, limit=1))) == 1
    )


def _decide_claim(workflow: Workflow, _: Claim) -> tuple[Workflow, Outcome]:
    if machine.is_due(workflow, LATER):
        return machine.claim(
            workflow, "next", ClaimRequest(worker="other", now=LATER, lease=LEASE, limit=1)
        ), True
    return workflow, False


CLAIM = Transition.CLAIM.value

MOVES = [
    *map(_ending, ENDINGS),
    *map(_control, (Transition.CANCEL, Transition.PAUSE)),
    Move(name="renew", call=_renew, decide=_decide_renew),
    Move(name=CLAIM, call=_claim, decide=_decide_claim),
]
PAIRS = list(combinations_with_replacement(MOVES, 2))


class RacingContract(Rules):
    """The tests of concurrent calls."""

    @pytest.mark.parametrize(("first", "second"), PAIRS, ids=str)
    @rule("#atomic-calls")
    async def test_calls_that_race_end_as_one_after_the_other_would(
        self, store: Store, first: Move, second: Move
    ) -> None:
        await race(store, claimed, first, second)


async def race(
    store: Store, begin: Callable[[Store, str], Awaitable[Claim]], first: Move, second: Move
) -> None:
    """Fail if two calls that begin together do not end as one after the other would.

    `begin` prepares a workflow, and returns the claim that the calls are made with.
    """
    for number in range(ROUNDS):
        claim = await begin(store, f"w{number}")
        begun = await found(store, claim.workflow_id)
        outcomes = await asyncio.gather(first.call(store, claim), second.call(store, claim))
        after = await found(store, claim.workflow_id)
        seen = (_with_plain_token(after, claim), *outcomes)
        if seen not in _possible(begun, claim, first, second):
            said = ", ".join(map(_shown, outcomes))
            pytest.fail(f"{first} and {second} said {said}, and left it {after.status.value!r}")
        if not after.status.ended:
            await store.control(claim.workflow_id, Transition.CANCEL, LATER)


def _possible(
    begun: Workflow, claim: Claim, first: Move, second: Move
) -> list[tuple[Workflow, Outcome, Outcome]]:
    """What may come of two calls: the one after the other, in either order."""
    between, of_first = first.decide(begun, claim)
    after, of_second = second.decide(between, claim)
    possible = [(after, of_first, of_second)]
    between, of_second = second.decide(begun, claim)
    after, of_first = first.decide(between, claim)
    possible.append((after, of_first, of_second))
    if second.name == CLAIM:
        # A look for work may miss a workflow that another call moves at that moment, and need not
        # hand out a claim that a control took at once.
        alone, of_first_alone = first.decide(begun, claim)
        possible.append((alone, of_first_alone, False))
        if after.claim_token is None:
            possible.append((after, of_first, False))
    return possible


def _with_plain_token(workflow: Workflow, claim: Claim) -> Workflow:
    """The workflow; a successor's claim has the token that `_decide_claim` gives."""
    if workflow.claim_token in (None, claim.token):
        return workflow
    return replace(workflow, claim_token="next")  # noqa: S106 - no secret


def _shown(outcome: Outcome) -> str:
    return outcome.__name__ if isinstance(outcome, type) else str(outcome)
