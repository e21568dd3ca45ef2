"""A store that is compared with the reference."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from bluestreak_core import (
    BluestreakError,
    Claim,
    ClaimLost,
    Standing,
    Store,
    UnstorableValue,
    Workflow,
    machine,
)
from bluestreak_core.model import ClaimRequest
from bluestreak_core.store import Pruned, SupportsChildren, SupportsMessages, require
from tests.model.call import (
    MESSAGE_IDS,
    RECORD_IDS,
    RIVALS,
    WORKERS,
    WORKFLOW_IDS,
    Call,
    Move,
    call_of,
)
from tests.model.reference import UNDECIDED, Reference


class Subject:
    """A store, as several workers hold it, and the reference that it has to agree with.

    A worker of a store that keeps something of its own for each worker has an object of its own.
    """

    def __init__(self, workers: Mapping[str, Store], *, leaves_leases: bool) -> None:
        self.claims: list[Claim] = []
        self.calls: list[Call] = []
        self._workers = workers
        self._messages = require(workers[WORKERS[0]], SupportsMessages, "find_message()")
        self._children = require(workers[WORKERS[0]], SupportsChildren, "child()")
        self._leaves_leases = leaves_leases
        """Whether a claim may leave the leases that have run out to the next one."""
        self.reference = Reference()
        self.seen: list[Standing] = []
        """Ends of which somebody knew at some time that they were to be settled."""

    def call_of(self, move: Move, claim: Claim, now: datetime) -> Call:
        """A call under a claim, with what its holder may know."""
        if move[0] == "park_until_message" and move[-1] is None:
            move = (*move[:-1], self.reference.find_mail(claim.workflow_id))
        if move[0] == "restart":
            *start, all_ = move
            move = (*start, self.reference.received(claim, all_=all_))
        return call_of(move, claim, now)

    async def perform(self, worker: str, *calls: Call) -> None:
        """Make calls at the same time, which must not be for the same workflow."""
        self.calls += calls
        expected = [self._expected(call) for call in calls]
        outcomes = await asyncio.gather(*[self._outcome(worker, call) for call in calls])
        _compare(outcomes, expected)
        claims = [call.args[0] for call in calls]
        await self.check({one.workflow_id for one in claims if isinstance(one, Claim)})

    def _expected(self, call: Call) -> object:
        try:
            return _comparable(call.on(self.reference))
        except BluestreakError as error:
            return _facts(error)

    async def _outcome(self, worker: str, call: Call) -> object:
        try:
            return _comparable(await call.on(self._workers[worker]))
        except BluestreakError as error:
            return _facts(error)

    async def claim(self, request: ClaimRequest) -> None:
        """Claim without a rival: as many as there are, the longest due first."""
        due = self.reference.due(request.now, request.handlers)
        claims = await self._workers[request.worker].claim(request)
        due_at = {workflow.workflow_id: workflow.timeout_at for workflow in due}
        assert due_at.keys() >= {claim.workflow_id for claim in claims}
        claimed = [due_at[claim.workflow_id] for claim in claims]
        if claimed != _longest(due, request.limit):
            waiting = [workflow for workflow in due if workflow.status not in machine.held()]
            assert self._leaves_leases
            assert claimed == _longest(waiting, 1)
        self._grant(claims, request.worker, request.now, request.lease)
        await self.check()

    async def claim_together(self, now: datetime, lease: timedelta, limit: int) -> None:
        """Rivals may come away with little, but none gets what the other one has."""
        due = {workflow.workflow_id for workflow in self.reference.due(now, None)}
        attempts = [
            self._workers[one].claim(ClaimRequest(worker=one, now=now, lease=lease, limit=limit))
            for one in RIVALS
        ]
        claims = await asyncio.gather(*attempts)
        claimed = [claim.workflow_id for theirs in claims for claim in theirs]
        assert len(set(claimed)) == len(claimed)
        assert due >= set(claimed)
        for rival, theirs in zip(RIVALS, claims, strict=True):
            assert len(theirs) <= limit
            self._grant(theirs, rival, now, lease)
        await self.check()

    def _grant(self, claims: Sequence[Claim], worker: str, now: datetime, lease: timedelta) -> None:
        self.reference.grant(claims, worker, now, lease)
        self.claims += claims

    def held(self, ago: int) -> Claim:
        """One of the claims in force, counted from the newest; if there is none, of all."""
        workflows = self.reference.workflows
        held = [one for one in self.claims if machine.in_force(workflows.get(one.workflow_id), one)]
        claims = held or self.claims
        return claims[-1 - ago % len(claims)]

    def newest(self, workflow_id: str) -> Claim:
        """The newest claim on a workflow."""
        return next(one for one in reversed(self.claims) if one.workflow_id == workflow_id)

    async def check(self, recorded: Collection[str] = WORKFLOW_IDS) -> None:
        """Compare all workflows, and all that some of them have recorded."""
        store, reference = self._workers[WORKERS[0]], self.reference
        messages = [(one, MESSAGE_IDS[0]) for one in WORKFLOW_IDS]
        parents = [(one, reference.created_at(one), len(WORKFLOW_IDS)) for one in WORKFLOW_IDS]
        keys = [(one, record_id) for one in sorted(recorded) for record_id in RECORD_IDS]
        found = await asyncio.gather(
            *[store.find_workflow(workflow_id) for workflow_id in WORKFLOW_IDS],
            *[store.find_standing(workflow_id) for workflow_id in WORKFLOW_IDS],
            *[store.find_step(*key) for key in keys],
            *[store.find_nap(*key) for key in keys],
            *[self._messages.find_message(*key) for key in messages],
            *[self._children.find_children(*parent) for parent in parents],
        )
        workflows = [reference.workflows.get(workflow_id) for workflow_id in WORKFLOW_IDS]
        expected = [
            *workflows,
            *[workflow and workflow.standing for workflow in workflows],
            *[reference.steps.get(key) for key in keys],
            *[reference.naps.get(key) for key in keys],
            *[reference.messages.get(key) for key in messages],
            *[reference.find_children(*parent) for parent in parents],
        ]
        _compare([_comparable(one) for one in found], [_comparable(one) for one in expected])


def _comparable(outcome: Any) -> object:
    """What the protocol promises of an outcome: nothing on the order of what it finds."""
    match outcome:
        case Pruned():
            return outcome.workflows
        case [Standing(), *_] | [str(), *_]:
            return sorted(outcome, key=str)
    return outcome


def _compare(found: Sequence[object], expected: Sequence[object]) -> None:
    for one, other in zip(found, expected, strict=True):
        assert _agree(one, other), f"the store: {one}\nthe machine: {other}"


def _agree(one: object, other: object) -> bool:
    if other is UNDECIDED:
        return not _is_error_but_of_a_claim(one)
    if isinstance(one, dict) and isinstance(other, dict):
        return all(key in one and one[key] == value for key, value in other.items())
    return one == other


def _is_error_but_of_a_claim(outcome: object) -> bool:
    match outcome:
        case (type() as kind, _):
            return kind is not ClaimLost
    return False


def _facts(error: BluestreakError) -> object:
    facts = error.args
    # Why a value cannot be stored, each store says in its own words.
    return type(error), facts[:-1] if isinstance(error, UnstorableValue) else facts


def _longest(due: Sequence[Workflow], limit: int) -> list[datetime]:
    return [workflow.timeout_at for workflow in due[:limit]]
