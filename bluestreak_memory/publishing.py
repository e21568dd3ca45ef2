"""What workflows in memory publish."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from typing_extensions import override

from bluestreak_core import machine
from bluestreak_core.model import Claim, Published
from bluestreak_core.store import SupportsPublishing, ValueRules
from bluestreak_memory.parts import Parts


class Publishing(Parts, SupportsPublishing):
    """Keeps the values that workflows publish; a part of `MemoryStore`."""

    @override
    def value_rules(self) -> ValueRules:
        return self._copies.rules

    @override
    async def publish(self, claim: Claim, published: Sequence[Published]) -> None:
        what = f"published value of workflow {claim.workflow_id!r}"
        stored = tuple(
            replace(latest, value=self._copies.to_stored(latest.value, what))
            for latest in published
        )
        record = self._workflows.in_force(claim)
        record.workflow = machine.publish(record.workflow, stored)
