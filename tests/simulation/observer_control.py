"""What is done to workflows from outside."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from typing_extensions import override

from bluestreak_core import (
    Pruned,
    Status,
    Workflow,
)
from bluestreak_core.machine import Transition
from tests.simulation import (
    child_invariant,
)
from tests.simulation import store_invariant as invariant
from tests.simulation.observation import Observation


class Orders(Observation):
    """What is done to workflows from outside."""

    @override
    async def control(
        self, workflow_id: str, event: Transition, now: datetime, reason: str | None = None
    ) -> None:
        record = self._record
        before = await self._store.find_workflow(workflow_id)
        try:
            await super().control(workflow_id, event, now, reason)
        except Exception as refusal:
            record.note(f"{event} {workflow_id} -> {refusal}")
            unchanged = await self._store.find_workflow(workflow_id)
            invariant.refusals_change_nothing(record, workflow_id, event, before, unchanged)
            raise
        record.note(f"{event} {workflow_id}")
        after = await self._found(workflow_id)
        child_invariant.abandoned_children_are_left_alone(record, after, reason)
        moved = _carried_out(event, after)
        invariant.moves_follow_the_table(record, workflow_id, moved, before, after.status)
        self._note_order(
            after, event, was_running=before is not None and before.status is Status.RUNNING
        )

    @override
    async def control_in(
        self,
        session: Any,
        workflow_id: str,
        event: Transition,
        now: datetime,
        reason: str | None = None,
    ) -> None:
        stored = await self._store.find_workflow(workflow_id)
        before: list[Workflow] = []
        session.after_commit(lambda: before.extend(self._stored(workflow_id)))
        try:
            await super().control_in(session, workflow_id, event, now, reason)
        except Exception as refusal:
            self._record.note(f"{event} {workflow_id} in a transaction -> {refusal}")
            raise
        finally:
            await self._check_isolated(workflow_id, stored)
        self._record.note(f"{event} {workflow_id} in a transaction")
        self._record.written[session][workflow_id] = event
        session.after_commit(lambda: self._note_commit(before[0], event))

    def _note_commit(self, before: Workflow, event: Transition) -> None:
        (after,) = self._stored(before.workflow_id)
        self._record.note(f"commit {event} {after.workflow_id}")
        moved = _carried_out(event, after)
        invariant.moves_follow_the_table(
            self._record, after.workflow_id, moved, before, after.status
        )
        self._note_order(after, event, was_running=before.status is Status.RUNNING)

    def _note_order(self, workflow: Workflow, event: Transition, *, was_running: bool) -> None:
        record, workflow_id, now = self._record, workflow.workflow_id, self.clock.now()
        self._note_end(workflow)
        record.orders[workflow_id].append((now, event))
        if was_running:
            record.taken[record.newest[workflow_id].key] = now
        if event is Transition.RETRY:
            record.given_up = {key for key in record.given_up if key[0] != workflow_id}

    @override
    async def prune(
        self, ended_before: datetime, statuses: Collection[Status], limit: int, now: datetime
    ) -> Pruned:
        record = self._record
        before = {
            workflow_id: await self._found(workflow_id)
            for workflow_id in sorted(record.created - record.expired)
        }
        pruned = await super().prune(ended_before, statuses, limit, now)
        for workflow_id, workflow in before.items():
            if await self._store.find_workflow(workflow_id) is None:
                record.note(f"prune {workflow_id}")
                record.expired.add(workflow_id)
                invariant.expiry_waits_long_enough(record, workflow, now)
        return pruned


def _carried_out(event: Transition, after: Workflow) -> Transition:
    """What was done where `event` was asked for."""
    is_stop = event is Transition.CANCEL and after.status is Status.STOPPING
    return Transition.STOP if is_stop else event
