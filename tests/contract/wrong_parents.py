"""Stores that break one rule each about children."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import replace
from datetime import datetime

from typing_extensions import override

from bluestreak_core import Claim, NewWorkflow, OnParentEnd, Pruned, Standing, Status, machine
from bluestreak_memory import MemoryStore


class ForgetsTheParent(MemoryStore):
    @override
    async def create(self, new: NewWorkflow) -> bool:
        return await super().create(replace(new, parent=None))


class FindsChildrenThatAreToGoOn(MemoryStore):
    @override
    async def find_children(
        self, workflow_id: str, created_at: datetime | None, limit: int
    ) -> Sequence[str]:
        left = [
            record.workflow.workflow_id
            for record in self._workflows
            if (parent := record.workflow.parent) is not None
            and (parent.workflow_id, parent.created_at) == (workflow_id, created_at)
            and parent.on_end is OnParentEnd.ABANDON
        ]
        return [*left, *await super().find_children(workflow_id, created_at, limit)][:limit]


class FindsTheChildrenOfFormerParents(MemoryStore):
    @override
    async def find_children(
        self, workflow_id: str, created_at: datetime | None, limit: int
    ) -> Sequence[str]:
        every = {
            record.workflow.parent.created_at
            for record in self._workflows
            if record.workflow.parent is not None
        }
        found = [
            child
            for instant in every
            for child in await super(FindsTheChildrenOfFormerParents, self).find_children(
                workflow_id, instant, limit
            )
        ]
        return found[:limit]


class LetsAStaleCallerHaveChildren(MemoryStore):
    @override
    async def adopt(self, claim: Claim) -> None:
        record = self._workflows.existing(claim.workflow_id)
        record.workflow = machine.adopt(record.workflow)


class ForgetsWhatIsUnsettledInEachClaim(MemoryStore):
    @override
    async def park(self, claim: Claim, wake_up_at: datetime) -> None:
        await super().park(claim, wake_up_at)
        record = self._workflows.existing(claim.workflow_id)
        record.workflow = machine.settle(record.workflow)


class NudgesWithoutWaking(MemoryStore):
    @override
    async def nudge(
        self, workflow_id: str, created_at: datetime | None, name: str, now: datetime
    ) -> None:
        await super().nudge(workflow_id, created_at, "of no interest", now)


class WakesWithoutCounting(MemoryStore):
    @override
    async def nudge(
        self, workflow_id: str, created_at: datetime | None, name: str, now: datetime
    ) -> None:
        before = await self.find_mail(workflow_id)
        await super().nudge(workflow_id, created_at, name, now)
        if (record := self._workflows.get(workflow_id)) is not None:
            record.workflow = replace(record.workflow, mail=before)


class NudgesWhoeverHasTheId(MemoryStore):
    @override
    async def nudge(
        self, workflow_id: str, created_at: datetime | None, name: str, now: datetime
    ) -> None:
        if (workflow := self._workflows.find(workflow_id)) is not None:
            await super().nudge(workflow_id, workflow.created_at, name, now)


class FindsWhatHasNotEnded(MemoryStore):
    @override
    async def find_unsettled(self, limit: int) -> Sequence[Standing]:
        workflows = (record.workflow for record in self._workflows)
        return [each.standing for each in workflows if each.unsettled][:limit]


class SettlesAnyEnd(MemoryStore):
    @override
    async def settle(self, seen: Standing) -> None:
        record = self._workflows.get(seen.workflow_id)
        if record is not None and record.workflow.status.ended:
            record.workflow = machine.settle(record.workflow)


class SettlesWhatHasNotEnded(MemoryStore):
    @override
    async def settle(self, seen: Standing) -> None:
        if (record := self._workflows.get(seen.workflow_id)) is not None:
            record.workflow = machine.settle(record.workflow)


class DeletesWhatIsUnsettled(MemoryStore):
    @override
    async def prune(
        self, ended_before: datetime, statuses: Collection[Status], limit: int, now: datetime
    ) -> Pruned:
        for record in list(self._workflows):
            record.workflow = machine.settle(record.workflow)
        return await super().prune(ended_before, statuses, limit, now)
