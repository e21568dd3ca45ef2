"""Workflows in memory that start over."""

from __future__ import annotations

from collections.abc import Collection
from datetime import datetime
from typing import Any

from typing_extensions import override

from bluestreak_core.model import Claim
from bluestreak_core.store import SupportsRestart
from bluestreak_memory.parts import Parts


class Restarting(Parts, SupportsRestart):
    """Forgets what a workflow has recorded; a part of `MemoryStore`."""

    @override
    async def restart(
        self, claim: Claim, input: Any, received: Collection[str], now: datetime
    ) -> None:
        what = f"input of workflow {claim.workflow_id!r}"
        value, size = self._copies.rules.round_trip(input, what)
        self._workflows.restart(claim, value, size, received, now)
