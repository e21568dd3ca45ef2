"""When each workflow is due, in order."""

from __future__ import annotations

import heapq
from collections.abc import Callable
from datetime import datetime

from bluestreak_core import machine
from bluestreak_core.model import Workflow


class Agenda:
    """Finds the workflows that are due without looking at the others.

    `find` returns a workflow as it is now. An entry is obsolete once its workflow has another
    instant. It stays until it reaches the top, where it is dropped.
    """

    def __init__(self, find: Callable[[str], Workflow | None]) -> None:
        self._find = find
        self._entries: list[tuple[datetime, str]] = []

    def add(self, workflow: Workflow) -> None:
        """Note when a workflow may be claimed next."""
        heapq.heappush(self._entries, (workflow.timeout_at, workflow.workflow_id))

    def pop_due(self, now: datetime) -> Workflow | None:
        """Take out the workflow that has been due for longest."""
        while self._entries and self._entries[0][0] <= now:
            at, workflow_id = heapq.heappop(self._entries)
            workflow = self._noted(workflow_id, at)
            if workflow is not None and machine.is_due(workflow, now):
                return workflow
        return None

    def next_after(self, instant: datetime) -> datetime | None:
        """When the next nap, retry or lease ends."""
        claimable = machine.claimable()
        return min(
            (
                at
                for at, workflow_id in self._entries
                if at > instant
                and (workflow := self._noted(workflow_id, at)) is not None
                and workflow.status in claimable
            ),
            default=None,
        )

    def _noted(self, workflow_id: str, at: datetime) -> Workflow | None:
        """The workflow of an entry, unless the entry is obsolete."""
        workflow = self._find(workflow_id)
        return workflow if workflow is not None and workflow.timeout_at == at else None
