"""The children of workflows in a store in memory."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime

from typing_extensions import override

from bluestreak_core.machine import change
from bluestreak_core.model import Claim, Standing
from bluestreak_core.store import SupportsChildren
from bluestreak_memory.parts import Parts


class Children(Parts, SupportsChildren):
    """Knows who is whose child; a part of `MemoryStore`."""

    @override
    async def adopt(self, claim: Claim) -> None:
        self._workflows.end(claim, change.adopt())

    @override
    async def find_children(
        self, workflow_id: str, created_at: datetime | None, limit: int
    ) -> Sequence[str]:
        live = self._workflows.live_children(workflow_id, created_at)
        return list(itertools.islice(live, limit))

    @override
    async def find_mail(self, workflow_id: str) -> int:
        workflow = self._workflows.find(workflow_id)
        return 0 if workflow is None else workflow.mail

    @override
    async def nudge(
        self, workflow_id: str, created_at: datetime | None, name: str, now: datetime
    ) -> None:
        self._workflows.nudge(workflow_id, created_at, name, now)

    @override
    async def find_unsettled(self, limit: int) -> Sequence[Standing]:
        workflows = (record.workflow for record in self._workflows)
        ended = (each for each in workflows if each.unsettled and each.status.ended)
        return [replace(each.standing, result=None) for each in itertools.islice(ended, limit)]

    @override
    async def settle(self, seen: Standing) -> None:
        self._workflows.settle(seen)
