"""How workflows in memory compensate."""

from __future__ import annotations

from datetime import datetime

from typing_extensions import override

from bluestreak_core import machine
from bluestreak_core.machine import change
from bluestreak_core.model import Claim, ErrorRecord
from bluestreak_core.store import SupportsCompensation
from bluestreak_memory.parts import Parts


class Compensations(Parts, SupportsCompensation):
    """Moves workflows that compensate; a part of `MemoryStore`."""

    @override
    async def promise(self, claim: Claim) -> None:
        record = self._workflows.in_force(claim)
        record.workflow = machine.promise(record.workflow)

    @override
    async def give_up(self, claim: Claim, error: ErrorRecord, now: datetime) -> None:
        self._workflows.end(claim, change.give_up(error, now))

    @override
    async def hand_over(self, claim: Claim, now: datetime) -> None:
        workflow = self._workflows.find(claim.workflow_id)
        if workflow is not None and machine.was_taken(workflow, claim):
            self._workflows.put(machine.hand_over(workflow, now))

    @override
    async def postpone(self, claim: Claim, wake_up_at: datetime) -> None:
        self._workflows.end(claim, change.postpone(wake_up_at))

    @override
    async def end_compensated(self, claim: Claim, now: datetime) -> None:
        self._workflows.end(claim, change.end_compensated(claim.workflow.outcome, now))
