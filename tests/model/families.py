"""What the reference does for parents and children, and with what has ended for good."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from bluestreak_core import machine
from bluestreak_core.machine import Transition
from bluestreak_core.model import Claim, Parent, Standing, Status
from bluestreak_core.store import Pruned
from tests.model.state import State


class Families(State):
    """The calls of `SupportsChildren` and `SupportsPruning`."""

    def adopt(self, claim: Claim) -> None:
        self._put(machine.adopt(self._held(claim)))

    def find_children(
        self, workflow_id: str, created_at: datetime | None, limit: int
    ) -> Sequence[str]:
        ours = Parent(workflow_id=workflow_id, created_at=created_at)
        return [
            child.workflow_id
            for child in self.workflows.values()
            if child.parent == ours and child.status in machine.sources(Transition.CANCEL)
        ][:limit]

    def find_mail(self, workflow_id: str) -> int:
        workflow = self.workflows.get(workflow_id)
        return 0 if workflow is None else workflow.mail

    def nudge(
        self, workflow_id: str, created_at: datetime | None, name: str, now: datetime
    ) -> None:
        workflow = self.workflows.get(workflow_id)
        if workflow is None or workflow.created_at != created_at:
            return
        if workflow.status is not Status.FINISHED:
            self._put(machine.deliver(workflow, [name], now))

    def find_unsettled(self, limit: int) -> Sequence[Standing]:
        return [
            replace(workflow.standing, result=None)
            for workflow in self.workflows.values()
            if workflow.unsettled and workflow.status.ended
        ][:limit]

    def settle(self, seen: Standing) -> None:
        workflow = self.workflows.get(seen.workflow_id)
        if workflow is not None and machine.is_settled_by(workflow, seen):
            self._put(machine.settle(workflow))

    def prune(
        self, ended_before: datetime, statuses: Collection[Status], limit: int, now: datetime
    ) -> Pruned:
        over = [
            workflow.workflow_id
            for workflow in self.workflows.values()
            if workflow.status in statuses
            and not workflow.unsettled
            and workflow.timeout_at < ended_before
        ][:limit]
        for workflow_id in over:
            self._forget(workflow_id)
            del self.workflows[workflow_id]
            for key in [key for key in self.messages if key[0] == workflow_id]:
                del self.messages[key]
                self.forgotten.discard(key)
        return Pruned(workflows=len(over))
