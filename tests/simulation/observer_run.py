"""Claims, and what is recorded under them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

from typing_extensions import override

from bluestreak_core import (
    Attempt,
    Claim,
    FailedStep,
    History,
    Workflow,
    machine,
)
from bluestreak_core.model import (
    WAITING,
    ClaimRequest,
)
from tests.simulation import (
    lasting_invariant,
)
from tests.simulation import store_invariant as invariant
from tests.simulation.observation import Observation


class Runs(Observation):
    """Claims, and what is recorded under them."""

    @override
    async def claim(self, request: ClaimRequest) -> Sequence[Claim]:
        record = self._record
        before = {
            workflow_id: await self._found(workflow_id)
            for workflow_id in record.created - record.expired
        }
        claims = await super().claim(request)
        for claim in claims:
            record.note(f"claim {claim.workflow_id} -> claim {claim.number}")
            self._note_claim(before[claim.workflow_id], claim, request.now)
        return claims

    def _note_claim(self, before: Workflow, claim: Claim, now: datetime) -> None:
        record, workflow_id = self._record, claim.workflow_id
        status, event = claim.workflow.status, machine.claiming(before.status)
        invariant.moves_follow_the_table(record, workflow_id, event, before, status)
        invariant.nothing_is_claimed_before_it_is_due(record, before, claim, now)
        if before.status not in machine.held():
            moved_at = [min(at, now) for at in record.moved_at(workflow_id)]
            due_at = max([before.timeout_at, *moved_at])
            record.lateness.append((self.clock.now(), now - due_at, workflow_id))
        record.newest[workflow_id] = claim

    @override
    async def history(self, claims: Sequence[Claim]) -> Mapping[str, History]:
        histories = await super().history(claims)
        for claim in claims:
            workflow_id = claim.workflow_id
            latest = self._record.attempts.items()
            attempts = {step: attempt for (of, step), attempt in latest if of == workflow_id}
            self._record.known.setdefault(claim.key, attempts)
            for step_id, output in histories[workflow_id].steps.items():
                lasting_invariant.generations_are_apart(self._record, claim, step_id, output)
        return histories

    @override
    async def renew(self, claims: Sequence[Claim], now: datetime, lease: timedelta) -> list[Claim]:
        lost = await super().renew(claims, now, lease)
        for claim in claims:
            if claim not in lost:
                invariant.only_owners_renew_a_lease(self._record, claim)
        return lost

    @override
    async def save_step(self, claim: Claim, step_id: str, output: Any, now: datetime) -> Any:
        stored = await super().save_step(claim, step_id, output, now)
        self._note_record(claim, f"step {step_id}", stored)
        self._check_child(claim, step_id, stored, None)
        return stored

    @override
    async def save_nap(
        self, claim: Claim, nap_id: str, wake_up_at: datetime, now: datetime
    ) -> datetime:
        stored = await super().save_nap(claim, nap_id, wake_up_at, now)
        self._note_record(claim, f"nap {nap_id}", stored)
        return stored

    @override
    async def transact(
        self,
        claim: Claim,
        step_id: str,
        fn: Callable[[Any], Awaitable[Any]],
        now: Callable[[], datetime],
    ) -> Any:
        stored = await super().transact(claim, step_id, fn, now)
        self._note_record(claim, f"step {step_id}", stored)
        return stored

    @override
    async def save_attempt(self, claim: Claim, attempt: Attempt) -> Attempt:
        stored = await super().save_attempt(claim, attempt)
        if stored.error == WAITING:
            what = f"attempt of {stored.step_id} to receive, round {stored.round}"
            self._note_record(claim, what, stored.retry_at)
            wait = (claim.workflow_id, stored.step_id, stored.round)
            self._record.waits[wait] = stored.retry_at
            return stored
        invariant.policies_give_up_at_once(self._record, attempt)
        invariant.aborts_are_no_attempts(self._record, attempt)
        what = f"attempt {stored.number} of step {stored.step_id}, round {stored.round}"
        self._note_record(claim, what, stored)
        self._record.attempts[claim.workflow_id, stored.step_id] = stored
        self._record.known.setdefault(claim.key, {})[stored.step_id] = stored
        return stored

    @override
    async def fail_step(self, claim: Claim, failed: FailedStep) -> None:
        await super().fail_step(claim, failed)
        self._record.note(f"fail_step {claim.workflow_id} {failed.step_id} by claim {claim.number}")
        self._record.given_up.add((claim.workflow_id, failed.step_id))
        self._check_child(claim, failed.step_id, None, failed)
