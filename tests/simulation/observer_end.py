"""How claims and workflows end, and what their relatives are told."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from datetime import datetime
from typing import Any

from typing_extensions import override

from bluestreak_core import (
    Claim,
    ErrorRecord,
    Failure,
)
from bluestreak_core.machine import Transition
from bluestreak_core.model import (
    Published,
    Standing,
)
from tests.simulation import (
    child_invariant,
    compensation_invariant,
    lasting_invariant,
)
from tests.simulation import store_invariant as invariant
from tests.simulation.observation import Observation


class Ends(Observation):
    """How claims and workflows end, and what their relatives are told."""

    @override
    async def park(self, claim: Claim, wake_up_at: datetime) -> None:
        await self._end("park", claim, lambda: super(Ends, self).park(claim, wake_up_at))

    @override
    async def release(self, claim: Claim, now: datetime) -> None:
        await self._end("release", claim, lambda: super(Ends, self).release(claim, now))

    @override
    async def finish(self, claim: Claim, result: Any, now: datetime) -> None:
        await self._end("finish", claim, lambda: super(Ends, self).finish(claim, result, now))
        parent = claim.workflow.parent
        for found in () if parent is None else self._stored(parent.workflow_id):
            if not found.unsettled:
                child_invariant.children_do_not_outlive_their_parent(
                    self._record, claim.workflow, found
                )

    @override
    async def fail(self, claim: Claim, failure: Failure, now: datetime) -> None:
        invariant.aborts_are_not_retried(self._record, claim, failure)
        invariant.pauses_follow_their_backoff(self._record, claim, failure, now)
        await self._end("fail", claim, lambda: super(Ends, self).fail(claim, failure, now))

    @override
    async def give_up(self, claim: Claim, error: ErrorRecord, now: datetime) -> None:
        await self._end("give_up", claim, lambda: super(Ends, self).give_up(claim, error, now))

    @override
    async def postpone(self, claim: Claim, wake_up_at: datetime) -> None:
        await self._end("postpone", claim, lambda: super(Ends, self).postpone(claim, wake_up_at))

    @override
    async def end_compensated(self, claim: Claim, now: datetime) -> None:
        before = await self._found(claim.workflow_id)
        await self._end(
            "end_compensated", claim, lambda: super(Ends, self).end_compensated(claim, now)
        )
        after = await self._store.find_workflow(claim.workflow_id)
        compensation_invariant.ends_are_as_decided(self._record, before, after)

    @override
    async def hand_over(self, claim: Claim, now: datetime) -> None:
        await super().hand_over(claim, now)
        self._record.note(f"hand_over {claim.workflow_id} by claim {claim.number}")
        self._record.handed_over[claim.workflow_id] = self.clock.now()

    @override
    async def nudge(
        self, workflow_id: str, created_at: datetime | None, name: str, now: datetime
    ) -> None:
        before = await self._store.find_workflow(workflow_id)
        await super().nudge(workflow_id, created_at, name, now)
        after = await self._store.find_workflow(workflow_id)
        self._record.note(f"nudge {workflow_id}: {name}")
        if before is not None and after is not None and before.waiting_for != after.waiting_for:
            self._record.woken[workflow_id] = self.clock.now()
            invariant.moves_follow_the_table(
                self._record, workflow_id, Transition.WAKE, before, after.status
            )

    @override
    async def settle(self, seen: Standing) -> None:
        await super().settle(seen)
        self._record.note(f"settle {seen.workflow_id}")
        parent_id = None if seen.parent is None else seen.parent.workflow_id
        for parent in () if parent_id is None else self._stored(parent_id):
            self._check_awake(parent)

    @override
    async def publish(self, claim: Claim, published: Sequence[Published]) -> None:
        before = await self._found(claim.workflow_id)
        await super().publish(claim, published)
        self._record.note(f"publish {claim.workflow_id} {[value.value for value in published]}")
        after = await self._store.find_workflow(claim.workflow_id)
        lasting_invariant.published_values_do_not_go_back(self._record, before, after)

    @override
    async def restart(
        self, claim: Claim, input: Any, received: Collection[str], now: datetime
    ) -> None:
        before = await self._found(claim.workflow_id)
        await self._end(
            "restart", claim, lambda: super(Ends, self).restart(claim, input, received, now)
        )
        after = await self._found(claim.workflow_id)
        if after.generation != before.generation:
            self._record.note_restart(claim.workflow_id)
